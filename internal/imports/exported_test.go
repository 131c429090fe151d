package imports

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// library are the packages that other programs use.
var library = []string{"proto/ws", "proto/client", "poller", "poller/ktls", "conn", "auth", "broker", "hub", "gateway", "emulation", "api", "backend", "admin", "service", "service/sync", "service/front", "client"}

// undocumented names what is exported by the files of one package without a word about it.
func undocumented(files *token.FileSet, path string, parsed []*ast.File) (missing []string) {
	p, err := doc.NewFromFiles(files, parsed, path)
	if err != nil {
		return []string{err.Error()}
	}
	look := func(text string, names ...string) {
		if text == "" {
			missing = append(missing, path+": "+strings.Join(names, ", "))
		}
	}
	values := func(groups []*doc.Value) {
		for _, g := range groups {
			said := g.Doc
			for _, s := range g.Decl.Specs {
				v := s.(*ast.ValueSpec)
				if said == "" && v.Doc == nil && v.Comment == nil {
					look("", g.Names...)
					break
				}
			}
		}
	}
	funcs := func(all []*doc.Func) {
		for _, f := range all {
			look(f.Doc, f.Recv+" "+f.Name)
		}
	}
	look(p.Doc, "the package itself")
	funcs(p.Funcs)
	values(append(p.Consts, p.Vars...))
	for _, t := range p.Types {
		look(t.Doc, t.Name)
		funcs(append(t.Funcs, t.Methods...))
		values(append(t.Consts, t.Vars...))
	}
	return missing
}

// parsePackage reads a folder's files but for its tests.
func parsePackage(t *testing.T, folder string) (*token.FileSet, []*ast.File) {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(files, filepath.Join(folder, e.Name()), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	return files, parsed
}

// Whoever uses a package as a library finds a word about all that it exports.
func TestExportedIsDocumented(t *testing.T) {
	for _, path := range library {
		files, parsed := parsePackage(t, filepath.Join(root, path))
		for _, what := range undocumented(files, path, parsed) {
			t.Errorf("%s has no comment", what)
		}
	}
}

func TestExportedIsChecked(t *testing.T) {
	const source = "package p\n\nconst A = 1\n\n// B is said.\nvar B = 2\n\ntype C struct{}\n\nfunc (C) D() {}\n\nfunc E() {}\n\nfunc f() {}\n"
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(undocumented(files, "p", []*ast.File{f}), "; "); got != "p: the package itself; p:  E; p: A; p: C; p: C D" {
		t.Errorf("%s", got)
	}
}
