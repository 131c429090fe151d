//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"roost/proto/ws"
)

// The gateway as a library: the program's own rules decide who comes in and what is published,
// its pages are at the same address, and it hears of those that go.
func TestEmbedChat(t *testing.T) {
	t.Parallel()
	p, url := startExample(t, "embed-chat")
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.Contains(string(page), "<title>Chat</title>") {
		t.Errorf("the page is %.200s", page)
	}
	address := strings.TrimPrefix(url, "http://")
	said := make(chan string, 64)
	join := func(name, password string) (*centrifuge.Client, chan centrifuge.DisconnectedEvent) {
		data, _ := json.Marshal(map[string]string{"name": name, "password": password})
		c := centrifuge.NewJsonClient("ws://"+address+"/connection/websocket", centrifuge.Config{Data: data})
		ended := make(chan centrifuge.DisconnectedEvent, 8)
		c.OnDisconnected(func(e centrifuge.DisconnectedEvent) { ended <- e })
		connected := make(chan struct{}, 8)
		c.OnConnected(func(centrifuge.ConnectedEvent) { connected <- struct{}{} })
		c.OnPublication(func(e centrifuge.ServerPublicationEvent) { said <- name + " heard " + string(e.Data) })
		t.Cleanup(c.Close)
		_ = c.Connect()
		if password == "sesame" {
			receive(t, connected)
		}
		return c, ended
	}
	if _, ended := join("eve", "please"); receive(t, ended).Code != 4501 {
		t.Error("eve was not turned away with 4501")
	}
	ann, _ := join("ann", "sesame")
	bob, _ := join("bob", "sesame")
	if _, err := ann.Publish(inTime(t), "room:lobby", []byte(`"hello"`)); err != nil {
		t.Fatal(err)
	}
	heard := map[string]bool{receive(t, said): true, receive(t, said): true}
	for _, name := range []string{"ann", "bob"} {
		if want := name + ` heard {"from":"ann","text":"hello"}`; !heard[want] {
			t.Errorf("%v, want %s", heard, want)
		}
	}
	if _, err := bob.Publish(inTime(t), "room:lobby", []byte(`{"from":"ann"}`)); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("bob spoke as ann: %v", err)
	}
	if who, err := bob.RPC(inTime(t), "who", nil); err != nil || !strings.Contains(string(who.Data), `"ann"`) || !strings.Contains(string(who.Data), `"bob"`) {
		t.Errorf("%s, %v", who.Data, err)
	}
	ann.Close()
	eventually(t, func() error {
		if log := p.Log.String(); !strings.Contains(log, "gone user=ann code=3000") {
			return fmt.Errorf("the log is %s", log)
		}
		return nil
	})
}

func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	return v
}

// The engine alone: every player sees the moves of all.
func TestEngineGame(t *testing.T) {
	t.Parallel()
	_, url := startExample(t, "engine-game")
	address, _, _ := strings.Cut(strings.TrimPrefix(url, "ws://"), "/")
	if _, err := dialAt(address, "/play", false); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("without a name: %v", err)
	}
	var players []*raw
	for _, name := range []string{"ann", "bob"} {
		r, err := dialAt(address, "/play?name="+name, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.conn.Close() })
		players = append(players, r)
	}
	for _, move := range []string{"left", "left", "down"} {
		players[0].write([]byte(move))
	}
	for _, r := range players {
		for seen := ""; !strings.Contains(seen, `{"name":"ann","x":-2,"y":1}`) || !strings.Contains(seen, `{"name":"bob","x":0,"y":0}`); {
			b, err := r.readFrame()
			if err != nil || r.op != ws.OpText {
				t.Fatalf("%v, opcode %d; the last state is %s", err, r.op, seen)
			}
			seen = string(b)
		}
	}
	players[1].write([]byte("fly"))
	if code, err := players[1].end(); code != 4000 {
		t.Errorf("%d, %v", code, err)
	}
}

// The loops alone: lines over TCP, in pieces and together, reach all others; one that is too long
// ends its connection only.
func TestPollerLines(t *testing.T) {
	t.Parallel()
	_, at := startExample(t, "poller-lines")
	address := strings.ReplaceAll(strings.TrimPrefix(at, "nc "), " ", ":")
	var in []*bufio.Reader
	var out []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		out, in = append(out, c), append(in, bufio.NewReader(c))
		if line, err := in[len(in)-1].ReadString('\n'); err != nil || !strings.HasPrefix(line, "Welcome") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	fmt.Fprint(out[0], "one\ntw")
	fmt.Fprint(out[0], "o\nthree\n")
	for _, r := range in[1:] {
		for _, want := range []string{"one\n", "two\n", "three\n"} {
			if line, err := r.ReadString('\n'); err != nil || line != want {
				t.Fatalf("%q, %v, want %q", line, err, want)
			}
		}
	}
	fmt.Fprint(out[1], strings.Repeat("x", 2000)+"\n")
	if rest, err := io.ReadAll(in[1]); err != nil || string(rest) != "That is too long.\n" {
		t.Errorf("%q, %v", rest, err)
	}
	fmt.Fprint(out[0], "still here\n")
	if line, err := in[2].ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("%q, %v", line, err)
	}
}
