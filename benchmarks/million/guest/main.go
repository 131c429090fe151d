// Command guest is what runs where the million connections live: in the QEMU guest, or natively.
//
//	guest measure   starts the gateway and the load, looks at both, writes one JSON record per line
//	guest report    turns those records into a report (Markdown), a plot (SVG) and the raw samples (JSON)
//
// It needs nothing but the standard library, /proc, and roost and roost-load in PATH.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options say what to measure. Static after the flags are parsed.
type options struct {
	Connections  int
	PingInterval time.Duration
	Idle         time.Duration // length of the idle window
	Settle       time.Duration // between the last connect and the idle window
	Echo         time.Duration // length of the echo sample
	Interval     time.Duration // between samples
	Environment  string        // where this runs, for the report
	Out          string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "million:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: guest measure|report [flags]")
	}
	flags := flag.NewFlagSet("guest "+args[0], flag.ExitOnError)
	switch args[0] {
	case "measure":
		var o options
		flags.IntVar(&o.Connections, "connections", 1_000_000, "idle connections to open")
		flags.DurationVar(&o.PingInterval, "ping-interval", 25*time.Second, "the gateway's ping interval")
		flags.DurationVar(&o.Idle, "idle", 50*time.Second, "how long to look at the idle gateway")
		flags.DurationVar(&o.Settle, "settle", 20*time.Second, "between the last connect and the idle window")
		flags.DurationVar(&o.Echo, "echo", 10*time.Second, "length of the echo sample")
		flags.DurationVar(&o.Interval, "interval", 5*time.Second, "between samples")
		flags.StringVar(&o.Environment, "environment", "", "where this runs, for the report")
		flags.StringVar(&o.Out, "out", "records", "file or device the records are written to")
		_ = flags.Parse(args[1:]) // exits on error
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return measure(ctx, o)
	case "report":
		records := flags.String("records", "records", "file written by guest measure")
		to := flags.String("to", "million", "path of the report without its extension")
		command := flags.String("command", "", "the command that led to the records")
		_ = flags.Parse(args[1:])
		return report(*records, *to, *command)
	}
	return fmt.Errorf("unknown command %q: want measure or report", args[0])
}
