//go:build linux && !portable

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"roost/handoff"
)

// succession lets another process take over: one that is started with --takeover, or by this
// process at SIGHUP.
type succession struct {
	socket *handoff.Socket // nil where nobody can take over
	hup    chan os.Signal
	done   chan struct{}
	log    *slog.Logger
}

// socketTime is how long the old process may keep the socket after it has been taken over from.
const socketTime = 10 * time.Second

func (s *serveCmd) openSuccession(p *process, log *slog.Logger) (*succession, error) {
	x := &succession{hup: make(chan os.Signal, 1), done: make(chan struct{}), log: log}
	if path := s.HandoffSocket(); path != "" {
		var err error
		for end := time.Now().Add(socketTime); ; time.Sleep(20 * time.Millisecond) {
			x.socket, err = handoff.Listen(path, &predecessor{process: p, config: &s.Config, log: log}, log)
			if err == nil || !p.tookOver() || time.Now().After(end) {
				break
			}
		}
		switch {
		case err != nil && s.Handoff != "":
			return nil, err
		case err != nil:
			log.Warn("no process can take over from this one", "error", err)
		}
	}
	if tty, err := os.Open("/dev/tty"); err == nil {
		_ = tty.Close() // there SIGHUP says that the terminal has gone
		return x, nil
	}
	signal.Notify(x.hup, syscall.SIGHUP)
	go x.heir()
	return x, nil
}

// given is closed when another process has taken over.
func (x *succession) given() <-chan struct{} {
	if x.socket == nil {
		return nil
	}
	return x.socket.Given()
}

// end lets nobody take over any more. It reports whether somebody has.
func (x *succession) end() (given bool) {
	signal.Stop(x.hup)
	signal.Ignore(syscall.SIGHUP)
	close(x.done)
	if x.socket == nil {
		return false
	}
	x.socket.Close()
	select {
	case <-x.socket.Given():
		return true
	default:
		return false
	}
}

// heir starts the process that is to take over, one at a time.
func (x *succession) heir() {
	for {
		select {
		case <-x.done:
			return
		case <-x.hup:
		}
		if x.socket == nil {
			x.log.Error("SIGHUP: nobody can take over without --data or --handoff-socket")
			continue
		}
		if err := x.start(); err != nil {
			x.log.Error("SIGHUP: the process that is to take over", "error", err)
		}
	}
}

// start runs this program again, as it is on the disk now, and waits until it has taken over
// or ended.
func (x *succession) start() error {
	path, err := exec.LookPath(os.Args[0]) // not os.Executable: the file may have been replaced
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return err
	}
	args := os.Args[1:]
	if !slices.Contains(args, "--takeover") {
		args = append(slices.Clone(args), "--takeover")
	}
	c := exec.Command(path, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		return fmt.Errorf("it has ended: %v", err)
	case <-x.done: // it has taken over, or this one is told to stop
		return nil
	}
}
