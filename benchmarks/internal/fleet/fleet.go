// Package fleet knows the compared servers: what each is, how it is built and how it is run.
package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// Floor is the name of the server every ratio is taken against.
const Floor = "floor"

// Server is one row of the tables: a program with its settings. Several rows may be one program.
type Server struct {
	Name     string
	Settings string // for the reader of the results

	program   string   // file name of the built program, or its absolute path
	roost     bool     // built of the main module
	arguments []string // before --address
	echo      string   // path of its echo route; /echo if empty
	scenarios []string // the only ones it has a row in; if empty all but those of gateways
	gateway   bool     // speaks the client protocol: has a row in the scenarios of gateways, too
}

// Gateway scenarios need servers that speak the client protocol.
var Gateway = []string{"clients", "personal", "connect", "channel-fanout", "raw", "rpc", "stalled"}

// ours are those of them that are about roost alone.
var ours = []string{"raw", "rpc", "stalled"}

// Clients is the path of gateways' client protocol.
const Clients = "/connection/websocket"

// apiKey is what gateways' API asks for.
const apiKey = "benchmark"

// EchoPath is the route that returns each message.
func (s Server) EchoPath() string {
	if s.echo != "" {
		return s.echo
	}
	return "/echo"
}

// TakesPart says whether the server has a row in the scenario: a roost with another setting is
// shown only where the setting matters.
func (s Server) TakesPart(scenario string) bool {
	if slices.Contains(ours, scenario) && !s.roost {
		return false
	}
	if len(s.scenarios) > 0 {
		return slices.Contains(s.scenarios, scenario)
	}
	return s.gateway || !slices.Contains(Gateway, scenario)
}

// OnNATS is the server with a NATS server, at HOST:PORT, in place of memory, and a configuration
// file.
func (s Server) OnNATS(address, config string) Server {
	s.arguments = append(slices.DeleteFunc(slices.Clone(s.arguments), func(a string) bool { return a == "--memory" }),
		"--nats", "nats://"+address, "--config", config)
	return s
}

// With is the server with more arguments.
func (s Server) With(arguments ...string) Server {
	s.arguments = append(slices.Clone(s.arguments), arguments...)
	return s
}

// IsRoost says whether the server is roost, with whatever setting.
func (s Server) IsRoost() bool { return s.roost }

// UseRoost makes the rows that are roost run this program, by its absolute path.
func (s *Server) UseRoost(path string) {
	if s.roost {
		s.program = path
	}
}

// All lists the servers in the order they run. The floor runs with that many threads.
func All(floorThreads int) []Server {
	serve := []string{"serve", "--dev", "--internal-address", "127.0.0.1:0", "--memory"}
	return []Server{
		{
			Name: Floor, program: "floor",
			arguments: []string{"--threads", strconv.Itoa(floorThreads)},
			Settings: fmt.Sprintf("C, bare level-triggered epoll, gcc -O2, %d thread(s); one send() per delivery",
				floorThreads),
		},
		{Name: "roost", roost: true, gateway: true, arguments: serve, Settings: "defaults: one loop for two cores, io_uring; /echo is answered on the loop; 4 MiB behind is cut; history in memory"},
		{
			Name: "roost-pool", roost: true, arguments: serve, echo: "/echo-pool",
			scenarios: []string{"echo"}, Settings: "as roost; /echo-pool goes through the worker pool",
		},
		{
			Name: "roost-no-uring", roost: true, arguments: append(slices.Clone(serve), "--no-io-uring"),
			scenarios: []string{"echo", "fanout", "stall"}, Settings: "as roost, with --no-io-uring: one write per connection",
		},
		{Name: "gobwas", program: "gobwas", Settings: "gobwas/ws 1.4.0 on our raw epoll loop, one loop; frames compiled once; 1 MiB behind is cut"},
		{Name: "nbio", program: "nbio", Settings: "nbio 1.6.12 nbhttp/websocket, one poller per core, handlers on the poller, frames encoded once; 1 MiB behind is cut"},
		{Name: "gws", program: "gws", Settings: "gws 1.8.9, goroutine per connection, 512 B read buffers, no UTF-8 check, Broadcaster (queues without bound)"},
		{Name: "gorilla", program: "gorilla", Settings: "gorilla/websocket 1.5.3 on net/http, goroutine per connection, 512 B read buffers, pooled write buffers, PreparedMessage; a write blocked for 1 s cuts"},
		{Name: "coder", program: "coder", Settings: "coder/websocket 1.8.14 on net/http, goroutine per connection, no compression, one Write each; a write blocked for 1 s cuts"},
		{
			Name: "centrifuge", program: "centrifuge", gateway: true, scenarios: Gateway,
			Settings: "centrifugal/centrifuge 0.40.1, the library of Centrifugo, memory broker, history, recovery and presence as roost with --dev; 512 B read buffers, pooled write buffers",
		},
	}
}

// Select returns the servers with these names, in the order of All; an unknown name is an error.
func Select(all []Server, names []string) ([]Server, error) {
	var chosen []Server
	for _, server := range all {
		if slices.Contains(names, server.Name) {
			chosen = append(chosen, server)
		}
	}
	if len(chosen) != len(names) {
		var known []string
		for _, server := range all {
			known = append(known, server.Name)
		}
		return nil, fmt.Errorf("fleet: servers are %v, not %v", known, names)
	}
	return chosen, nil
}

// Root is the folder of this module, found upwards from the working directory.
func Root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; folder = filepath.Dir(folder) {
		data, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil && bytes.HasPrefix(data, []byte("module roost/benchmarks\n")) {
			return folder, nil
		}
		if folder == filepath.Dir(folder) {
			return "", errors.New("fleet: run this inside the benchmarks module")
		}
	}
}

// Build compiles the floor and the peers these servers need into the folder into.
func Build(root, into string, servers []Server) error {
	if err := os.MkdirAll(into, 0o755); err != nil {
		return err
	}
	built := map[string]bool{}
	for _, server := range servers {
		if server.roost || built[server.program] {
			continue
		}
		built[server.program] = true
		out := filepath.Join(into, server.program)
		command := exec.Command("go", "build", "-trimpath", "-o", out, "./servers/"+server.program)
		if server.program == "floor" {
			command = exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", out, "floor/floor.c")
		}
		if err := run(command, root); err != nil {
			return err
		}
	}
	return nil
}

// BuildRoost compiles one of the main module's commands, roost or roost-load, into the folder into.
func BuildRoost(root, into, name string) error {
	command := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(into, name), "./cmd/"+name)
	return run(command, filepath.Dir(root))
}

func run(command *exec.Cmd, folder string) error {
	command.Dir = folder
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("fleet: %s: %w\n%s", command, err, output)
	}
	return nil
}
