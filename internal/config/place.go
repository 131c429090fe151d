package config

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"roost/internal/setting"
)

// placed is a problem and where it stands.
type placed struct {
	source string // a file, or a variable of the environment
	line   int    // 0: a variable as a whole
	err    error
}

func (p placed) Error() string {
	if p.line == 0 {
		return fmt.Sprintf("%s: %v", p.source, p.err)
	}
	return fmt.Sprintf("%s:%d: %v", p.source, p.line, p.err)
}

func (p placed) Unwrap() error { return p.err }

// source is a file or a variable that has been read.
type source struct {
	name string
	root *yaml.Node
}

// place returns err with the place of the setting it is about: the file's line, or the
// variable. What comes from the command line, or from nowhere, has none.
func (c *Config) place(err error) error {
	path := setting.Path(err)
	if len(path) == 0 || c.given[path[0]] {
		return err
	}
	variable := envName(path[0])
	if block, ok := c.blocks[path[0]]; ok {
		return placed{variable, max(1, lineOf(block, path[1:])), err}
	}
	if _, ok := os.LookupEnv(variable); ok {
		return placed{variable, 0, err}
	}
	if line := lineOf(c.file.root, path); line > 0 {
		return placed{c.file.name, line, err}
	}
	return err
}

// wrong is a problem with settings, placed at the first of them that has a place.
func (c *Config) wrong(err error, names ...string) error {
	for _, name := range names {
		if at := c.place(setting.At(err, name)); isPlaced(at) {
			return at
		}
	}
	return err
}

func isPlaced(err error) bool {
	_, ok := err.(placed)
	return ok
}

// lineOf is the line of the setting that path leads to, or of what is nearest around it;
// 0 if there is nothing of it.
func lineOf(n *yaml.Node, path []string) (line int) {
	for _, name := range path {
		if n != nil && n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		at, next := entry(n, name)
		if next == nil {
			return line
		}
		line, n = at, next
	}
	return line
}

// entry finds a key of a mapping or a place in a list.
func entry(n *yaml.Node, name string) (line int, value *yaml.Node) {
	if n == nil {
		return 0, nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				return n.Content[i].Line, n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(name); err == nil && i < len(n.Content) {
			return n.Content[i].Line, n.Content[i]
		}
	}
	return 0, nil
}

// inOrder sorts problems by their lines. Those without a place come last.
func inOrder(all []error) []error {
	slices.SortStableFunc(all, func(a, b error) int {
		p, ok := a.(placed)
		if !ok {
			p.line = math.MaxInt
		}
		q, ok := b.(placed)
		if !ok {
			q.line = math.MaxInt
		}
		return cmp.Compare(p.line, q.line)
	})
	return all
}
