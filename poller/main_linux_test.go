//go:build linux && !portable

package poller

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

const childEnv = "POLLER_TEST_CHILD"

// TestMain also plays the child of TestRunOutOfDescriptors, and makes sure that
// the variants really met their faults when all tests have run.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(starvedChild())
	}
	code := m.Run()
	for name, n := range met {
		if all := flag.Lookup("test.run").Value.String() == ""; all && n == 0 && name != "io_uring" && name != "plain" {
			fmt.Fprintf(os.Stderr, "variant %q met no fault\n", name)
			code = 1
		}
	}
	os.Exit(code)
}
