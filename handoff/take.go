//go:build linux

package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Take takes over from the process that listens on a socket. When it returns nil everything is
// this process's and has begun. Errors: ErrNobody, ErrRefused, ErrAborted, and what went wrong
// here: then the old process goes on, and this one must end without touching anything that it
// was given.
func Take(path string, hello Hello, n New) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w: %w", ErrNobody, err)
		}
		return fmt.Errorf("handoff: %w", err)
	}
	defer c.Close()
	if _, err := checkPeer(c); err != nil {
		return err
	}
	l := &link{conn: c}
	Fault("new hello")
	l.deadline(helloTime)
	hello.Version = Version
	if err := l.sendJSON(kindHello, hello); err != nil {
		return err
	}
	m, err := l.expect(kindOffer)
	if err != nil {
		return err
	}
	var offer Offer
	if err := json.Unmarshal(m.body, &offer); err != nil {
		return fmt.Errorf("handoff: offer: %w", err)
	}
	l.deadline(0) // the old process gives up, or dies, and both end the stream
	Fault("new prepare")
	if err := n.Prepare(offer); err != nil {
		return err
	}
	Fault("new prepared")
	if err := l.send(kindPrepared, nil); err != nil {
		return err
	}
	end, err := receiveAll(l, n)
	if err != nil {
		return err
	}
	Fault("new ready")
	if err := l.send(kindReady, nil); err != nil && !orphaned(err) {
		return err
	}
	Fault("new go")
	if err := awaitGo(l); err != nil {
		return err
	}
	Fault("new took")
	if err := l.send(kindTook, nil); err != nil && !orphaned(err) {
		return err
	}
	Fault("new begin")
	if err := n.Begin(end); err != nil {
		return err
	}
	Fault("new up")
	_ = l.send(kindUp, nil) // nobody may be left to hear it
	return nil
}

// awaitGo returns nil when everything is this process's.
func awaitGo(l *link) error {
	m, err := l.receive()
	switch {
	case orphaned(err):
		return nil // the old process died, after it had given us all
	case err != nil:
		return err
	case m.kind == kindGo:
		return nil
	case m.kind == kindAbort:
		return fmt.Errorf("%w: %s", ErrAborted, m.body)
	}
	return fmt.Errorf("handoff: got %s, want %s", m.kind, kindGo)
}

// orphaned tells whether an error says that the other process has ended.
func orphaned(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// receiveAll takes in all that is handed over.
func receiveAll(l *link, n New) (end End, err error) {
	opened := make(chan error, 1)
	opening := false
	for {
		m, err := l.receive()
		if errors.Is(err, io.EOF) {
			return end, errors.New("handoff: the old process ended before it had handed everything over")
		}
		if err != nil {
			return end, err
		}
		Fault("new " + m.kind.String())
		switch m.kind {
		case kindEarly:
			if err = n.Early(m.body); !opening {
				opening = true
				opened <- nil
			}
		case kindFollow:
			n.Settle()
			err = l.send(kindFollow, nil)
		case kindListener:
			err = n.Listener(Listener{Name: string(m.body), FDs: m.fds})
		case kindStore:
			if opening {
				return end, errors.New("handoff: the store came twice")
			}
			opening = true
			store := m.body
			l.body = nil
			go func() { opened <- n.Open(store) }()
		case kindWill:
			err = n.Inherit(m.body)
		case kindConns:
			err = n.Restore(m.body, m.fds)
		case kindEnd:
			if !opening {
				return end, errors.New("handoff: there was no store")
			}
			if err := json.Unmarshal(m.body, &end); err != nil {
				return end, fmt.Errorf("handoff: end: %w", err)
			}
			return end, <-opened
		case kindAbort:
			return end, fmt.Errorf("%w: %s", ErrAborted, m.body)
		default:
			closeAll(m.fds)
			return end, fmt.Errorf("handoff: unexpected %s", m.kind)
		}
		if err != nil {
			return end, err
		}
	}
}
