//go:build linux

package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Socket is where a process can be taken over.
type Socket struct {
	// Static.
	path string
	ln   *net.UnixListener
	file os.FileInfo // what path was when it was made
	old  Old
	log  *slog.Logger
	done sync.WaitGroup

	mu     sync.Mutex
	closed bool
	given  chan struct{} // closed when another process has taken over
}

// Listen lets another process of the same user take over, by a socket that nobody else may
// use. A socket of a process that has died is replaced; one of a process that is there is an
// error.
func Listen(path string, old Old, log *slog.Logger) (*Socket, error) {
	ln, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("handoff: socket %s: %w", path, err)
	}
	s := &Socket{path: path, ln: ln, old: old, log: log, given: make(chan struct{})}
	if s.file, err = os.Lstat(path); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("handoff: socket %s: %w", path, err)
	}
	s.done.Go(s.serve)
	return s, nil
}

// listenUnix makes the socket under another name first, so that it never exists with other
// permissions, and never disappears while it is replaced.
func listenUnix(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, errors.New("another process listens there")
	}
	next := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(next)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err = os.Chmod(next, 0o600); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Given is closed when another process has taken over.
func (s *Socket) Given() <-chan struct{} { return s.given }

// Close ends the socket. A takeover that is under way is waited for.
func (s *Socket) Close() {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	if !was {
		s.remove()
	}
	s.mu.Unlock()
	if was {
		return
	}
	_ = s.ln.Close()
	s.done.Wait()
}

// remove takes the file away while the socket still listens: as soon as it does not, the file may be the next
// process's, also between a look at it and its removal. Under mu.
func (s *Socket) remove() {
	select {
	case <-s.given:
		return
	default:
	}
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
}

// serve lets one process after the other try.
func (s *Socket) serve() {
	for {
		c, err := s.ln.AcceptUnix()
		if err != nil {
			return
		}
		l := &link{conn: c}
		err = s.give(l)
		_ = c.Close()
		if err == nil {
			s.mu.Lock()
			close(s.given)
			_ = s.ln.Close() // the new process makes its own
			s.mu.Unlock()
			return
		}
		s.log.Warn("a takeover failed, this process goes on", "error", err)
	}
}

// give hands everything over; after an error nothing has changed.
func (s *Socket) give(l *link) error {
	Fault("old hello")
	l.deadline(helloTime)
	pid, err := checkPeer(l.conn)
	if err != nil {
		return err
	}
	hello, err := s.hello(l)
	if err != nil {
		_ = l.send(kindRefuse, []byte(err.Error()))
		return err
	}
	s.log.Info("another process is about to take over", "pid", hello.PID, "version", hello.Program)
	Fault("old prepared")
	l.deadline(prepareTime)
	if _, err := l.expect(kindPrepared); err != nil {
		return err
	}
	early, err := s.early(l)
	if err != nil {
		l.dismiss(pid, err)
		s.old.Resume(err)
		return err
	}
	Fault("old dismiss")
	s.old.Dismiss()
	l.deadline(MoveTime)
	err = s.move(l, early)
	if err == nil {
		err = awaitTook(l, pid)
	}
	if err != nil {
		l.dismiss(pid, err) // before anything is served again
		Fault("old resume")
		s.old.Resume(err)
		return err
	}
	l.deadline(upTime)
	Fault("old up")
	if _, err = l.expect(kindUp); err != nil && !orphaned(err) {
		l.end(pid) // nobody else may have what this process is about to serve
	}
	Fault("old release")
	s.old.Release() // not before: it would take the processor from the one that begins
	if err != nil {
		s.old.Survive(err)
	}
	return err
}

// awaitTook waits until the new process has said that everything is its own. After an error it
// is dead: one that says nothing is killed.
func awaitTook(l *link, pid int) error {
	_, err := l.expect(kindTook)
	if err != nil && !orphaned(err) {
		kill(pid)
		l.deadline(0)
		_, err = l.expect(kindTook) // it may have said so just before
	}
	return err
}

// goTime is how long a process that was told to has to end.
const goTime = 2 * time.Second

// dismiss sends the new process away, and returns when it has no hold on anything any more.
func (l *link) dismiss(pid int, why error) {
	l.deadline(goTime)
	_ = l.send(kindAbort, []byte(why.Error()))
	if l.drain() != nil {
		l.end(pid)
	}
}

// end kills the new process, and returns when it has no hold on anything any more.
func (l *link) end(pid int) {
	kill(pid)
	l.deadline(goTime)
	_ = l.drain()
}

// drain receives until the other process has ended.
func (l *link) drain() error {
	for {
		m, err := l.receive()
		closeAll(m.fds)
		if orphaned(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func kill(pid int) {
	if pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (s *Socket) hello(l *link) (h Hello, err error) {
	m, err := l.expect(kindHello)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(m.body, &h); err != nil {
		return h, fmt.Errorf("handoff: hello: %w", err)
	}
	if h.Version != Version {
		return h, fmt.Errorf("handoff: the new process (%s) hands over by version %d, this one (see the log) by %d: stop this one and start that one instead", h.Program, h.Version, Version)
	}
	offer, err := s.old.Offer(h)
	if err != nil {
		return h, err
	}
	Fault("old offer")
	return h, l.sendJSON(kindOffer, offer)
}

// early has the new process do what it can while this one still serves. told says that there was
// something.
func (s *Socket) early(l *link) (told bool, err error) {
	Fault("old early")
	err = s.old.Early(func(part []byte) error {
		told = true
		return l.send(kindEarly, part)
	})
	if err != nil || !told {
		return told, err
	}
	if err = l.send(kindFollow, nil); err == nil {
		_, err = l.expect(kindFollow)
	}
	if err == nil {
		s.old.Settle()
	}
	return told, err
}

// move is what must be all or nothing.
func (s *Socket) move(l *link, early bool) (err error) {
	Fault("old freeze")
	if err := s.old.Freeze(); err != nil {
		return err
	}
	if early {
		if _, err := s.early(l); err != nil {
			return err
		}
	}
	Fault("old seal")
	if err := s.old.Seal(); err != nil {
		return err
	}
	Fault("old listeners")
	listeners, err := s.old.Listeners()
	if err != nil {
		return err
	}
	for _, ln := range listeners {
		Fault("old listener")
		if err := l.send(kindListener, []byte(ln.Name), ln.FDs...); err != nil {
			return err
		}
	}
	suspended := make(chan error, 1)
	go func() {
		if early {
			suspended <- nil
			return
		}
		Fault("old suspend")
		store := s.old.Store()
		err := s.old.Suspend()
		Fault("old store")
		if err == nil {
			err = l.send(kindStore, store)
		}
		suspended <- err
	}()
	end, err := s.describe(l)
	if err = errors.Join(err, <-suspended); err != nil {
		return err
	}
	Fault("old end")
	if err := l.sendJSON(kindEnd, end); err != nil {
		return err
	}
	Fault("old ready")
	if _, err := l.expect(kindReady); err != nil {
		return err
	}
	Fault("old go")
	_ = l.send(kindGo, nil) // an error decides nothing: the other process may have read it and gone on, see awaitTook
	return nil
}

func (s *Socket) describe(l *link) (end End, err error) {
	Fault("old will")
	if err := s.old.Will(func(part []byte) error { return l.send(kindWill, part) }); err != nil {
		return end, err
	}
	Fault("old carry")
	return s.old.Carry(func(records []byte, fds []int) error {
		Fault("old conns")
		return l.send(kindConns, records, fds...)
	})
}
