package loadtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listenerProbe is the usage of all processes that listen at an address, one after another or at the same time. What
// those have used that are gone counts on. Used by one goroutine.
type listenerProbe struct {
	at      netip.AddrPort
	members map[int]*listening
	newest  int
	ended   time.Duration // CPU of those that are gone
}

// listening is a process that does, or did.
type listening struct {
	probe procProbe
	last  usage
}

// newListenerProbe is nil where the listener cannot be found: on another machine, or of another user.
func newListenerProbe(o *Options) *listenerProbe {
	t, err := newTarget(o)
	if err != nil {
		return nil
	}
	at := t.addr.AddrPort()
	p := &listenerProbe{at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), members: map[int]*listening{}}
	if p.look(); len(p.members) == 0 {
		return nil
	}
	return p
}

// look finds processes that have come. It reads every descriptor of every process that it may.
func (p *listenerProbe) look() {
	inodes := map[string]bool{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, _ := os.ReadFile(name) // without IPv6 there is only one
		for line := range strings.Lines(string(table)) {
			if inode, ok := listens(line, p.at); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd") // the pattern is well-formed
	for _, dir := range dirs {
		pid, err := strconv.Atoi(strings.Split(dir, "/")[2])
		if err != nil || p.members[pid] != nil || !holds(dir, inodes) {
			continue
		}
		p.members[pid], p.newest = &listening{probe: procProbe{pid: pid}}, pid
	}
}

func holds(dir string, inodes map[string]bool) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false // another user's, or gone
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return slices.ContainsFunc(names, func(name string) bool {
		to, err := os.Readlink(dir + "/" + name)
		return err == nil && inodes[to]
	})
}

// listens reads a line of /proc/net/tcp (proc_pid_net(5)): the inode of a socket that listens there.
func listens(line string, at netip.AddrPort) (inode string, ok bool) {
	const state = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != state {
		return "", false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	n, err := strconv.ParseUint(port, 16, 16)
	b, err2 := hex.DecodeString(host)
	if err != nil || err2 != nil || uint16(n) != at.Port() || len(b)%4 != 0 {
		return "", false
	}
	for i := 0; i < len(b); i += 4 { // words of the machine, which has the low byte first
		slices.Reverse(b[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(b)
	ip = ip.Unmap()
	return fields[9], ok && (ip.IsUnspecified() || ip == at.Addr())
}

// read sums up, and looks for processes if there is none. RSS and threads are those of all that are there.
func (p *listenerProbe) read() (usage, error) {
	if len(p.members) == 0 {
		p.look()
	}
	sum := usage{CPU: p.ended}
	for pid, m := range p.members {
		u, err := m.probe.read()
		if err != nil || zombie(pid) {
			sum.CPU += m.last.CPU
			p.ended += m.last.CPU
			delete(p.members, pid)
			continue
		}
		u.CPU = max(u.CPU, m.last.CPU)
		m.last = u
		sum.RSS, sum.CPU, sum.Threads = sum.RSS+u.RSS, sum.CPU+u.CPU, sum.Threads+u.Threads
	}
	return sum, nil
}

// zombie reports whether a process has ended and its parent has not noticed.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(") "))
	return err != nil || len(rest) == 0 || rest[0] == 'Z'
}

// ServerState is what the process that listens holds at a moment.
type ServerState struct {
	T           float64 `json:"t_s"`
	PID         int     `json:"pid"`
	Descriptors int     `json:"descriptors"`
	RSS         int64   `json:"rss"`                  // bytes
	Heap        int64   `json:"heap_bytes,omitempty"` // with --metrics: allocated, garbage included
}

// state is that of the process that came last.
func (p *listenerProbe) state() (s ServerState) {
	m := p.members[p.newest]
	if m == nil {
		return s
	}
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.newest)) // empty: the process has just ended
	return ServerState{PID: p.newest, Descriptors: len(names), RSS: m.last.RSS}
}

var _ probe = (*listenerProbe)(nil)
