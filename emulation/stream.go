package emulation

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"

	"roost/gateway"
	"roost/proto/client"
	"roost/proto/ws"
)

const (
	chunkSize  = 4 << 10 // bytes that are passed on at a time
	maxWaiting = 32      // requests of a session that wait to hand over commands
)

// stream is one client.
type stream struct {
	// Static after open.
	server  *Server
	session *gateway.Emulated
	binary  bool     // Protobuf
	events  bool     // server-sent events
	pair    net.Conn // a WebSocket of the gateway
	in      *bufio.Reader
	out     http.ResponseWriter
	control *http.ResponseController
	writing sync.Mutex // frames to pair come one after the other

	waiting atomic.Int32 // for writing
}

// sse serves a stream of server-sent events: GET with the connect command in the query.
func (s *Server) sse(w http.ResponseWriter, r *http.Request) {
	first := []byte(r.URL.Query().Get("cf_connect"))
	if len(first) == 0 {
		s.refuse(w, refusal(http.StatusBadRequest, "malformed", "the query has no cf_connect with the connect command"))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	s.serve(w, r, &stream{server: s, events: true}, gateway.TransportSSE, first)
}

// httpStream serves a stream of messages, one by line or each with its length before it:
// POST with the connect command as its body.
func (s *Server) httpStream(w http.ResponseWriter, r *http.Request) {
	first, he := s.body(w, r, s.opts.MaxMessage)
	if he == nil && len(first) == 0 {
		he = refusal(http.StatusBadRequest, "malformed", "the body is empty, must be the connect command")
	}
	if he != nil {
		s.refuse(w, he)
		return
	}
	st := &stream{server: s, binary: isProtobuf(r)}
	w.Header().Set("Content-Type", "application/json")
	if st.binary {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	s.serve(w, r, st, gateway.TransportHTTPStream, first)
}

func (s *Server) refuse(w http.ResponseWriter, he *ws.HandshakeError) {
	s.counts.refused.Add(he.Label)
	answer(w, he)
}

// serve is a client's life.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, st *stream, transport string, first []byte) {
	defer s.streams.Add(-1)
	if s.streams.Add(1) > int64(s.opts.MaxClients) {
		s.refuse(w, refusal(http.StatusServiceUnavailable, "full", "there are %d clients by SSE and HTTP streaming, which is all there may be", s.opts.MaxClients))
		return
	}
	st.out, st.control = w, http.NewResponseController(w)
	he := st.open(r, transport)
	if st.pair != nil {
		defer st.end()
		defer context.AfterFunc(r.Context(), func() { _ = st.pair.Close() })()
	}
	if he == nil && st.deliver(first) != nil {
		he = refusal(http.StatusServiceUnavailable, "no_room", "the connection was not accepted")
	}
	if he != nil {
		s.refuse(w, he)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would wait for more
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	if st.control.Flush() != nil {
		return
	}
	err := st.run()
	_ = st.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // for the end of the response
	if err != nil && r.Context().Err() == nil {
		s.opts.Logger.Debug("a stream ended", "transport", transport, "remote", r.RemoteAddr, "error", err)
	}
}

func (st *stream) end() {
	st.session.End()
	_ = st.pair.Close()
}

// deliver hands the commands of one request to the session, as a frame. Any goroutine.
func (st *stream) deliver(data []byte) error {
	if st.waiting.Add(1) > maxWaiting {
		st.waiting.Add(-1)
		return gateway.ErrSessionBusy
	}
	st.writing.Lock()
	defer func() {
		st.writing.Unlock()
		st.waiting.Add(-1)
	}()
	op := ws.OpText
	if st.binary {
		op = ws.OpBinary
	}
	// Masks keep what stands between client and server from being deceived. Here is nothing.
	return st.write(ws.AppendMaskedFrame(nil, op, [4]byte{}, data))
}

// write is for who holds writing.
func (st *stream) write(frame []byte) error {
	_ = st.pair.SetWriteDeadline(time.Now().Add(postTimeout))
	_, err := st.pair.Write(frame)
	if err == nil {
		return nil
	}
	_ = st.pair.Close() // a part of a frame may be there
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return gateway.ErrSessionBusy
	}
	return gateway.ErrSessionEnded
}

// run passes on frames until the connection ends.
func (st *stream) run() error {
	for {
		op, length, err := st.header()
		if err != nil {
			return err
		}
		switch op {
		case ws.OpText, ws.OpBinary:
			err = st.message(length)
		case ws.OpClose:
			return st.close(length)
		default:
			err = fmt.Errorf("emulation: frame of opcode %d", op)
		}
		if err == nil && st.in.Buffered() == 0 {
			err = st.control.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// header reads that of the next frame, which has FIN and no mask.
func (st *stream) header() (op ws.Opcode, length uint64, err error) {
	var b [8]byte
	if _, err := io.ReadFull(st.in, b[:2]); err != nil {
		return 0, 0, err
	}
	op, length = ws.Opcode(b[0]&0x0f), uint64(b[1])
	switch length {
	case 126:
		_, err = io.ReadFull(st.in, b[6:])
	case 127:
		_, err = io.ReadFull(st.in, b[:])
	default:
		return op, length, nil
	}
	if length == 126 {
		clear(b[:6])
	}
	return op, binary.BigEndian.Uint64(b[:]), err
}

// message passes on the payload of a frame, which holds one or more messages.
func (st *stream) message(length uint64) error {
	if st.events {
		if err := st.put(eventStart); err != nil {
			return err
		}
	}
	for length > 0 {
		if _, err := st.in.Peek(1); err != nil {
			return err
		}
		b, _ := st.in.Peek(int(min(length, uint64(st.in.Buffered()))))
		if err := st.part(b); err != nil {
			return err
		}
		length -= uint64(len(b))
		_, _ = st.in.Discard(len(b))
	}
	switch {
	case st.events:
		return st.put(eventEnd)
	case st.binary: // has its lengths
		return nil
	}
	return st.put(lineEnd)
}

var (
	eventStart = []byte("data: ")
	eventEnd   = []byte("\n\n")
	nextEvent  = []byte("\n\ndata: ")
	lineEnd    = []byte("\n")
)

// part passes on a part of a payload, which it may change. A line of it is a message,
// and an event of its own.
func (st *stream) part(b []byte) error {
	if !st.events {
		return st.put(b)
	}
	for i, c := range b {
		if c == '\r' { // between tokens of JSON a blank is as good, and does not end a line
			b[i] = ' '
		}
	}
	for {
		line, rest, more := bytes.Cut(b, lineEnd)
		if err := st.put(line); err != nil || !more {
			return err
		}
		if err := st.put(nextEvent); err != nil {
			return err
		}
		b = rest
	}
}

// put writes to the client, which has writeTimeout for it.
func (st *stream) put(b []byte) error {
	_ = st.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := st.out.Write(b)
	return err
}

// close tells the client what the close frame tells clients with a WebSocket.
func (st *stream) close(length uint64) error {
	b := make([]byte, min(length, ws.MaxControlPayload))
	if _, err := io.ReadFull(st.in, b); err != nil {
		return err
	}
	d := client.DisconnectConnectionClosed
	if len(b) >= 2 {
		d = disconnect(ws.CloseCode(binary.BigEndian.Uint16(b)), string(b[2:]))
	}
	enc := client.JSON
	if st.binary {
		enc = client.Protobuf
	}
	b, err := client.AppendPush(nil, enc, &protocol.Push{Disconnect: &protocol.Disconnect{Code: d.Code, Reason: d.Reason}})
	if err != nil {
		return err
	}
	st.in.Reset(bytes.NewReader(b))
	return st.message(uint64(len(b)))
}

// disconnect is what the protocol of clients calls a close. Codes of WebSockets say
// nothing to it.
func disconnect(code ws.CloseCode, reason string) client.Disconnect {
	switch {
	case code >= 3000:
		return client.Disconnect{Code: uint32(code), Reason: reason}
	case code == ws.CloseGoingAway:
		return client.DisconnectShutdown
	case code == ws.ClosePolicy:
		return client.DisconnectTooManyRequests
	case code == ws.CloseInternal:
		return client.DisconnectServerError
	}
	return client.DisconnectConnectionClosed
}
