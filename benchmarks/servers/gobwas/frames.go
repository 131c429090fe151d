package main

import (
	"bytes"
	"errors"
	"io"

	"github.com/gobwas/ws"

	"roost/benchmarks/internal/peer"
)

var (
	errFrame = errors.New("gobwas: a frame this server does not take")
	errSend  = errors.New("gobwas: connection lost or too far behind")
	errClose = errors.New("gobwas: closed by the client")
)

// request stands in for the socket while ws.Upgrader works: it reads a head that is whole already,
// and gathers the reply.
type request struct {
	in  bytes.Reader
	out []byte
	uri []byte
}

func (r *request) Read(p []byte) (int, error)  { return r.in.Read(p) }
func (r *request) Write(p []byte) (int, error) { r.out = append(r.out, p...); return len(p), nil }

// take handles the head or frame at the start of data and returns the bytes used, 0 when it is not
// whole yet. Any error means that the connection is to be closed.
func (l *loop) take(c *conn, data []byte) (int, error) {
	if !c.upgraded {
		return l.upgrade(c, data)
	}
	l.request.in.Reset(data)
	header, err := ws.ReadHeader(&l.request.in)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return 0, nil
	}
	if err != nil || !header.Masked || !header.Fin || header.Rsv != 0 || header.Length > readBuffer-ws.MaxHeaderSize {
		return 0, errFrame
	}
	start := len(data) - l.request.in.Len()
	end := start + int(header.Length)
	if end > len(data) {
		return 0, nil
	}
	payload := data[start:end]
	ws.Cipher(payload, header.Mask, 0)
	return end, l.answer(c, header.OpCode, payload)
}

func (l *loop) upgrade(c *conn, data []byte) (int, error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > headLimit {
			return 0, errFrame
		}
		return 0, nil
	}
	r := &l.request
	r.in.Reset(data[:end+4])
	r.out = r.out[:0]
	upgrader := ws.Upgrader{OnRequest: func(uri []byte) error {
		r.uri = append(r.uri[:0], uri...)
		return nil
	}}
	if _, err := upgrader.Upgrade(r); err != nil {
		return 0, err
	}
	c.upgraded = true
	if string(r.uri) == peer.Broadcast {
		c.member = int32(len(l.members))
		l.members = append(l.members, c)
	}
	if !l.send(c, r.out) {
		return 0, errSend
	}
	return end + 4, nil
}

func (l *loop) answer(c *conn, opcode ws.OpCode, payload []byte) error {
	switch opcode {
	case ws.OpText, ws.OpBinary:
		if c.member >= 0 {
			return l.broadcast(c, opcode, payload)
		}
	case ws.OpPing:
		opcode = ws.OpPong
	case ws.OpPong:
		return nil
	case ws.OpClose:
	default:
		return errFrame
	}
	if !l.send(c, l.frame(opcode, payload)) {
		return errSend
	}
	if opcode == ws.OpClose {
		return errClose
	}
	return nil
}

// frame encodes into a buffer that is valid until the next call.
func (l *loop) frame(opcode ws.OpCode, payload []byte) []byte {
	r := &l.request
	r.out = r.out[:0]
	_ = ws.WriteHeader(r, ws.Header{Fin: true, OpCode: opcode, Length: int64(len(payload))}) // to memory
	r.out = append(r.out, payload...)
	return r.out
}

func (l *loop) broadcast(from *conn, opcode ws.OpCode, payload []byte) error {
	frame := l.frame(opcode, payload)
	var lost error
	// Backwards, as a close moves the last member into the gap.
	for i := len(l.members) - 1; i >= 0; i-- {
		switch c := l.members[i]; {
		case l.send(c, frame):
		case c == from:
			lost = errSend // the caller is still at work on it, and closes it
		default:
			l.close(c)
		}
	}
	return lost
}
