package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/centrifugal/fdelta"
	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

// payload takes the message out of an unmasked frame.
func payload(t testing.TB, p *ws.Prepared, want ws.Opcode) []byte {
	t.Helper()
	b := p.Frame(false)
	if op := ws.Opcode(b[0] & 0x0f); op != want {
		t.Fatalf("opcode %v, want %v", op, want)
	}
	switch b[1] {
	case 126:
		return b[4:]
	case 127:
		return b[10:]
	}
	return b[2:]
}

func push(t testing.TB, f *Frame, s Shape) *protocol.Push {
	t.Helper()
	op := ws.OpText
	if s.Encoding == Protobuf {
		op = ws.OpBinary
	}
	got := replies(t, s.Encoding, payload(t, f.Prepared(s), op))
	if len(got) != 1 || got[0].Id != 0 || got[0].Push == nil {
		t.Fatalf("%v: no push: %v", s, got)
	}
	return got[0].Push
}

const (
	before = `{"text":"the quick brown fox jumps over the lazy dog, again and again and again","n":1}`
	after  = `{"text":"the quick brown fox jumps over the lazy dog, again and again and again","n":2}`
)

func TestFrameShapes(t *testing.T) {
	pub := &protocol.Publication{Data: []byte(after), Offset: 5, Tags: map[string]string{"k": "v"}, Time: 9,
		Info: &protocol.ClientInfo{User: "ann", Client: "c1"}}
	f := NewPublicationFrame("news", 12, pub, []byte(before))
	seen := make(map[*ws.Prepared]Shape)
	for _, enc := range encodings {
		for _, byID := range []bool{false, true} {
			for mode := range deltaModes {
				s := Shape{enc, byID, mode}
				prepared := f.Prepared(s)
				if prepared != f.Prepared(s) {
					t.Errorf("%v: encoded twice", s)
				}
				if other, ok := seen[prepared]; ok {
					t.Errorf("%v and %v are one", s, other)
				}
				seen[prepared] = s
				p := push(t, f, s)
				if byID != (p.Id == 12) || byID != (p.Channel == "") {
					t.Errorf("%v: channel %q, id %d", s, p.Channel, p.Id)
				}
				if p.Pub.Offset != 5 || p.Pub.Tags["k"] != "v" || p.Pub.Time != 9 || p.Pub.Info.User != "ann" {
					t.Errorf("%v: %v", s, p.Pub)
				}
				if got := received(t, s, p.Pub, []byte(before)); string(got) != after {
					t.Errorf("%v: data %q", s, got)
				}
				if p.Pub.Delta != (mode == DeltaPatch) {
					t.Errorf("%v: delta is %v", s, p.Pub.Delta)
				}
			}
		}
	}
}

// received is the data a client has after a publication, given what it had before.
func received(t testing.TB, s Shape, p *protocol.Publication, before []byte) []byte {
	t.Helper()
	data := []byte(p.Data)
	if s.Delta != DeltaNone && s.Encoding == JSON {
		var str string
		if err := json.Unmarshal(p.Data, &str); err != nil {
			t.Fatalf("%v: data is no JSON string: %q", s, p.Data)
		}
		data = []byte(str)
	}
	if p.Delta {
		var err error
		if data, err = fdelta.Apply(before, data); err != nil {
			t.Fatalf("%v: %v", s, err)
		}
	}
	return data
}

func TestFrameGolden(t *testing.T) {
	f := NewPublicationFrame("news", 0, &protocol.Publication{Data: []byte(`{"a":"b"}`), Offset: 1}, nil)
	for s, want := range map[Shape]string{
		{}:                   `{"push":{"channel":"news","pub":{"data":{"a":"b"},"offset":1}}}`,
		{Delta: DeltaFull}:   `{"push":{"channel":"news","pub":{"data":"{\"a\":\"b\"}","offset":1}}}`,
		{Delta: DeltaPatch}:  `{"push":{"channel":"news","pub":{"data":"{\"a\":\"b\"}","offset":1}}}`,
		{Encoding: Protobuf}: "\x17\x22\x15\x12\x04news\x22\x0d\x22\x09{\"a\":\"b\"}\x30\x01",
	} {
		op := ws.OpText
		if s.Encoding == Protobuf {
			op = ws.OpBinary
		}
		if got := payload(t, f.Prepared(s), op); string(got) != want {
			t.Errorf("%v: got %q, want %q", s, got, want)
		}
	}
}

