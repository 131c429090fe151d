package backend

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"roost/gateway"
	"roost/proto/client"
)

func TestEncode(t *testing.T) {
	head := `{"event":"rpc","client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"ann","meta":{"tenant":7}`
	for name, c := range map[string]struct {
		q    request
		want string
	}{
		"all":         {request{peer: &peer, method: "m", data: []byte(` { "x" : 1 } `)}, head + `,"method":"m","data": { "x" : 1 } }`},
		"no data":     {request{peer: &peer, method: "m"}, head + `,"method":"m"}`},
		"binary":      {request{peer: &peer, method: "m", data: []byte{0, 1, 255}}, head + `,"method":"m","b64data":"AAH/"}`},
		"no injected": {request{peer: &peer, method: "m", data: []byte(`1,"user":"bob"`)}, head + `,"method":"m","b64data":"MSwidXNlciI6ImJvYiI="}`},
		"escapes":     {request{peer: &peer, method: "a\"\\\n"}, head + `,"method":"a\"\\\n"}`},
		"UTF-8":       {request{peer: &peer, method: "ü\xff"}, head + `,"method":"ü\ufffd"}`},
		"headers": {request{peer: &gateway.Peer{Client: "c", Headers: map[string]string{"x-b": "\"", "cookie": "a=1\xff"}}, method: "m"},
			`{"event":"rpc","client":"c","transport":"","protocol":"","encoding":"","headers":{"cookie":"a=1\ufffd","x-b":"\""},"method":"m"}`},
		"nobody": {request{event: eventMessage, peer: &gateway.Peer{Client: "c", Transport: "websocket", Protocol: "protobuf", Encoding: "binary"}, data: []byte("1")},
			`{"event":"message","client":"c","transport":"websocket","protocol":"protobuf","encoding":"binary","data":1}`},
	} {
		got := c.q.encode()
		if string(got) != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is not JSON", name)
		}
	}
}

func TestEncodeAllocations(t *testing.T) {
	for name, data := range map[string][]byte{"json": []byte(`{"x":[1,2,3]}`), "long": []byte(`"` + strings.Repeat("x", 1<<16) + `"`), "none": nil} {
		q := request{event: eventMessage, peer: &peer, method: "a.method", data: data}
		var size, room int
		n := math.Inf(1)
		for range 10 { // what ends of other tests meanwhile counts, too
			n = min(n, testing.AllocsPerRun(100, func() { b := q.encode(); size, room = len(b), cap(b) }))
		}
		if n != 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if room-size > 128 {
			t.Errorf("%s: %d bytes of room for %d", name, room, size)
		}
	}
}

// What a client sends can change no other field of the request, and comes out as it went in.
func FuzzEncode(f *testing.F) {
	f.Add("m", "ann", []byte(`{"x":1}`))
	f.Add("\"},", "\xff", []byte(`1,"user":"bob"`))
	f.Fuzz(func(t *testing.T, method, user string, data []byte) {
		p := gateway.Peer{Client: "c", User: user}
		q := request{peer: &p, method: method, data: data}
		var got struct {
			Event, Client, User, Method string
			Data                        json.RawMessage
			B64                         string `json:"b64data"`
		}
		b := q.encode()
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if got.Event != "rpc" || got.Client != "c" || utf8.ValidString(method) && got.Method != method || utf8.ValidString(user) && got.User != user {
			t.Fatalf("%s", b)
		}
		if back, err := base64.StdEncoding.DecodeString(got.B64); err != nil || got.Data == nil && string(back) != string(data) || got.Data != nil && !json.Valid(data) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}

// Whatever a backend says, its client gets a result it understands, an error or a
// disconnect within the limits, or error 100.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		used := 0
		var data []byte
		err := parse(raw, func(result []byte) (err error) {
			used++
			data, err = resultData(result, "json")
			return err
		})
		var own *client.Error
		var end *client.Disconnect
		var bad *fault
		switch o, reply := judge(err); {
		case err == nil:
			if used != 1 || len(data) > 0 && !json.Valid(data) || o != outcomeOK || reply != nil {
				t.Fatalf("result %q, %v", data, reply)
			}
		case errors.As(err, &own):
			if client.ErrorOf(own.Code) != own && (own.Code < 400 || own.Code > 1999 || len(own.Message) > maxErrorMessage || !utf8.ValidString(own.Message)) || used > 0 {
				t.Fatal(own)
			}
		case errors.As(err, &end):
			if end.Code < 4000 || end.Code > 4999 || len(end.Reason) > maxReason || !utf8.ValidString(end.Reason) || used > 0 {
				t.Fatal(end)
			}
		case !errors.As(err, &bad) || bad.outcome != outcomeEmpty && bad.outcome != outcomeGarbage || reply != client.ErrInternal:
			t.Fatal(err)
		}
	})
}

// The short way through an answer finds what the decoder does, or leaves it to that.
func FuzzOnly(f *testing.F) {
	for _, seed := range []string{`{"data":1}`, `{"data": {"a":1} } `, `{"data":1,"data":2}`, `{"data":null}`, `{"data":}`, `{"data":1}}`, `{"data":"}"}`, `{"Data":1}`, `{"data":1,"b":{}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, ok := only(raw, "data")
		if !ok {
			return
		}
		var r map[string]json.RawMessage
		if err := json.Unmarshal(raw, &r); err != nil || len(r) != 1 || string(r["data"]) != string(value) {
			t.Errorf("%q: %q, the decoder says %q, %v", raw, value, r, err)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	raw := []byte(`{"result":{"data":"` + strings.Repeat("x", 128) + `"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := parse(raw, func(result []byte) error { _, err := resultData(result, "json"); return err }); err != nil {
			b.Fatal(err)
		}
	}
}
