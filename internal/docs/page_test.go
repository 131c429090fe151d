// Package docs checks the documentation: that links lead somewhere, that examples are ones the
// programs accept, and that names and codes are the ones of the code. docs/contributing.md says
// what that asks of a page.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

const root = "../.."

// page is one file in Markdown, taken apart.
type page struct {
	name     string // from the root of the tree
	source   []byte
	headings []string
	links    []spot
	blocks   []block
	spans    []spot // inline code
	tables   []table
}

// spot is a piece of text and where it stands.
type spot struct {
	text string
	line int
}

// block is an example.
type block struct {
	language string // "" where it is not fenced
	text     string
	line     int // of its first line
}

// table is one with a head; cells are plain text.
type table struct {
	line int
	rows [][]string
}

// at is how problems name a place.
func (p *page) at(line int) string { return fmt.Sprintf("%s:%d: ", p.name, line) }

var markdown = goldmark.New(goldmark.WithExtensions(extension.Table))

func parse(name string, source []byte) *page {
	p := &page{name: name, source: source}
	document := markdown.Parser().Parse(text.NewReader(source))
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.take(n)
		}
		return ast.WalkContinue, nil
	})
	return p
}

func (p *page) take(n ast.Node) {
	switch n := n.(type) {
	case *ast.Heading:
		p.headings = append(p.headings, p.plain(n))
	case *ast.Link:
		p.links = append(p.links, spot{string(n.Destination), p.lineOf(n)})
	case *ast.Image:
		p.links = append(p.links, spot{string(n.Destination), p.lineOf(n)})
	case *ast.CodeSpan:
		p.spans = append(p.spans, spot{p.plain(n), p.lineOf(n)})
	case *ast.FencedCodeBlock:
		p.addBlock(string(n.Language(p.source)), n.Lines())
	case *ast.CodeBlock:
		p.addBlock("", n.Lines())
	default:
		if n.Kind().String() == "Table" {
			p.addTable(n)
		}
	}
}

func (p *page) addBlock(language string, lines *text.Segments) {
	if lines.Len() > 0 {
		p.blocks = append(p.blocks, block{language, string(lines.Value(p.source)), p.line(lines.At(0).Start)})
	}
}

func (p *page) addTable(n ast.Node) {
	t := table{line: p.lineOf(n)}
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		var cells []string
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			cells = append(cells, p.plain(cell))
		}
		t.rows = append(t.rows, cells)
	}
	p.tables = append(p.tables, t)
}

// plain is the text of a node without its marks.
func (p *page) plain(n ast.Node) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Value(p.source))
			if t.SoftLineBreak() {
				b.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// lineOf is the line of a node: that of the first text in it, or of the block around it.
func (p *page) lineOf(n ast.Node) int {
	line := 0
	_ = ast.Walk(n, func(n ast.Node, _ bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok {
			line = p.line(t.Segment.Start)
			return ast.WalkStop, nil
		}
		return ast.WalkContinue, nil
	})
	for ; line == 0 && n != nil; n = n.Parent() {
		if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
			line = p.line(n.Lines().At(0).Start)
		}
	}
	return line
}

func (p *page) line(offset int) int { return 1 + strings.Count(string(p.source[:offset]), "\n") }

// read returns a file of the tree.
func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pages returns README.md and all pages below docs.
func pages(t testing.TB) (all []*page) {
	t.Helper()
	names := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	if len(names) < 10 {
		t.Fatalf("only %d pages were found: %v", len(names), names)
	}
	for _, name := range names {
		name, _ = filepath.Rel(root, name)
		all = append(all, parse(filepath.ToSlash(name), read(t, name)))
	}
	return all
}

// report fails the test for each problem.
func report(t *testing.T, problems []string) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

// wrong is a sample that a check must refuse, with a part of what it must say; an empty
// one must pass.
type wrong struct{ sample, says string }

// refuses holds a check to its samples, since one that never fails shows nothing.
func refuses(t *testing.T, samples []wrong, check func(sample string) []string) {
	t.Helper()
	for _, w := range samples {
		problems := check(w.sample)
		switch {
		case w.says == "" && len(problems) > 0:
			t.Errorf("this is right, but the check says %q:\n%s", problems, w.sample)
		case w.says != "" && !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, w.says) }):
			t.Errorf("the check says %q, not %q, of this:\n%s", problems, w.says, w.sample)
		}
	}
}

// write makes a file.
func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hasFile tells whether the tree has a file.
func hasFile(name string) bool { _, err := os.Stat(filepath.Join(root, name)); return err == nil }