func TestFramePatches(t *testing.T) {
	bin := bytes.Repeat([]byte{0xff, 0xfe, 0}, 50)
	long := strings.Repeat("äöü and so on ", 20)
	for _, c := range []struct {
		name          string
		before, after string
		json, proto   bool // a patch goes out
	}{
		{"JSON", before, after, true, true},
		{"nothing before", "", after, false, false},
		{"nothing alike", before, `{"z":[9]}`, false, false},
		{"the same", before, before, true, true},
		{"binary", string(bin) + "a", string(bin) + "b", false, true},
		{"text that is no JSON", long + "a", long + "b", false, true},
		{"binary before", string(bin) + before, after, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var prev []byte
			if c.before != "" {
				prev = []byte(c.before)
			}
			f := NewPublicationFrame("c", 0, &protocol.Publication{Data: []byte(c.after)}, prev)
			for enc, patched := range map[Encoding]bool{JSON: c.json, Protobuf: c.proto} {
				s := Shape{Encoding: enc, Delta: DeltaPatch}
				p := push(t, f, s).Pub
				if p.Delta != patched {
					t.Errorf("%d: delta is %v", enc, p.Delta)
				}
				want := []byte(c.after)
				if enc == JSON {
					want = jsonValue(want)
				}
				if got := received(t, s, p, prev); !bytes.Equal(got, want) {
					t.Errorf("%d: got %q, want %q", enc, got, want)
				}
			}
		})
	}
}

// A patch that cuts a character in two is no text: JSON clients get the whole.
func TestPatchesAreText(t *testing.T) {
	long := strings.Repeat("the same at the beginning of both, ", 5)
	for _, pair := range [][2]string{{"ä", "ö"}, {"\U0001F600", "\U0001F601"}, {"中", "丮"}} {
		prev, cur := []byte(`"`+long+pair[0]+`"`), []byte(`"`+long+pair[1]+`"`)
		s := Shape{Delta: DeltaPatch}
		f := NewPublicationFrame("c", 0, &protocol.Publication{Data: cur}, prev)
		if !utf8.Valid(f.Prepared(s).Frame(false)[4:]) {
			t.Error("not UTF-8")
		}
		if got := received(t, s, push(t, f, s).Pub, prev); !bytes.Equal(got, cur) {
			t.Errorf("got %q, want %q", got, cur)
		}
	}
}

// What one shape needs must not change another.
func TestFrameOfBytes(t *testing.T) {
	raw := []byte{0xff, 1}
	f := NewPublicationFrame("c", 0, &protocol.Publication{Data: raw, Info: &protocol.ClientInfo{ConnInfo: raw}}, nil)
	for _, mode := range []DeltaMode{DeltaNone, DeltaFull} {
		p := push(t, f, Shape{Delta: mode}).Pub
		if want := map[DeltaMode]string{DeltaNone: `"/wE="`, DeltaFull: `"\"/wE=\""`}[mode]; string(p.Data) != want {
			t.Errorf("mode %d: data %s, want %s", mode, p.Data, want)
		}
		if string(p.Info.ConnInfo) != `"/wE="` {
			t.Errorf("mode %d: info %s", mode, p.Info.ConnInfo)
		}
	}
	if p := push(t, f, Shape{Encoding: Protobuf}).Pub; !bytes.Equal(p.Data, raw) || !bytes.Equal(p.Info.ConnInfo, raw) {
		t.Errorf("binary: %v", p)
	}
}

