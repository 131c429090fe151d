package loadtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"
)

// ChildCommand is the argument that makes the program a child: it then has to call Child.
const ChildCommand = "child"

// The private protocol between parent and child is JSON, one value a line: the assignment and then commands on the
// child's stdin, events on its stdout. End of stdin means that the parent is gone or done.

// child is the parent's end of a child process.
type child struct {
	// Guarded by mu.
	mu    sync.Mutex
	stdin io.WriteCloser
	enc   *json.Encoder
}

func startChild(a assignment, events chan<- event, ended <-chan struct{}) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("loadtest: find own binary: %w", err)
	}
	cmd := exec.Command(self, ChildCommand)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("loadtest: start a child process: %w", err)
	}
	c := &child{stdin: stdin, enc: json.NewEncoder(stdin)}
	if err := c.enc.Encode(a); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("loadtest: assign work to a child process: %w", err)
	}
	go c.listen(cmd, stdout, a.Threads, events, ended)
	return c, nil
}

// listen passes the child's events on until it ends, and tells of an end before all its loops have closed.
func (c *child) listen(cmd *exec.Cmd, stdout io.Reader, leaves int, events chan<- event, ended <-chan struct{}) {
	dec := json.NewDecoder(bufio.NewReaderSize(stdout, 64<<10))
	var failed error
	for closed := 0; closed < leaves; {
		var e event
		if failed = dec.Decode(&e); failed != nil {
			break
		}
		if e.Kind == evClosed {
			closed++
		}
		emit(events, ended, e)
	}
	c.mu.Lock()
	c.stdin.Close() // the child ends on this
	c.mu.Unlock()
	err := cmd.Wait()
	if failed != nil {
		emit(events, ended, event{Kind: evDied, Text: fmt.Sprintf("a child process ended before its work did: %v (%v)", cmd.ProcessState, err)})
	}
}

// do drops the command when the child is gone; listen tells of that.
func (c *child) do(m command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.enc.Encode(m)
}

// Child does the work of a child process: the assignment and commands come from in, events go to out. It returns
// when in ends. An interrupt from the terminal is left to the parent.
func Child(in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt)
	dec := json.NewDecoder(in)
	var a assignment
	if err := dec.Decode(&a); err != nil {
		return fmt.Errorf("loadtest: this command is for roost-load's own children: %w", err)
	}
	meter := &selfMeter{}
	first := meter.delta()
	events, ended := make(chan event, 64), make(chan struct{})
	defer close(ended)
	nodes, err := startWorkers(a, events, ended)
	if err != nil {
		return err
	}
	go report(json.NewEncoder(out), first, meter, events, ended)
	for {
		var c command
		if err := dec.Decode(&c); err != nil {
			return nil // the parent closed the pipe, or is gone
		}
		for i, n := range nodes {
			if c.Do == doConnect {
				n.do(command{Do: doConnect, N: share(c.N, len(nodes), i)})
			} else {
				n.do(c)
			}
		}
	}
}

// report writes events, and now and then what this process costs.
func report(enc *json.Encoder, first *stats, meter *selfMeter, events <-chan event, ended <-chan struct{}) {
	_ = enc.Encode(event{Kind: evStats, Stats: first}) // a parent that is gone ends stdin, too
	tick := time.NewTicker(statsInterval)
	defer tick.Stop()
	for {
		e := event{Kind: evStats}
		select {
		case e = <-events:
		case <-tick.C:
		case <-ended:
			return
		}
		if e.Kind != evStats || e.Stats == nil { // else the ticker's turn comes soon
			if e.Stats == nil {
				e.Stats = meter.delta()
			} else {
				e.Stats.add(meter.delta())
			}
		}
		_ = enc.Encode(e)
	}
}
