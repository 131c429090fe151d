package client

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"
)

func leaf(key, cmp, val string, vals ...string) *protocol.FilterNode {
	return &protocol.FilterNode{Key: key, Cmp: cmp, Val: val, Vals: vals}
}

func node(op string, nodes ...*protocol.FilterNode) *protocol.FilterNode {
	return &protocol.FilterNode{Op: op, Nodes: nodes}
}

func nested(depth int) *protocol.FilterNode {
	n := leaf("k", "ex", "")
	for range depth - 1 {
		n = node("not", n)
	}
	return n
}

func many(n int) *protocol.FilterNode {
	f := node("or")
	for range n - 1 {
		f.Nodes = append(f.Nodes, leaf("k", "ex", ""))
	}
	return f
}

func TestFilter(t *testing.T) {
	tags := map[string]string{"lang": "en", "price": "10.50", "id": "9007199254740993", "low": "-3", "word": "abc"}
	for _, c := range []struct {
		name string
		f    *protocol.FilterNode
		want bool
	}{
		{"eq", leaf("lang", "eq", "en"), true},
		{"eq other", leaf("lang", "eq", "de"), false},
		{"eq missing", leaf("none", "eq", "x"), false},
		{"neq", leaf("lang", "neq", "de"), true},
		{"neq same", leaf("lang", "neq", "en"), false},
		{"neq missing", leaf("none", "neq", "x"), true},
		{"in", leaf("lang", "in", "", "de", "en"), true},
		{"in missing", leaf("none", "in", "", "de"), false},
		{"in missing is empty", leaf("none", "in", "", ""), true},
		{"nin", leaf("lang", "nin", "", "de"), true},
		{"nin same", leaf("lang", "nin", "", "en"), false},
		{"nin missing is empty", leaf("none", "nin", "", ""), false},
		{"ex", leaf("lang", "ex", ""), true},
		{"ex missing", leaf("none", "ex", ""), false},
		{"nex", leaf("none", "nex", ""), true},
		{"nex there", leaf("lang", "nex", ""), false},
		{"sw", leaf("word", "sw", "ab"), true},
		{"sw not", leaf("word", "sw", "bc"), false},
		{"ew", leaf("word", "ew", "bc"), true},
		{"ew not", leaf("word", "ew", "ab"), false},
		{"ct", leaf("word", "ct", "b"), true},
		{"ct missing", leaf("none", "ct", "b"), false},
		{"lt", leaf("price", "lt", "10.6"), true},
		{"lt longer", leaf("price", "lt", "9.9"), false},
		{"lt same", leaf("price", "lt", "10.5"), false},
		{"lte same", leaf("price", "lte", "+010.5"), true},
		{"gt", leaf("price", "gt", "10.49"), true},
		{"gte same", leaf("price", "gte", "10.500"), true},
		{"gt exact beyond 2^53", leaf("id", "gt", "9007199254740992"), true},
		{"negative lt", leaf("low", "lt", "-2"), true},
		{"negative gt", leaf("low", "gt", "-30"), true},
		{"negative and positive", leaf("low", "lt", "0"), true},
		{"no number", leaf("word", "gte", "0"), false},
		{"number missing", leaf("none", "lt", "5"), false},
		{"and", node("and", leaf("lang", "eq", "en"), leaf("word", "ex", "")), true},
		{"and one not", node("and", leaf("lang", "eq", "en"), leaf("none", "ex", "")), false},
		{"or", node("or", leaf("none", "ex", ""), leaf("lang", "eq", "en")), true},
		{"or none", node("or", leaf("none", "ex", ""), leaf("lang", "eq", "de")), false},
		{"not", node("not", leaf("none", "ex", "")), true},
		{"as deep as allowed", nested(filterDepth), true},
		{"as many as allowed", many(filterNodes), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := CompileFilter(c.f)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(tags); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestFilterRefused(t *testing.T) {
	long := strings.Repeat("x", filterString+1)
	for _, c := range []struct {
		f    *protocol.FilterNode
		want string
	}{
		{nil, "filter: missing"},
		{node("and"), `"and" needs nodes`},
		{node("not", leaf("k", "ex", ""), leaf("k", "ex", "")), `"not" has 2 nodes`},
		{node("xor", leaf("k", "ex", "")), `op is "xor"`},
		{node("and", leaf("k", "ex", ""), nil), "filter.1: missing"},
		{leaf("k", "like", "x"), `cmp is "like"`},
		{leaf("", "eq", "x"), "key is missing"},
		{leaf("k", "eq", ""), `"eq" needs val`},
		{leaf("k", "in", "x"), `"in" needs vals`},
		{leaf("k", "lt", "ten"), "decimal number"},
		{leaf("k", "lt", "0x10"), "decimal number"},
		{leaf("k", "gt", "NaN"), "decimal number"},
		{leaf("k", "gt", "1e9"), "decimal number"},
		{leaf("k", "gt", "1."), "decimal number"},
		{leaf("k", "gt", ".5"), "decimal number"},
		{leaf("k", "gt", "-"), "decimal number"},
		{leaf(long, "ex", ""), "256 bytes"},
		{leaf("k", "eq", long), "256 bytes"},
		{leaf("k", "in", "", "a", long), "256 bytes"},
		{leaf("k", "in", "", make([]string, filterVals+1)...), "more than 256 vals"},
		{nested(filterDepth + 1), "deeper than 16"},
		{many(filterNodes + 1), "more than 64 nodes"},
	} {
		f, err := CompileFilter(c.f)
		if !errors.Is(err, ErrFilter) || !strings.Contains(err.Error(), c.want) || f != nil {
			t.Errorf("%v: got %v, want one that says %q", c.f, err, c.want)
		}
	}
}

// A filter outlives the message it came in, whose strings point into a buffer.
func TestFilterIsACopy(t *testing.T) {
	msg := []byte(`{"id":1,"subscribe":{"channel":"c","tf":{"op":"and","nodes":[{"key":"lang","cmp":"in","vals":["en","de"]}]}}}`)
	var f *Filter
	err := Decode(JSON, msg, func(c *protocol.Command) (err error) {
		f, err = CompileFilter(c.Subscribe.Tf)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range msg {
		msg[i] = 'x'
	}
	if !f.Match(map[string]string{"lang": "de"}) {
		t.Error("the filter changed with the message")
	}
}

func FuzzCompileFilter(f *testing.F) {
	for _, n := range []*protocol.FilterNode{
		leaf("lang", "eq", "en"), leaf("price", "lt", "-10.50"), leaf("k", "in", "", "a", "b"),
		node("and", leaf("k", "ex", ""), node("not", leaf("k", "sw", "v"))), nested(filterDepth + 1), node("or"),
	} {
		b, err := n.MarshalCF()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "k", "v")
	}
	f.Fuzz(func(t *testing.T, b []byte, key, val string) {
		n := new(protocol.FilterNode)
		if n.UnmarshalCF(b) != nil {
			return
		}
		c, err := CompileFilter(n)
		if err != nil {
			if !errors.Is(err, ErrFilter) {
				t.Fatalf("an error of another type: %v", err)
			}
			return
		}
		tags := map[string]string{key: val}
		not, err := CompileFilter(node("not", n))
		if err == nil && not.Match(tags) == c.Match(tags) {
			t.Error("not changed nothing")
		}
	})
}

func FuzzDecimal(f *testing.F) {
	f.Add(int64(1), int64(-1))
	f.Add(int64(0), int64(10))
	f.Add(int64(9007199254740993), int64(9007199254740992))
	f.Fuzz(func(t *testing.T, a, b int64) {
		x, okx := parseDecimal(strconv.FormatInt(a, 10))
		y, oky := parseDecimal(strconv.FormatInt(b, 10) + ".0")
		if !okx || !oky {
			t.Fatal("an integer is no decimal")
		}
		if got := x.compare(y); got < 0 != (a < b) || got > 0 != (a > b) {
			t.Errorf("compare(%d, %d) = %d", a, b, got)
		}
	})
}
