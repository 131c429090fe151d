// roost-load loads a WebSocket server and measures what that costs; see package loadtest.
//
// It ends with 0 when all was as wanted, 1 when not, 2 for wrong arguments, and 130 after an interrupt.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"roost/loadtest"
)

// version is set by the linker.
var version = "development"

// output says where results go.
type output struct {
	JSON  string `name:"json" help:"Write the results as JSON to this file." placeholder:"FILE"`
	HTML  string `name:"html" help:"Write the results with plots as one self-contained page to this file." placeholder:"FILE"`
	Plain bool   `help:"Plain lines, no progress bars."`
}

// scenario is a command that runs one scenario.
type scenario struct {
	loadtest.Options `embed:""`
	output           `embed:""`
}

type cli struct {
	Idle   scenario `cmd:"" help:"Open connections in steps, hold them, and tell the memory of each."`
	Echo   scenario `cmd:"" help:"Send messages that must come back byte for byte."`
	Fanout scenario `cmd:"" help:"Let one more connection send; all must receive everything in order."`
	Storm  scenario `cmd:"" help:"Connect, upgrade and close, again and again."`
	Soak   scenario `cmd:"" help:"Echo at a rate while connections come and go."`

	Clients   scenario `cmd:"" help:"Connect and subscribe clients in steps, hold them, and tell what each costs."`
	Join      scenario `cmd:"" help:"Connect, subscribe and close, again and again."`
	Publish   scenario `cmd:"" help:"Publish through the server's API; every subscriber must receive everything in order."`
	Reconnect scenario `cmd:"" help:"The same, while clients are cut, come back and recover what they missed."`

	RPC scenario `cmd:"" help:"Call a method of the server's backend; its data must come back. Bystanders tell what others notice of that."`

	Upgrade scenario `cmd:"" help:"Publish and receive while the server is replaced, and tell what its clients notice."`

	Run struct {
		File   string `arg:"" type:"existingfile" help:"YAML list of steps: scenario, and flags under their names."`
		URL    string `help:"For all steps, instead of their own." placeholder:"URL"`
		PID    int    `name:"pid" help:"For all steps, instead of their own."`
		output `embed:""`
	} `cmd:"" help:"Run the steps of a scenario file, one after another."`
	Child   struct{}         `cmd:"" hidden:""`
	Version kong.VersionFlag `help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	c := &cli{}
	command, err := parse(c, args)
	if err != nil {
		return complain(err, 2)
	}
	if command == loadtest.ChildCommand {
		if err := loadtest.Child(os.Stdin, os.Stdout); err != nil {
			return complain(err, 1)
		}
		return 0
	}
	jobs, out, err := plan(c, command, args)
	if err != nil {
		return complain(err, 2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	return execute(ctx, jobs, out)
}

func complain(err error, code int) int {
	fmt.Fprintln(os.Stderr, "roost-load:", err)
	return code
}

// parse fills c in and returns the command's name.
func parse(c *cli, args []string) (string, error) {
	parser, err := kong.New(c, kong.Name("roost-load"), kong.UsageOnError(), kong.Vars{"version": version},
		kong.Description("Loads a WebSocket server and measures what that costs."))
	if err != nil {
		return "", err
	}
	k, err := parser.Parse(args)
	if err != nil {
		return "", fmt.Errorf("%w; see roost-load --help", err)
	}
	name, _, _ := strings.Cut(k.Command(), " ")
	return name, nil
}

// job is one run to do.
type job struct {
	options loadtest.Options
	command string
}

// plan turns the parsed arguments into the runs to do.
func plan(c *cli, command string, args []string) ([]job, output, error) {
	if command != "run" {
		s := map[string]*scenario{"idle": &c.Idle, "echo": &c.Echo, "fanout": &c.Fanout, "storm": &c.Storm, "soak": &c.Soak,
			"clients": &c.Clients, "join": &c.Join, "publish": &c.Publish, "reconnect": &c.Reconnect, "rpc": &c.RPC, "upgrade": &c.Upgrade}[command]
		s.Scenario = loadtest.Scenario(command)
		return []job{{s.Options, "roost-load " + strings.Join(withoutSecrets(args), " ")}}, s.output, nil
	}
	text, err := os.ReadFile(c.Run.File)
	if err != nil {
		return nil, output{}, err
	}
	lines, err := loadtest.ScenarioFile(text)
	if err != nil {
		return nil, output{}, fmt.Errorf("%s: %w", c.Run.File, err)
	}
	var jobs []job
	for i, line := range lines {
		if c.Run.URL != "" {
			line = append(line, "--url="+c.Run.URL)
		}
		if c.Run.PID != 0 {
			line = append(line, fmt.Sprintf("--pid=%d", c.Run.PID))
		}
		var step cli
		name, err := parse(&step, line)
		if err != nil {
			return nil, output{}, fmt.Errorf("%s: step %d: %w", c.Run.File, i+1, err)
		}
		planned, own, err := plan(&step, name, line)
		if err != nil {
			return nil, output{}, err
		}
		if own != (output{}) {
			return nil, output{}, fmt.Errorf("%s: step %d: json, html and plain belong to the command line of run", c.Run.File, i+1)
		}
		jobs = append(jobs, planned...)
	}
	return jobs, c.Run.output, nil
}

// withoutSecrets is the command line as reports may show it.
func withoutSecrets(args []string) []string {
	shown := slices.Clone(args)
	for i, a := range shown {
		name, _, inOne := strings.Cut(a, "=")
		if name != "--hmac-secret" && name != "--api-key" && name != "--token" {
			continue
		}
		if inOne {
			shown[i] = name + "=***"
		} else if i+1 < len(shown) {
			shown[i+1] = "***"
		}
	}
	return shown
}

// execute does the jobs, writes the results, and returns the exit code.
func execute(ctx context.Context, jobs []job, out output) int {
	code := 0
	var results []*loadtest.Result
	for _, j := range jobs {
		r, err := loadtest.Run(ctx, j.options, j.command, loadtest.NewProgress(os.Stderr, out.Plain))
		if err != nil {
			code = complain(err, 1)
			break
		}
		results = append(results, r)
		if !r.OK() {
			code = 1
		}
		if r.Interrupted {
			code = 130
			break
		}
	}
	if len(results) == 0 {
		return code
	}
	if err := write(results, len(jobs) > 1, out); err != nil {
		return complain(err, 1)
	}
	return code
}

func write(results []*loadtest.Result, many bool, out output) error {
	err := loadtest.WriteTable(os.Stdout, results)
	if out.JSON != "" {
		err = errors.Join(err, toFile(out.JSON, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			if many {
				return enc.Encode(map[string]any{"tool": "roost-load", "schema": loadtest.Schema, "scenario": "run", "steps": results})
			}
			return enc.Encode(results[0])
		}))
	}
	if out.HTML != "" {
		err = errors.Join(err, toFile(out.HTML, func(w io.Writer) error { return loadtest.WriteHTML(w, results) }))
	}
	return err
}

func toFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
