package client

import (
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
	filterString = 255 // bytes of a key or value
)

// Filter decides by its tags whether a client gets a publication. Any goroutine.
type Filter struct {
	op       string
	key, cmp string
	val      string
	number   float64 // val, for numeric comparisons
	vals     []string
	nodes    []*Filter
}

// CompileFilter checks a filter and copies it. The error says what is wrong where.
func CompileFilter(n *protocol.FilterNode) (*Filter, error) {
	left := filterNodes
	return compile(n, filterDepth, &left, "filter")
}

func compile(n *protocol.FilterNode, depth int, left *int, where string) (*Filter, error) {
	*left--
	switch {
	case n == nil:
		return nil, fmt.Errorf("client: %s is empty", where)
	case depth == 0:
		return nil, fmt.Errorf("client: %s is deeper than %d", where, filterDepth)
	case *left < 0:
		return nil, fmt.Errorf("client: a filter of more than %d nodes", filterNodes)
	case n.Op == "":
		return compileLeaf(n, where)
	case n.Op != "and" && n.Op != "or" && n.Op != "not":
		return nil, fmt.Errorf(`client: %s: op is %q, must be "", "and", "or" or "not"`, where, n.Op)
	case len(n.Nodes) == 0 || n.Op == "not" && len(n.Nodes) != 1:
		return nil, fmt.Errorf("client: %s: %q has %d nodes, needs at least one, not exactly one", where, n.Op, len(n.Nodes))
	}
	f := &Filter{op: strings.Clone(n.Op)}
	for i, x := range n.Nodes {
		c, err := compile(x, depth-1, left, where+"."+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, c)
	}
	return f, nil
}

var (
	filterOne     = []string{"eq", "neq", "sw", "ew", "ct"}
	filterSet     = []string{"in", "nin"}
	filterExists  = []string{"ex", "nex"}
	filterNumeric = []string{"lt", "lte", "gt", "gte"}
)

func compileLeaf(n *protocol.FilterNode, where string) (*Filter, error) {
	f := &Filter{cmp: strings.Clone(n.Cmp), key: strings.Clone(n.Key), val: strings.Clone(n.Val)}
	if f.key == "" {
		return nil, fmt.Errorf("client: %s: key is missing", where)
	}
	for _, v := range n.Vals {
		f.vals = append(f.vals, strings.Clone(v))
	}
	for _, v := range append([]string{f.key, f.val}, f.vals...) {
		if len(v) > filterString {
			return nil, fmt.Errorf("client: %s: a string of %d bytes, at most %d are allowed", where, len(v), filterString)
		}
	}
	switch {
	case slices.Contains(filterOne, f.cmp), slices.Contains(filterExists, f.cmp):
	case slices.Contains(filterSet, f.cmp):
		if len(f.vals) == 0 {
			return nil, fmt.Errorf("client: %s: %q needs vals", where, f.cmp)
		}
	case slices.Contains(filterNumeric, f.cmp):
		var err error
		if f.number, err = strconv.ParseFloat(f.val, 64); err != nil {
			return nil, fmt.Errorf("client: %s: %q needs a number, val is %q", where, f.cmp, f.val)
		}
	default:
		return nil, fmt.Errorf("client: %s: cmp is %q, must be eq, neq, in, nin, ex, nex, sw, ew, ct, lt, lte, gt or gte", where, f.cmp)
	}
	return f, nil
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
	x, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return false
	}
	switch f.cmp {
	case "lt":
		return x < f.number
	case "lte":
		return x <= f.number
	case "gt":
		return x > f.number
	}
	return x >= f.number
}
