package docs

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// anchors are the targets within a page, as GitHub makes them from headings.
func (p *page) anchors() map[string]bool {
	all := map[string]bool{}
	for _, h := range p.headings {
		base := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, h)
		name := base
		for i := 1; all[name]; i++ {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		all[name] = true
	}
	return all
}

// tree is what links may lead to.
type tree struct {
	exists func(name string) bool
	page   func(name string) *page // nil where it is none
}

// brokenLinks names the links of a page that lead nowhere within the tree.
func (tr tree) brokenLinks(p *page) (problems []string) {
	for _, l := range p.links {
		u, err := url.Parse(l.text)
		if err != nil {
			problems = append(problems, p.at(l.line)+err.Error())
			continue
		}
		if u.IsAbs() {
			continue
		}
		target := p
		if u.Path != "" {
			name := path.Join(path.Dir(p.name), u.Path)
			if strings.HasPrefix(u.Path, "/") || strings.HasPrefix(name, "..") || !tr.exists(name) {
				problems = append(problems, fmt.Sprintf("%sthe link %s leads nowhere", p.at(l.line), l.text))
				continue
			}
			target = tr.page(name)
		}
		if u.Fragment != "" && (target == nil || !target.anchors()[u.Fragment]) {
			problems = append(problems, fmt.Sprintf("%sthe link %s names no heading there", p.at(l.line), l.text))
		}
	}
	return problems
}

func TestLinks(t *testing.T) {
	tr := tree{
		exists: func(name string) bool { _, err := os.Stat(filepath.Join(root, name)); return err == nil },
		page: func(name string) *page {
			if !strings.HasSuffix(name, ".md") {
				return nil
			}
			return parse(name, read(t, name))
		},
	}
	links := 0
	for _, p := range pages(t) {
		links += len(p.links)
		report(t, tr.brokenLinks(p))
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

func TestLinksAreChecked(t *testing.T) {
	other := parse("docs/other.md", []byte("# Other page\n\n## What it's `for`\n\n## Twice\n\n## Twice\n"))
	tr := tree{
		exists: func(name string) bool { return name == "docs/other.md" || name == "deploy" || name == "docs/page.md" },
		page: func(name string) *page {
			if name == other.name {
				return other
			}
			return nil
		},
	}
	refuses(t, []wrong{
		{"[a](other.md) [b](other.md#what-its-for) [c](other.md#twice-1) [d](../deploy) [e](https://example.com/x.md)", ""},
		{"# Here\n[a](#here)", ""},
		{"[a](gone.md)", "docs/page.md:1: the link gone.md leads nowhere"},
		{"\n\n![a](images/gone.png)", "docs/page.md:3: the link images/gone.png"},
		{"[a](other.md#what-it-is-for)", "names no heading"},
		{"[a](other.md#twice-2)", "names no heading"},
		{"# Here\n[a](#there)", "names no heading"},
		{"[a](../deploy#here)", "names no heading"},
		{"[a](/docs/other.md)", "leads nowhere"},
		{"[a](../../other.md)", "leads nowhere"},
		{"[a][b]\n\n[b]: gone.md", "leads nowhere"},
	}, func(sample string) []string { return tr.brokenLinks(parse("docs/page.md", []byte(sample))) })
}

// index is the page that lists all others.
const index = "docs/README.md"

// unlisted names the pages that the index has no line for.
func unlisted(index *page, all []*page) (problems []string) {
	for _, p := range all {
		dir, name := path.Split(p.name)
		if dir != "docs/" || p.name == index.name {
			continue
		}
		listed := false
		for _, l := range index.links {
			listed = listed || l.text == name
		}
		if !listed {
			problems = append(problems, fmt.Sprintf("%s has no line for %s", index.name, p.name))
		}
	}
	return problems
}

func TestIndex(t *testing.T) {
	report(t, unlisted(parse(index, read(t, index)), pages(t)))

	two := []*page{{name: "docs/one.md"}, {name: "docs/two.md"}, {name: "README.md"}, {name: "docs/adr/0001.md"}, {name: index}}
	refuses(t, []wrong{
		{"- [One](one.md)\n- [Two](two.md#there)\n- [Two](two.md)", ""},
		{"- [One](one.md): and two.md", "no line for docs/two.md"},
	}, func(sample string) []string { return unlisted(parse(index, []byte(sample)), two) })
}

// maxColumns is what a line of a page may have. Tables, links and examples cannot be broken.
const maxColumns = 120

// illShaped names what readers or editors would stumble over.
func illShaped(p *page) (problems []string) {
	if len(p.headings) == 0 || !strings.HasPrefix(string(p.source), "# ") {
		problems = append(problems, p.at(1)+"a page begins with its title, # Title")
	}
	free := map[int]bool{}
	for _, b := range p.blocks {
		for i := range strings.Count(b.text, "\n") {
			free[b.line+i] = true
		}
	}
	for i, line := range strings.Split(string(p.source), "\n") {
		switch n := utf8.RuneCountInString(line); {
		case strings.HasSuffix(line, " "), strings.HasSuffix(line, "\t"), strings.HasSuffix(line, "\r"):
			problems = append(problems, p.at(i+1)+"the line ends in white space")
		case n > maxColumns && !free[i+1] && !strings.HasPrefix(line, "|") && !strings.Contains(line, "]("):
			problems = append(problems, fmt.Sprintf("%sthe line has %d columns, at most %d are allowed", p.at(i+1), n, maxColumns))
		}
	}
	return problems
}

func TestShape(t *testing.T) {
	for _, p := range pages(t) {
		if p.name == "docs/dependencies.md" { // whose lines are read one by one
			continue
		}
		report(t, illShaped(p))
	}
	long := strings.Repeat("word ", 24) + "x"
	refuses(t, []wrong{
		{"# Title\n\nText.\n\n    " + long + "\n\n| a |\n|---|\n| " + long + " |\n", ""},
		{"Text.\n", "begins with its title"},
		{"# Title\n\n" + long + "\n", "docs/page.md:3: the line has 121 columns"},
		{"# Title\n\nText. \n", "docs/page.md:3: the line ends in white space"},
	}, func(sample string) []string { return illShaped(parse("docs/page.md", []byte(sample))) })
}
