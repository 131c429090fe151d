package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"roost/internal/proctest"
)

// What the tests share, built by the first that needs it.
var (
	workDir  string
	roostBin = sync.OnceValues(func() (string, error) { return proctest.Build(workDir, "roost", "roost/cmd/roost") })
	loadBin  = sync.OnceValues(func() (string, error) { return proctest.Build(workDir, "roost-load", "roost/cmd/roost-load") })
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if workDir, err = os.MkdirTemp("", "roost-docs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(workDir)
	return m.Run()
}

func binary(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// program is one of ours as its help has it.
type program struct {
	name     string
	commands map[string]map[string]bool // flags by command
	flags    map[string]bool            // of any command
	env      map[string]bool            // variables
}

var (
	helpFlag    = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--(\[no-\])?([a-z0-9-]+)`)
	helpEnv     = regexp.MustCompile(`\$(ROOST_[A-Z_]+)`)
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z]+)(?: |$)`)
)

// help asks a program for its commands and their flags.
func help(t testing.TB, name, path string) program {
	t.Helper()
	ask := func(args ...string) []byte {
		out, err := exec.Command(path, append(args, "--help")...).Output()
		if err != nil {
			t.Fatalf("%s %v --help: %v", name, args, err)
		}
		return out
	}
	p := program{name: name, commands: map[string]map[string]bool{}, flags: map[string]bool{}, env: map[string]bool{}}
	_, list, found := bytes.Cut(ask(), []byte("Commands:"))
	if !found {
		t.Fatalf("%s --help lists no commands", name)
	}
	for _, m := range helpCommand.FindAllSubmatch(list, -1) {
		flags := map[string]bool{}
		text := ask(string(m[1]))
		for _, variable := range helpEnv.FindAllSubmatch(text, -1) {
			p.env[string(variable[1])] = true
		}
		for _, f := range helpFlag.FindAllSubmatch(text, -1) {
			flag := string(f[2])
			flags[flag], p.flags[flag] = true, true
			if len(f[1]) > 0 {
				flags["no-"+flag], p.flags["no-"+flag] = true, true
			}
		}
		p.commands[string(m[1])] = flags
	}
	return p
}

var askedPrograms map[string]program

// programs are ours, by the names of their binaries. They are asked once.
func programs(t testing.TB) map[string]program {
	t.Helper()
	if askedPrograms != nil {
		return askedPrograms
	}
	all := map[string]program{
		"roost":      help(t, "roost", binary(t, roostBin)),
		"roost-load": help(t, "roost-load", binary(t, loadBin)),
	}
	for name, least := range map[string]int{"roost": 40, "roost-load": 15} {
		if n := len(all[name].flags); n < least {
			t.Fatalf("the help of %s has only %d flags: %v", name, n, all[name].flags)
		}
	}
	askedPrograms = all
	return all
}

// goSources are all Go files of the programs, tests left out, as one text.
var goSources = sync.OnceValues(func() (string, error) {
	var all bytes.Buffer
	for _, dir := range []string{"admin", "api", "auth", "backend", "broker", "cmd", "conn", "gateway", "hub", "internal", "poller", "proto"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(name string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" || testFile.MatchString(name) {
				return err
			}
			b, err := os.ReadFile(name)
			all.Write(b)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return all.String(), nil
})

var testFile = regexp.MustCompile(`_test\.go$`)

func sources(t testing.TB) string {
	t.Helper()
	all, err := goSources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
