// Package imports enforces the rules about how roost's packages hang together: the rooms of docs/architecture.md, the
// dependencies of docs/dependencies.md, and the size limits of files and functions.
package imports

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root             = "../.."
	architectureFile = "docs/architecture.md"
	dependenciesFile = "docs/dependencies.md"
)

// goPackage is what `go list -json` says of one package, as far as the rules need it.
type goPackage struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       *struct {
		Path string
		Main bool
	}
}

func (p goPackage) ours() bool { return p.Module != nil && p.Module.Main }

// room is the package's path inside the module.
func (p goPackage) path() string { return strings.TrimPrefix(p.ImportPath, p.Module.Path+"/") }

func (p goPackage) allImports() []string {
	return slices.Concat(p.Imports, p.TestImports, p.XTestImports)
}

// listPackages returns every package of the module and all it depends on, tests included, as one system's build sees
// them.
func listPackages(t *testing.T, system string) map[string]goPackage {
	t.Helper()
	command := exec.Command("go", "list", "-deps", "-test", "-json=ImportPath,Standard,Imports,TestImports,XTestImports,Module", "./...")
	command.Dir = root
	command.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list for %s: %v", system, err)
	}
	packages := map[string]goPackage{}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("go list for %s: %v", system, err)
		}
		// A package rebuilt for a test ("a [b.test]") and a test's main ("b.test") repeat what the plain one says.
		if !strings.ContainsRune(p.ImportPath, ' ') && !strings.HasSuffix(p.ImportPath, ".test") {
			packages[p.ImportPath] = p
		}
	}
}

// eachSystem runs a check on the packages as Linux, macOS and Windows builds see them.
func eachSystem(t *testing.T, check func(t *testing.T, packages map[string]goPackage)) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		t.Run(system, func(t *testing.T) { check(t, listPackages(t, system)) })
	}
}

// room is one row of the table in docs/architecture.md.
type room struct {
	path  string
	may   []string // rooms of ours it may import
	alone []string // third-party modules that no other room may import
}

var quoted = regexp.MustCompile("`([^`]+)`")

func quotedIn(cell string) (words []string) {
	for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
		words = append(words, match[1])
	}
	return words
}

func readRooms(t *testing.T) []room {
	t.Helper()
	var rooms []room
	for line := range strings.Lines(readFile(t, architectureFile)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 {
			t.Fatalf("%s: this row has %d cells, not 4: %s", architectureFile, len(cells), line)
		}
		rooms = append(rooms, room{quotedIn(cells[0])[0], quotedIn(cells[2]), quotedIn(cells[3])})
	}
	if len(rooms) == 0 {
		t.Fatalf("%s holds no table of rooms", architectureFile)
	}
	return rooms
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// within says whether an import path is the given one or lies below it.
func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

// roomOf finds the room of a path inside the module: the longest row that holds it.
func roomOf(rooms []room, path string) (room, bool) {
	var found room
	for _, r := range rooms {
		if within(path, r.path) && len(r.path) > len(found.path) {
			found = r
		}
	}
	return found, found.path != ""
}

// TestRoomsHaveNoCircle: rows may name only rows above them, so the rooms form no circle, whatever Go's own check of
// packages allows.
func TestRoomsHaveNoCircle(t *testing.T) {
	var above []string
	for _, r := range readRooms(t) {
		for _, other := range r.may {
			if !slices.Contains(above, other) {
				t.Errorf("%s: row `%s` names `%s`, which is no row above it", architectureFile, r.path, other)
			}
		}
		above = append(above, r.path)
	}
}

// TestRoomsExist keeps rows of packages that are gone out of the table.
func TestRoomsExist(t *testing.T) {
	packages := listPackages(t, "linux")
	for _, r := range readRooms(t) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(packages)), func(p goPackage) bool {
			return p.ours() && within(p.path(), r.path)
		}) {
			t.Errorf("%s: there is no package for the row `%s`", architectureFile, r.path)
		}
	}
}

// TestRoomsImport compares what packages import, apart from their tests, with the table.
func TestRoomsImport(t *testing.T) {
	rooms := readRooms(t)
	eachSystem(t, func(t *testing.T, packages map[string]goPackage) {
		for _, p := range packages {
			if !p.ours() {
				continue
			}
			from, ok := roomOf(rooms, p.path())
			if !ok {
				t.Errorf("%s: package %s has no row", architectureFile, p.path())
				continue
			}
			for _, path := range p.Imports {
				imported, known := packages[path]
				if !known || !imported.ours() {
					continue
				}
				to, ok := roomOf(rooms, imported.path())
				if ok && to.path != from.path && !slices.Contains(from.may, to.path) {
					t.Errorf("%s imports %s, but the row `%s` of %s allows only %v",
						p.path(), imported.path(), from.path, architectureFile, from.may)
				}
			}
		}
	})
}

