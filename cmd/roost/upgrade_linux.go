//go:build linux && !portable

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"roost/internal/config"
)

type upgradeCmd struct {
	config.Config

	Binary string `env:"-" placeholder:"FILE" help:"The program to start. Default: this one."`
	Log    string `env:"-" placeholder:"FILE" help:"File to which the new gateway appends its log. Default: standard error of this command."`
}

// Run starts a gateway that takes over from the one that runs with this configuration, and
// returns when it serves.
func (u *upgradeCmd) Run() error {
	if problems := u.Problems(); len(problems) > 0 {
		return refusal("upgrade", problems)
	}
	path := u.HandoffSocket()
	if path == "" {
		return errors.New("upgrade: without --data, --handoff-socket must say where the running gateway can be found")
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("upgrade: no gateway runs with this configuration: %w", err)
	}
	binary := u.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
	}
	c := exec.Command(binary, append([]string{"serve", "--takeover"}, serveArgs(os.Args[1:])...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this command and its terminal
	c.Stderr = os.Stderr
	if u.Log != "" {
		f, err := os.OpenFile(u.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return fmt.Errorf("upgrade: --log: %w", err)
		}
		defer f.Close()
		c.Stderr = f
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if err := c.Start(); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("upgrade: the new gateway did not take over (%v): the running one goes on", c.Wait())
	}
	fmt.Printf("pid=%d %s", c.Process.Pid, line)
	return c.Process.Release()
}

// serveArgs are those of this command line that serve has, too.
func serveArgs(args []string) (out []string) {
	for i := 0; i < len(args); i++ {
		name, _, whole := strings.Cut(args[i], "=")
		switch {
		case i == 0 && name == "upgrade":
		case name == "--binary" || name == "--log":
			if !whole {
				i++
			}
		default:
			out = append(out, args[i])
		}
	}
	return out
}
