//go:build faults && linux && !portable

package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"roost/handoff"
)

// ROOST_FAULT names a step of a takeover, after which a number may follow: the process kills
// itself when it comes to that step for the so manieth time; with "stop " before it, it stops until
// it is told to go on. For tests of what remains.
func init() {
	step, nth, _ := strings.Cut(os.Getenv("ROOST_FAULT"), "#")
	step, stops := strings.CutPrefix(step, "stop ")
	left, err := strconv.Atoi(nth)
	if err != nil {
		left = 1
	}
	var mu sync.Mutex
	handoff.Fault = func(at string) {
		mu.Lock()
		defer mu.Unlock()
		if at != step {
			return
		}
		if left--; left != 0 {
			return
		}
		if stops {
			stop()
		} else {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// stop stops the process before it does anything else: a signal to the process might be taken by another thread, while
// this one goes on.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
