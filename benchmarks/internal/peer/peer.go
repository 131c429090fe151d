// Package peer holds what the peer servers share, so that each of them shows only what its own
// library makes of the job: the command line, the line that says the server is up, and the set of
// connections a broadcast goes to.
package peer

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Routes that every server answers.
const (
	Echo      = "/echo"
	Broadcast = "/broadcast"
)

// MaxUnsent is how many bytes a client may be behind on servers that queue themselves, before it is
// cut.
const MaxUnsent = 1 << 20

// WriteTimeout is how long one write of a broadcast may block before its connection is cut, on
// servers whose library blocks.
const WriteTimeout = time.Second

// Address parses the command line every peer has: --address HOST:PORT.
func Address() string {
	address := flag.String("address", "127.0.0.1:0", "HOST:PORT to listen on; port 0 takes a free one")
	flag.Parse()
	log.SetFlags(0)
	raiseDescriptorLimit()
	return *address
}

// Ready tells the one who started the server, by a line on standard output, where it listens.
func Ready(address net.Addr) { fmt.Printf("ready address=%s\n", address) }

// Listen opens the address of the command line and says that it is ready.
func Listen() net.Listener {
	listener, err := net.Listen("tcp", Address())
	if err != nil {
		log.Fatal(err)
	}
	Ready(listener.Addr())
	return listener
}

// ServeHTTP runs the two handlers on net/http until the process is ended.
func ServeHTTP(echo, broadcast http.HandlerFunc) {
	mux := http.NewServeMux()
	mux.HandleFunc(Echo, echo)
	mux.HandleFunc(Broadcast, broadcast)
	server := http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	if err := server.Serve(Listen()); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func raiseDescriptorLimit() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Fprintln(os.Stderr, "descriptor limit stays:", err)
	}
}

// Members are the connections of the broadcast route. The zero value is empty and ready. Any
// goroutine may call any method.
type Members[C comparable] struct {
	mu sync.Mutex
	// Guarded by mu.
	list  []C
	index map[C]int
}

// Add takes a connection in.
func (m *Members[C]) Add(c C) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.index == nil {
		m.index = make(map[C]int)
	}
	m.index[c] = len(m.list)
	m.list = append(m.list, c)
}

// Remove forgets a connection; one that is not in is ignored.
func (m *Members[C]) Remove(c C) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.index[c]
	if !ok {
		return
	}
	last := len(m.list) - 1
	moved := m.list[last]
	m.list[i], m.index[moved] = moved, i
	var none C
	m.list[last] = none
	m.list = m.list[:last]
	delete(m.index, c)
}

// Each calls send for every connection. Broadcasts exclude each other, so that all connections
// see them in the same order; send must not call Add or Remove.
func (m *Members[C]) Each(send func(C)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.list {
		send(c)
	}
}
