package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A broker may be followed by that of another process on the same machine, which then stands
// for it among the nodes. The embedded server's folder has one owner at a time: the old process
// suspends its server, the new one opens the folder. If that fails the old one resumes.

// roomToOpen is what the disk must have left, in bytes: a NATS that opens a folder on a full one leaves
// streams that take nothing any more, whoever has it next.
const roomToOpen = 16 << 20

// Suspend ends the embedded server: all that was acknowledged is on the disk, and another
// process that has an Heir may open the folder. Until Resume NATS is away. If the disk is full it
// returns an error and ends nothing. Without effect in a cluster.
func (b *Broker) Suspend() error {
	if b.server == nil {
		return nil
	}
	if err := b.server.hasRoom(); err != nil {
		return fmt.Errorf("broker: data folder %s: %w", b.server.dir, err)
	}
	b.server.handed = true
	return b.server.suspend(false)
}

func (e *embedded) hasRoom() error {
	if e.temp {
		return nil // nothing is kept there
	}
	room, err := diskRoom(e.dir)
	if err == nil && room < roomToOpen {
		err = fmt.Errorf("the disk has %d bytes left, and must have %d", room, roomToOpen)
	}
	return err
}

// resumeTimeout is how long the folder may stay in the hands of the process that was to have
// it, which is about to die.
const resumeTimeout = 10 * time.Second

// Resume starts the embedded server again after Suspend. Without effect in a cluster.
func (b *Broker) Resume() error {
	if b.server == nil || b.server.running() {
		return nil
	}
	end := time.Now().Add(resumeTimeout)
	for {
		err := b.server.start(b.opts)
		if err == nil {
			b.server.handed = false
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("broker: resume: %w", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Abandon ends a broker whose place has been taken: other nodes are told nothing, and the
// folder is not touched.
func (b *Broker) Abandon() {
	if !b.closed.CompareAndSwap(false, true) {
		return
	}
	close(b.ended)
	for i := range b.shards {
		b.shards[i].close()
	}
	b.nc.Close()
	b.done.Wait()
}

func (e *embedded) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.nats != nil
}

// suspend ends the server in order and gives up the folder; mark notes that, which waits for the disk.
func (e *embedded) suspend(mark bool) error {
	e.mu.Lock()
	s := e.nats
	e.nats = nil
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	s.Shutdown()
	s.WaitForShutdown()
	return e.leave(mark)
}

// InProcessConn implements nats.InProcessConnProvider: the server may be another one after a
// while.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.nats
	e.mu.Unlock()
	if s == nil {
		return nil, errSuspended
	}
	return s.InProcessConn()
}

var errSuspended = errors.New("broker: the embedded NATS is suspended")

// QueuedJob is a job of a Queue that is stored nowhere yet.
type QueuedJob struct {
	ID   string
	Data []byte
}

// Waiting returns the jobs that are not known to be stored. Any goroutine.
func (q *Queue) Waiting() []QueuedJob {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]QueuedJob, len(q.waiting))
	for i, j := range q.waiting {
		all[i] = QueuedJob{j.id, j.data}
	}
	return all
}

// Flush waits until NATS has all that was put, or ctx has ended. Any goroutine.
func (w *Wire) Flush(ctx context.Context) error {
	for w.queued.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return w.nc.FlushWithContext(ctx)
}
