package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var external struct {
	url, only string
	pid       int
	o         Options
}

func init() {
	flag.StringVar(&external.url, "url", "", "ws://host:port/path of an echo server to put under the suites")
	flag.StringVar(&external.only, "only", "", "prefixes of the cases to run, separated by commas")
	flag.IntVar(&external.pid, "pid", 0, "the server's process, to watch its memory")
	flag.IntVar(&external.o.Parallel, "width", 8, "connections under test at a time")
	flag.BoolVar(&external.o.Deflate, "deflate", false, "the server accepts permessage-deflate")
	flag.Int64Var(&external.o.MaxMessage, "max-message", 0, "the server's limit, in bytes")
	flag.DurationVar(&external.o.HandshakeDeadline, "handshake", 0, "the server's handshake deadline")
	flag.DurationVar(&external.o.IdleDeadline, "idle", 0, "the server's deadline for an answer to its pings")
	flag.StringVar(&external.o.BadOrigin, "origin", "", "an Origin the server refuses")
}

func externalOptions(t *testing.T) Options {
	if external.url == "" {
		t.Skip("no -url")
	}
	o := external.o
	o.Timeout = 5 * time.Second
	if external.only != "" {
		o.Only = strings.Split(external.only, ",")
	}
	if external.pid != 0 {
		o.Memory = func() (int64, error) { return residentBytes(external.pid) }
	}
	return o
}

// residentBytes is VmRSS of a process.
func residentBytes(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	var kib int64
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	_, err = fmt.Sscan(string(rest), &kib)
	return kib << 10, err
}

// TestExternalAutobahn puts any echo server under the Autobahn cases:
// go test ./internal/conformance -run ExternalAutobahn -v -url ws://127.0.0.1:8000/echo
func TestExternalAutobahn(t *testing.T) { RunAll(t, external.url, externalOptions(t)) }

// TestExternalHostile puts any echo server under the hostile inputs.
func TestExternalHostile(t *testing.T) { RunHostile(t, external.url, externalOptions(t)) }