// TestLibrariesHaveOneRoom holds libraries that have a room to it, tests included. The
// examples are other people's programs.
func TestLibrariesHaveOneRoom(t *testing.T) {
	rooms := readRooms(t)
	eachSystem(t, func(t *testing.T, packages map[string]goPackage) {
		for _, p := range packages {
			if !p.ours() || within(p.path(), "examples") {
				continue
			}
			from, _ := roomOf(rooms, p.path())
			for _, path := range p.allImports() {
				for _, owner := range rooms {
					if owner.path != from.path && slices.ContainsFunc(owner.alone, func(library string) bool { return within(path, library) }) {
						t.Errorf("%s imports %s, but the row `%s` of %s says that it alone imports it",
							p.path(), path, owner.path, architectureFile)
					}
				}
			}
		}
	})
}

// TestProtocolIsPure keeps input and output out of the codec.
func TestProtocolIsPure(t *testing.T) {
	impure := []string{"os", "syscall", "crypto/tls", "golang.org/x/sys"}
	eachSystem(t, func(t *testing.T, packages map[string]goPackage) {
		for _, p := range packages {
			if !p.ours() || !within(p.path(), "proto") {
				continue
			}
			for _, path := range p.Imports {
				// Packages below net are of their own: net/url does no input or output, and for net/http see architectureFile.
				if path == "net" || slices.ContainsFunc(impure, func(refused string) bool { return within(path, refused) }) {
					t.Errorf("%s imports %s, but %s keeps proto free of input and output", p.path(), path, architectureFile)
				}
			}
		}
	})
}

// dependencyLine is an entry of docs/dependencies.md: a path and its one sentence.
var dependencyLine = regexp.MustCompile("^- `([^`]+)`: (\\S.*\\.)$")

// readDependencies returns the entries of one section of docs/dependencies.md.
func readDependencies(t *testing.T, section string) map[string]string {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, dependenciesFile), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %q", dependenciesFile, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	entries := map[string]string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") {
			continue
		}
		match := dependencyLine.FindStringSubmatch(line)
		if match == nil {
			t.Errorf("%s, %s: not of the form \"- `path`: sentence.\": %s", dependenciesFile, section, line)
			continue
		}
		entries[match[1]] = match[2]
	}
	if len(entries) == 0 {
		t.Fatalf("%s, %s: no entry", dependenciesFile, section)
	}
	return entries
}

// TestDependenciesHaveAReason compares the modules that our packages import themselves with their list, both ways.
func TestDependenciesHaveAReason(t *testing.T) {
	reasons := readDependencies(t, "Direct dependencies")
	used := map[string]string{} // module → a package of ours that imports it
	for _, system := range []string{"linux", "darwin", "windows"} {
		packages := listPackages(t, system)
		for _, p := range packages {
			if !p.ours() {
				continue
			}
			for _, path := range p.allImports() {
				if module := packages[path].Module; module != nil && !module.Main {
					used[module.Path] = p.path()
				}
			}
		}
	}
	for module, by := range used {
		if reasons[module] == "" {
			t.Errorf("%s imports from %s, which has no sentence in %s", by, module, dependenciesFile)
		}
	}
	for module := range reasons {
		if used[module] == "" {
			t.Errorf("%s lists %s, which no package imports", dependenciesFile, module)
		}
	}
}

// TestRefusedImports looks for the packages that docs/dependencies.md refuses, in tests, too.
func TestRefusedImports(t *testing.T) {
	refused := readDependencies(t, "Refused")
	eachSystem(t, func(t *testing.T, packages map[string]goPackage) {
		for _, p := range slices.SortedFunc(maps.Values(packages), func(a, b goPackage) int { return cmp.Compare(a.ImportPath, b.ImportPath) }) {
			if !p.ours() {
				continue
			}
			for _, path := range p.allImports() {
				for parent, reason := range refused {
					// A standard package's children are packages of their own: log/slog is not log.
					if path == parent || (strings.Contains(parent, ".") && within(path, parent)) {
						t.Errorf("%s imports %s, refused by %s: %s", p.path(), path, dependenciesFile, reason)
					}
				}
			}
		}
	})
}
