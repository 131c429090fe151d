package loadtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// portShare is the part of the port range that one source address is used for: the kernel's search for a
	// free port becomes slow when few are left.
	portShare = 0.7
	// hopeless is after how many failed connects, with none that succeeded, no more are tried.
	hopeless = 100
)

// addresses sets where to connect to and the source addresses to rotate.
func (w *worker) addresses() error {
	w.to = sockaddr(w.target.addr)
	ip := w.target.addr.IP
	n, rotates := w.Sources, ip.To4() != nil && ip.IsLoopback()
	if n == 0 {
		n = sourcesNeeded(&w.Options, int64(w.IDStep), rotates)
	}
	if n <= 1 {
		return nil
	}
	if !rotates {
		return fmt.Errorf("%d connections need %d source addresses, which only a server in 127.0.0.0/8 allows, not %v; use fewer connections, or widen net.ipv4.ip_local_port_range and give --sources 1",
			w.Connections*int(w.IDStep), n, ip)
	}
	for i := range min(n, maxSources) {
		w.from = append(w.from, &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(i / 254), byte(i%254 + 1)}})
	}
	return nil
}

func sockaddr(addr *net.TCPAddr) unix.Sockaddr {
	if addr.IP.To4() == nil {
		to := &unix.SockaddrInet6{Port: addr.Port}
		copy(to.Addr[:], addr.IP.To16())
		return to
	}
	to := &unix.SockaddrInet4{Port: addr.Port}
	copy(to.Addr[:], addr.IP.To4())
	return to
}

// sourcesNeeded is how many addresses have ports enough for all nodes; o is the share of one of them. With generous
// each gets half as many: the kernel tries every second port first (inet_hash_connect), and once those are taken each
// connect walks over all of them, which at 160,000 connections left a few connects per second.
func sourcesNeeded(o *Options, nodes int64, generous bool) int {
	low, high := 32768, 60999
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(strings.TrimSpace(string(b)), &low, &high) // else Linux's default stands
	}
	ports := max(1, int64(portShare*float64(high-low+1)))
	if generous {
		ports = max(1, ports/2)
	}
	total := int64(o.Connections) * nodes
	if o.storms() {
		total = max(o.Messages, 1) * nodes // closed ones keep their port for a while
	}
	return int((total + ports - 1) / ports)
}

// connect raises the number of connections to be tried.
func (w *worker) connect(n int64) {
	if w.Sender {
		n++
	}
	w.wanted, w.announce = n, true
	w.paceStart, w.paceCount = w.now, 0
}

// connectDue starts connects as pace, parallelism and slots allow, and tells when all have ended. It returns when
// the next one is due, or 0.
func (w *worker) connectDue() (next int64) {
	for w.started < w.wanted && w.connecting < w.ConnectParallel && len(w.free) > 0 {
		if w.pace != nil {
			if due := w.paceStart + int64(w.pace.Due(w.paceCount)); due > w.now {
				return due
			}
		}
		w.paceCount++
		w.open()
	}
	if w.announce && w.started == w.wanted && w.connecting == 0 {
		w.announce = false
		w.emit(evConnected, 0, "")
	}
	return 0
}

// open starts a connect.
func (w *worker) open() {
	slot := w.free[len(w.free)-1]
	c := &w.clients[slot]
	*c = client{id: w.IDBase + uint32(w.started)*w.IDStep, since: w.now}
	if w.Sender {
		c.id -= w.IDStep // the sender has an id of its own
		if w.started == 0 {
			c.id = senderID
		}
	}
	w.started++
	w.progress = w.now
	fd, err := w.socket(slot, c.id)
	if err != nil {
		w.openFailed(err)
		return
	}
	w.free = w.free[:len(w.free)-1]
	c.fd, c.state = int32(fd), stateConnecting
	w.connecting++
	w.limbo = append(w.limbo, limbo{slot, c.id, w.now})
}

// socket makes a non-blocking socket that connects and whose events go to that slot.
func (w *worker) socket(slot, id uint32) (int, error) {
	family := unix.AF_INET
	if _, ok := w.to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// A frame waits for no other: Nagle's algorithm would hold the second one back until the first is acknowledged.
	err = os.NewSyscallError("setsockopt TCP_NODELAY", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if len(w.from) > 0 && err == nil {
		// The port is chosen at connect, when the other end is known, so that sources share the port range.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // older kernels: fewer ports
		err = os.NewSyscallError("bind to a source address", unix.Bind(fd, w.from[int(id/w.IDStep)%len(w.from)]))
	}
	if err == nil {
		if err = unix.Connect(fd, w.to); err == unix.EINPROGRESS {
			err = nil
		}
		err = os.NewSyscallError("connect", err)
	}
	if err == nil {
		// Edge-triggered, so that one epoll_ctl serves the connection for life.
		err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(slot)}))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openFailed counts a connect or upgrade that came to nothing.
func (w *worker) openFailed(err error) {
	w.stats.Failed++
	w.stats.fail(w.explain(err), 1)
	if !w.everOpen && w.started >= hopeless {
		w.wanted = w.started
	}
	if s, ok := w.play.(*storm); ok {
		s.cycled()
	}
}

// explain adds what would be right to the errors users meet.
func (w *worker) explain(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		text = fmt.Sprintf("connect to %v: connection refused; start the server there, or correct --url", w.target.addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		text += "; no free port: give more --sources, or widen net.ipv4.ip_local_port_range"
	case errors.Is(err, unix.EMFILE):
		text += "; raise ulimit -n, or give more --processes"
	case errors.Is(err, unix.ENFILE):
		text += "; raise fs.file-max"
	}
	return text
}

// expire ends clients that have been too long in a state they should have left.
func (w *worker) expire() {
	kept := w.limbo[:0]
	for _, l := range w.limbo {
		c := &w.clients[l.slot]
		switch {
		case c.id != l.id || c.state == stateFree || c.state == stateOpen || c.since > l.since:
			continue
		case w.now-l.since < int64(w.Timeout):
			kept = append(kept, l)
		case c.state == stateClosing:
			w.drop(c, nil)
		case c.state == stateConnecting:
			w.drop(c, fmt.Errorf("connect to %v: no answer in %v (--timeout)", w.target.addr, w.Timeout))
		default:
			w.drop(c, fmt.Errorf("%v: no whole answer in %v (--timeout)", c.state, w.Timeout))
		}
	}
	w.limbo = kept
}
