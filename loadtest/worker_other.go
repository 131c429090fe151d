//go:build !linux

package loadtest

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
)

func errPlatform() error {
	return fmt.Errorf("roost-load needs Linux (epoll); this is %s: run it there, or in a container or virtual machine", runtime.GOOS)
}

func shell(ctx context.Context, text string) *exec.Cmd {
	return exec.CommandContext(ctx, "sh", "-c", text)
}

func connectionsPerProcess() (int, error) { return 0, errPlatform() }

func startWorkers(assignment, chan<- event, <-chan struct{}) ([]node, error) {
	return nil, errPlatform()
}