func TestPushFrames(t *testing.T) {
	info := &protocol.ClientInfo{User: "u", Client: "c"}
	for _, want := range []*protocol.Push{
		{Channel: "c", Join: &protocol.Join{Info: info}},
		{Channel: "c", Leave: &protocol.Leave{Info: info}},
		{Channel: "c", Unsubscribe: &protocol.Unsubscribe{Code: 2500}},
		{Channel: "c", Subscribe: &protocol.Subscribe{Recoverable: true}},
		{Channel: "c", Message: &protocol.Message{Data: []byte("1")}},
		{Channel: "c", Connect: &protocol.Connect{Client: "x"}},
		{Channel: "c", Disconnect: &protocol.Disconnect{Code: 3001}},
		{Channel: "c", Refresh: &protocol.Refresh{Ttl: 5}},
	} {
		f := NewPushFrame(want, 4)
		for _, enc := range encodings {
			b, _ := push(t, f, Shape{Encoding: enc}).MarshalCF()
			if w, _ := want.MarshalCF(); !bytes.Equal(b, w) {
				t.Errorf("%d: got %q, want %q", enc, b, w)
			}
			if p := push(t, f, Shape{Encoding: enc, ByID: true}); p.Id != 4 || p.Channel != "" {
				t.Errorf("%d: by id: %v", enc, p)
			}
		}
	}
}

// Many receivers on several loops share one encoding, at no allocation each.
func TestFrameIsShared(t *testing.T) {
	f := NewPublicationFrame("c", 1, &protocol.Publication{Data: []byte(after)}, []byte(before))
	var wg sync.WaitGroup
	got := make([]*ws.Prepared, 8)
	for i := range got {
		wg.Go(func() { got[i] = f.Prepared(Shape{Encoding: Encoding(i % 2), Delta: DeltaPatch}) })
	}
	wg.Wait()
	for i, p := range got {
		if p == nil || p != got[i%2] {
			t.Errorf("loop %d has an encoding of its own", i)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.Prepared(Shape{Delta: DeltaPatch}) }); n != 0 {
		t.Errorf("%v allocations for a further receiver", n)
	}
}

func TestDelta(t *testing.T) {
	if d := Delta(nil, nil); d != nil {
		t.Errorf("nothing became %q", d)
	}
	if d := Delta([]byte(before), []byte("x")); d != nil {
		t.Errorf("a patch longer than the data: %q", d)
	}
	d := Delta([]byte(before), []byte(after))
	if got, err := fdelta.Apply([]byte(before), d); err != nil || string(got) != after {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(before), []byte(after))
	f.Add([]byte(`{"a":1}`), []byte{0xff})
	f.Add([]byte("text"), []byte("text, and more of it"))
	f.Add([]byte(""), []byte("\n"))
	f.Fuzz(func(t *testing.T, prev, cur []byte) {
		frame := NewPublicationFrame("c", 0, &protocol.Publication{Data: cur}, prev)
		for _, enc := range encodings {
			s := Shape{Encoding: enc, Delta: DeltaPatch}
			had, want := prev, cur
			if enc == JSON {
				had, want = jsonValue(prev), jsonValue(cur)
			}
			if got := received(t, s, push(t, frame, s).Pub, had); !bytes.Equal(got, want) {
				t.Errorf("%d: got %q, want %q", enc, got, want)
			}
		}
		push(t, frame, Shape{})
	})
}

func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", `{"a":"b"}`, "null", "text", "\u2028<&>", "\xff", "\"\xff\"", "{\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := JSONString([]byte("x"), data)
		var s string
		if b[0] != 'x' || json.Unmarshal(b[1:], &s) != nil {
			t.Fatalf("no JSON string: %q", b)
		}
		if !json.Valid([]byte(s)) || bytes.ContainsAny(b, "\n") {
			t.Errorf("the string holds no JSON: %q", s)
		}
		if json.Valid(data) && utf8.Valid(data) && s != string(data) {
			t.Errorf("%q became %q", data, s)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	for _, receivers := range []int{1, 10_000} {
		b.Run(fmt.Sprint(receivers), func(b *testing.B) {
			b.ReportAllocs()
			pub := &protocol.Publication{Data: []byte(after), Offset: 1}
			for b.Loop() {
				f := NewPublicationFrame("news", 1, pub, nil)
				for range receivers {
					f.Prepared(Shape{})
				}
			}
		})
	}
}
