package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"roost/gateway"
	"roost/internal/proctest"
	"roost/proto/client"
)

// The example in Go answers as its comment says, and refuses those without the secret.
func TestExampleHTTP(t *testing.T) {
	program, err := proctest.Build(t.TempDir(), "backend-http", "roost/examples/backend-http")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--address", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "SECRET=s3")
	checkExample(t, cmd)
}

// So does the one for Node, where there is a Node, as on all machines of CI.
func TestExampleNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		proctest.Skip(t, err.Error())
	}
	cmd := exec.Command(node, "../examples/backend-node/server.mjs")
	cmd.Env = append(os.Environ(), "SECRET=s3", "PORT=0")
	checkExample(t, cmd)
}

// checkExample starts an example whose secret is s3, and asks it everything it answers.
func checkExample(t *testing.T, cmd *exec.Cmd) {
	p, err := proctest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	var address string
	proctest.Eventually(t, func() error {
		if address = proctest.Fields(p.Out.String())["address"]; address == "" || !strings.HasSuffix(p.Out.String(), "\n") {
			return fmt.Errorf("not ready: %s%s", p.Out.String(), p.Log.String())
		}
		return nil
	})
	to := Endpoint{URL: "http://" + address + "/", Headers: map[string]string{"X-Secret": "s3"}, Timeout: time.Minute}
	s := set(t, Options{Config: one(to)})
	if data, err := s.rpcOf(t.Context(), "echo", `{"x":[1,"ü"]}`); err != nil || string(data) != `{"x":[1,"ü"]}` {
		t.Errorf("echo: %s, %v", data, err)
	}
	if data, err := s.rpcOf(t.Context(), "echo", ``); err != nil || data != nil {
		t.Errorf("echo of nothing: %s, %v", data, err)
	}
	binary := gateway.RPCEvent{Peer: gateway.Peer{Protocol: "protobuf", Encoding: "binary"}, Method: "echo", Data: []byte{0, 1, 255}}
	if data, err := s.Handlers().RPC(t.Context(), binary); err != nil || string(data) != "\x00\x01\xff" {
		t.Errorf("echo of bytes: %q, %v", data, err)
	}
	var now struct{ Time time.Time }
	if data, err := s.rpcOf(t.Context(), "time", ``); err != nil || json.Unmarshal(data, &now) != nil || now.Time.IsZero() {
		t.Errorf("time: %s, %v", data, err)
	}
	var own *client.Error
	if _, err := s.rpcOf(t.Context(), "other", ``); !errors.As(err, &own) || own.Code != 404 || own.Message != "there is no method other" {
		t.Error(err)
	}
	if err := s.Handlers().Message(t.Context(), gateway.MessageEvent{Peer: peer, Data: []byte(`"hello"`)}); err != nil {
		t.Error(err)
	}
	proctest.Eventually(t, func() error {
		for _, part := range []string{"ann", "c1", "hello"} {
			if text := p.Log.String(); !strings.Contains(text, part) {
				return fmt.Errorf("%s is not in the example's log: %s", part, text)
			}
		}
		return nil
	})
	checkDecisions(t, to)
	to.Headers = nil
	stranger := set(t, Options{Config: one(to)})
	if _, err := stranger.rpcOf(t.Context(), "time", ``); err != client.ErrInternal {
		t.Error(err)
	}
	counted(t, stranger, map[string]uint64{"rpc/status": 1})
}

// checkDecisions asks an example for all that it decides on.
func checkDecisions(t *testing.T, to Endpoint) {
	c := one(to)
	c.Connect, c.Refresh = "b", "b"
	s := set(t, Options{Config: c})
	h, ctx := s.Handlers(), t.Context()
	now := time.Now().Unix()
	if r, err := h.Connect(ctx, gateway.ConnectEvent{Peer: peer, Data: []byte(`{"name":"ann"}`)}); err != nil || r.User != "ann" || r.ExpireAt < now {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := h.Connect(ctx, gateway.ConnectEvent{Peer: peer}); err != client.ErrPermissionDenied {
		t.Errorf("somebody without a name: %v", err)
	}
	for channel, want := range map[string]error{"room:1": nil, "room:private-ann": nil, "room:private-bob": client.ErrPermissionDenied} {
		if r, err := h.Subscribe(ctx, gateway.SubscribeEvent{Peer: peer, Backend: "b", Channel: channel}); err != want || err == nil && r.ExpireAt < now {
			t.Errorf("subscribe to %s: %+v, %v", channel, r, err)
		}
		r, err := h.Publish(ctx, gateway.PublishEvent{Peer: peer, Backend: "b", Channel: channel, Data: []byte(`"hi"`)})
		if err != want || err == nil && string(r.Data) != `{"from":"ann","text":"hi"}` {
			t.Errorf("publish to %s: %s, %v", channel, r.Data, err)
		}
	}
	for _, out := range []bool{false, true} {
		if out {
			if _, err := s.rpcOf(ctx, "signout", ""); err != nil {
				t.Error(err)
			}
		}
		r, err := h.Refresh(ctx, gateway.RefreshEvent{Peer: peer})
		if err != nil || r.Expired != out || (r.ExpireAt >= now) == out {
			t.Errorf("%+v, %v", r, err)
		}
		sub, err := h.SubRefresh(ctx, gateway.SubRefreshEvent{Peer: peer, Backend: "b", Channel: "room:1"})
		if err != nil || sub.Expired != out || (sub.ExpireAt >= now) == out {
			t.Errorf("%+v, %v", sub, err)
		}
	}
}
