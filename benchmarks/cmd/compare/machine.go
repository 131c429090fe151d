package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is where the figures come from.
type machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`
	Memory   float64 `json:"memory_bytes"`
	Kernel   string  `json:"kernel"`
	Go       string  `json:"go"`
	GCC      string  `json:"gcc"`
	Roost    string  `json:"roost"` // commit
	Meltdown string  `json:"meltdown"`
}

func thisMachine(root string) machine {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	meltdown, _ := os.ReadFile("/sys/devices/system/cpu/vulnerabilities/meltdown")
	return machine{
		CPU:      field("/proc/cpuinfo", "model name"),
		Cores:    runtime.NumCPU(),
		Memory:   memory("MemTotal"),
		Kernel:   strings.TrimSpace(string(kernel)),
		Go:       runtime.Version(),
		GCC:      firstLine("gcc", "--version"),
		Roost:    commit(root),
		Meltdown: strings.TrimSpace(string(meltdown)),
	}
}

// commit names the version of roost that is in the tree, and whether the tree has been changed.
func commit(root string) string {
	text := firstLine("git", "-C", root, "rev-parse", "--short", "HEAD")
	if text != "" && firstLine("git", "-C", root, "status", "--porcelain", "--untracked-files=no") != "" {
		text += ", with changes"
	}
	return text
}

// firstLine of what a program prints; empty when it fails.
func firstLine(program string, arguments ...string) string {
	output, err := exec.Command(program, arguments...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(output), "\n")
	return line
}

// field reads the first "name: value" of a file in /proc; empty when there is none.
func field(path, name string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memory reads a figure of /proc/meminfo, in bytes.
func memory(name string) float64 { return kilobytes("/proc/meminfo", name) }

// kilobytes reads a "name: 123 kB" of a file in /proc, in bytes; 0 when there is none.
func kilobytes(path, name string) float64 {
	value, _ := strconv.ParseFloat(strings.TrimSuffix(field(path, name), " kB"), 64)
	return value * 1024
}

func (m machine) String() string {
	text := fmt.Sprintf("%s, %d cores, %.0f GiB; Linux %s", m.CPU, m.Cores, m.Memory/(1<<30), m.Kernel)
	if m.Meltdown != "" {
		text += fmt.Sprintf(" (meltdown: %s)", m.Meltdown)
	}
	return text + fmt.Sprintf("; %s; %s; roost at %s", m.Go, m.GCC, m.Roost)
}

// openSockets is how many TCP sockets are open on this machine, both ends counted.
func openSockets() (count int) {
	_, _ = fmt.Sscanf(field("/proc/net/sockstat", "TCP"), "inuse %d", &count)
	return count
}

// watchSlab waits until the kernel has given back what earlier runs took, and samples its slab
// until the function it returns is called. That gives the growth, in bytes, at the last moment when
// most sockets were open: the burst of memory while they all close is not an idle connection's.
func watchSlab() (grown func() float64) {
	before := settledSlab()
	stop, growth := make(chan struct{}), make(chan float64)
	go func() {
		most, slab := 0, before
		for {
			select {
			case <-stop:
				growth <- slab - before
				return
			case <-time.After(100 * time.Millisecond):
				if count := openSockets(); count >= most {
					most, slab = count, memory("Slab")
				}
			}
		}
	}()
	return func() float64 {
		close(stop)
		return <-growth
	}
}

// settledSlab is the slab in bytes once it falls by less than 1 MiB in a second, or after ten.
func settledSlab() float64 {
	slab := memory("Slab")
	for range 10 {
		time.Sleep(time.Second)
		last := slab
		if slab = memory("Slab"); last-slab < 1<<20 {
			break
		}
	}
	return slab
}
