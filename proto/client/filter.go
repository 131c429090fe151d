package client

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/centrifugal/protocol"
)

// Limits of a filter.
const (
	filterDepth  = 16
	filterNodes  = 64
	filterVals   = 256 // of all nodes
	filterString = 255 // bytes of a key or value
)

// ErrFilter is what all errors of CompileFilter are; they say what is wrong where.
var ErrFilter = errors.New("client: bad filter")

func filterError(where, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrFilter, where, fmt.Sprintf(format, args...))
}

// Filter decides by its tags whether a client gets a publication. Any goroutine.
type Filter struct {
	op, cmp  string
	key, val string
	number   decimal // val, for numeric comparisons
	vals     []string
	nodes    []*Filter
}

// CompileFilter checks a filter and copies it. Errors are ErrFilter.
func CompileFilter(n *protocol.FilterNode) (*Filter, error) {
	return (&compiler{nodes: filterNodes, vals: filterVals}).compile(n, filterDepth, "filter")
}

// compiler counts what a filter may still have.
type compiler struct{ nodes, vals int }

func (c *compiler) compile(n *protocol.FilterNode, depth int, where string) (*Filter, error) {
	c.nodes--
	switch {
	case n == nil:
		return nil, filterError(where, "missing")
	case depth == 0:
		return nil, filterError(where, "deeper than %d", filterDepth)
	case c.nodes < 0:
		return nil, filterError(where, "more than %d nodes", filterNodes)
	case n.Op == "":
		return c.compileLeaf(n, where)
	case n.Op != "and" && n.Op != "or" && n.Op != "not":
		return nil, filterError(where, `op is %q, must be "", "and", "or" or "not"`, n.Op)
	case len(n.Nodes) == 0:
		return nil, filterError(where, "%q needs nodes", n.Op)
	case n.Op == "not" && len(n.Nodes) > 1:
		return nil, filterError(where, `"not" has %d nodes, needs one`, len(n.Nodes))
	}
	f := &Filter{op: strings.Clone(n.Op)}
	for i, x := range n.Nodes {
		child, err := c.compile(x, depth-1, where+"."+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, child)
	}
	return f, nil
}

var (
	filterOne     = []string{"eq", "neq", "sw", "ew", "ct"}
	filterSet     = []string{"in", "nin"}
	filterExists  = []string{"ex", "nex"}
	filterNumeric = []string{"lt", "lte", "gt", "gte"}
)

func (c *compiler) compileLeaf(n *protocol.FilterNode, where string) (*Filter, error) {
	if c.vals -= len(n.Vals); c.vals < 0 {
		return nil, filterError(where, "more than %d vals", filterVals)
	}
	f := &Filter{cmp: strings.Clone(n.Cmp), key: strings.Clone(n.Key), val: strings.Clone(n.Val)}
	for _, v := range n.Vals {
		f.vals = append(f.vals, strings.Clone(v))
	}
	for _, v := range append([]string{f.key, f.val}, f.vals...) {
		if len(v) > filterString {
			return nil, filterError(where, "a string of %d bytes, at most %d are allowed", len(v), filterString)
		}
	}
	switch numeric := slices.Contains(filterNumeric, f.cmp); {
	case slices.Contains(filterExists, f.cmp):
		return f, nil
	case f.key == "":
		return nil, filterError(where, "key is missing")
	case slices.Contains(filterSet, f.cmp):
		if len(f.vals) == 0 {
			return nil, filterError(where, "%q needs vals", f.cmp)
		}
	case !numeric && !slices.Contains(filterOne, f.cmp):
		return nil, filterError(where, "cmp is %q, must be eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt or gte", f.cmp)
	case f.val == "":
		return nil, filterError(where, "%q needs val", f.cmp)
	case numeric:
		var ok bool
		if f.number, ok = parseDecimal(f.val); !ok {
			return nil, filterError(where, "%q needs a decimal number, val is %q", f.cmp, f.val)
		}
	}
	return f, nil
}

// Node returns what CompileFilter makes an equal filter of.
func (f *Filter) Node() *protocol.FilterNode {
	n := &protocol.FilterNode{Op: f.op, Cmp: f.cmp, Key: f.key, Val: f.val, Vals: f.vals}
	for _, x := range f.nodes {
		n.Nodes = append(n.Nodes, x.Node())
	}
	return n
}

// Match tells whether a publication with these tags passes.
func (f *Filter) Match(tags map[string]string) bool {
	switch f.op {
	case "and":
		return !slices.ContainsFunc(f.nodes, func(x *Filter) bool { return !x.Match(tags) })
	case "or":
		return slices.ContainsFunc(f.nodes, func(x *Filter) bool { return x.Match(tags) })
	case "not":
		return !f.nodes[0].Match(tags)
	}
	v, exists := tags[f.key]
	switch f.cmp {
	case "ex":
		return exists
	case "nex":
		return !exists
	case "neq":
		return !exists || v != f.val
	case "in":
		return slices.Contains(f.vals, v)
	case "nin":
		return !slices.Contains(f.vals, v)
	}
	return exists && f.compare(v)
}

func (f *Filter) compare(v string) bool {
	switch f.cmp {
	case "eq":
		return v == f.val
	case "sw":
		return strings.HasPrefix(v, f.val)
	case "ew":
		return strings.HasSuffix(v, f.val)
	case "ct":
		return strings.Contains(v, f.val)
	}
	x, ok := parseDecimal(v)
	if !ok {
		return false
	}
	switch order := x.compare(f.number); f.cmp {
	case "lt":
		return order < 0
	case "lte":
		return order <= 0
	case "gt":
		return order > 0
	default:
		return order >= 0
	}
}

// decimal is a number as digits: ids of 64 bits and prices compare exactly.
type decimal struct {
	negative        bool
	whole, fraction string // without zeros at the outer ends
}

// parseDecimal takes what [+-]?[0-9]+([.][0-9]+)? matches.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	whole, fraction, point := strings.Cut(s, ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	if !digits(whole) || point && !digits(fraction) {
		return decimal{}, false
	}
	d.whole, d.fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if d.whole == "" && d.fraction == "" {
		d.negative = false
	}
	return d, true
}

func (d decimal) compare(o decimal) int {
	if d.negative != o.negative {
		if d.negative {
			return -1
		}
		return 1
	}
	if d.negative {
		d, o = o, d
	}
	return cmp.Or(cmp.Compare(len(d.whole), len(o.whole)), cmp.Compare(d.whole, o.whole), cmp.Compare(d.fraction, o.fraction))
}
