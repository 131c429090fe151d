package conformance

import (
	"flag"
	"testing"
	"time"
)

var (
	externalURL  = flag.String("url", "", "ws://host:port/path of an echo server to put under the suites")
	externalOnly = flag.String("only", "", "prefix of the cases to run")
)

// TestExternal puts any echo server under the Autobahn cases:
// go test ./internal/conformance -run TestExternal -v -url ws://127.0.0.1:8000/echo
func TestExternal(t *testing.T) {
	if *externalURL == "" {
		t.Skip("no -url")
	}
	o := Options{Timeout: 5 * time.Second}
	if *externalOnly != "" {
		o.Only = []string{*externalOnly}
	}
	RunAll(t, *externalURL, o)
}
