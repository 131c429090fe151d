//go:build linux

package handoff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// kind is that of a message.
type kind uint8

const (
	kindHello kind = 1 + iota
	kindOffer
	kindRefuse
	kindPrepared
	kindEarly
	kindFollow
	kindListener
	kindStore
	kindWill
	kindConns
	kindEnd
	kindReady
	kindGo
	kindTook
	kindUp
	kindAbort
	kindCount
)

var kinds = [kindCount]string{kindHello: "hello", kindOffer: "offer", kindRefuse: "refuse", kindPrepared: "prepared", kindEarly: "early", kindFollow: "follow", kindListener: "listener",
	kindStore: "store", kindWill: "will", kindConns: "conns", kindEnd: "end", kindReady: "ready", kindGo: "go", kindTook: "took", kindUp: "up", kindAbort: "abort"}

func (k kind) String() string {
	if k < kindCount && kinds[k] != "" {
		return kinds[k]
	}
	return fmt.Sprintf("message %d", uint8(k))
}

const (
	headSize   = 6         // kind, number of descriptors, length of the body
	maxBody    = 1 << 30   // bytes
	maxFDs     = 253       // SCM_RIGHTS takes no more
	pieceSize  = 256 << 10 // bytes of a body read at a time: a length alone reserves nothing
	oobMessage = 4 * maxFDs
)

// message is one of either side. Its descriptors are the receiver's, its body until the next one
// is received.
type message struct {
	kind kind
	body []byte
	fds  []int
}

// link is one end of the socket. Sending is for any goroutine, receiving for one.
type link struct {
	conn *net.UnixConn
	mu   sync.Mutex // held while a message is written
	body []byte     // of the message received last
}

// deadline bounds what is sent and received from now on; 0 lifts the bound.
func (l *link) deadline(d time.Duration) {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = l.conn.SetDeadline(at)
}

// send writes a message. Descriptors stay the sender's.
func (l *link) send(k kind, body []byte, fds ...int) error {
	if len(body) > maxBody || len(fds) > maxFDs {
		return fmt.Errorf("handoff: %s of %d B and %d descriptors is too large", k, len(body), len(fds))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var head [headSize]byte
	head[0], head[1] = byte(k), byte(len(fds))
	binary.BigEndian.PutUint32(head[2:], uint32(len(body)))
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	n, _, err := l.conn.WriteMsgUnix(head[:], oob, nil)
	for err == nil && n < headSize {
		var more int
		more, err = l.conn.Write(head[n:])
		n += more
	}
	if err == nil && len(body) > 0 { // the other process may have read the head, and ended
		_, err = l.conn.Write(body)
	}
	if err != nil {
		return fmt.Errorf("handoff: send %s: %w", k, err)
	}
	return nil
}

// receive reads the next message. io.EOF is the end of the stream between two messages.
func (l *link) receive() (m message, err error) {
	var head [headSize]byte
	oob := make([]byte, syscall.CmsgSpace(oobMessage))
	defer func() {
		if err != nil {
			closeAll(m.fds)
			m.fds = nil
		}
	}()
	for n := 0; n < headSize; {
		got, oobn, flags, _, err := l.conn.ReadMsgUnix(head[n:], oob)
		if oobn > 0 {
			fds, ferr := rights(oob[:oobn])
			m.fds = append(m.fds, fds...)
			if ferr == nil && flags&syscall.MSG_CTRUNC != 0 {
				ferr = errors.New("this process has no descriptors left")
			}
			if ferr != nil {
				return m, fmt.Errorf("handoff: receive descriptors: %w", ferr)
			}
		}
		switch {
		case errors.Is(err, io.EOF) || err == nil && got == 0:
			if n == 0 {
				return m, io.EOF
			}
			return m, io.ErrUnexpectedEOF
		case err != nil:
			return m, fmt.Errorf("handoff: receive: %w", err)
		}
		n += got
	}
	m.kind = kind(head[0])
	size := binary.BigEndian.Uint32(head[2:])
	switch {
	case size > maxBody:
		return m, fmt.Errorf("handoff: %s of %d B is too large", m.kind, size)
	case int(head[1]) != len(m.fds):
		return m, fmt.Errorf("handoff: %s came with %d descriptors, %d were sent", m.kind, len(m.fds), head[1])
	}
	m.body = l.body[:0]
	for left := int(size); left > 0; {
		piece := min(left, pieceSize)
		at := len(m.body)
		m.body = slices.Grow(m.body, piece)[:at+piece]
		if _, err := io.ReadFull(l.conn, m.body[at:]); err != nil {
			return m, fmt.Errorf("handoff: receive %s: %w", m.kind, io.ErrUnexpectedEOF)
		}
		left -= piece
	}
	l.body = m.body
	return m, nil
}

func rights(oob []byte) (fds []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		more, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // something else
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}
