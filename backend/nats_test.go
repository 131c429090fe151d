package backend

import (
	"context"
	"errors"
	"strings"
	"testing"

	"roost/gateway"
	"roost/proto/client"
)

// asks is an Asker made of a function.
type asks func(ctx context.Context, subject string, data []byte) ([]byte, error)

func (f asks) Ask(ctx context.Context, subject string, data []byte) ([]byte, error) {
	return f(ctx, subject, data)
}

// silence is what an Asker returns if nobody listens.
type silence struct{}

func (silence) Error() string      { return "no responders" }
func (silence) NoResponders() bool { return true }

func TestNATS(t *testing.T) {
	var subject, body string
	var fails error
	s := set(t, Options{Config: one(Endpoint{URL: "nats:roost.rpc", MaxAnswer: 100}), Ask: asks(func(ctx context.Context, to string, data []byte) ([]byte, error) {
		subject, body = to, string(data)
		switch {
		case fails != nil:
			return nil, fails
		case strings.HasSuffix(to, ".large"):
			return make([]byte, 101), nil
		case strings.HasSuffix(to, ".empty"):
			return nil, nil
		}
		return []byte(`{"result":{"data":1}}`), nil
	})})
	for _, method := range []string{"echo", "a.b-c_D.9", strings.Repeat("x", 245)} {
		if data, err := s.rpcOf(t.Context(), method, `2`); err != nil || string(data) != "1" || subject != "roost.rpc."+method || !strings.Contains(body, `"data":2}`) {
			t.Errorf("%s: %s, %v on %s: %s", method, data, err, subject, body)
		}
	}
	subject = ""
	for _, method := range []string{"", ".", "a.", ".a", "a..b", "*", "a.*", ">", "a b", "a\n", "a\x00", "ü", "$SYS", strings.Repeat("x", 246)} {
		if _, err := s.rpcOf(t.Context(), method, `2`); err != client.ErrMethodNotFound || subject != "" {
			t.Errorf("%q: %v on %q", method, err, subject)
		}
	}
	if err := s.Handlers().Message(t.Context(), gateway.MessageEvent{Peer: peer}); err != nil || subject != "roost.rpc" {
		t.Errorf("%v on %s", err, subject)
	}
	for _, method := range []string{"large", "empty"} {
		if _, err := s.rpcOf(t.Context(), method, `2`); err != client.ErrInternal {
			t.Error(err)
		}
	}
	for _, c := range []struct{ fails, want error }{
		{silence{}, client.ErrNotAvailable}, {errors.New("broker: unavailable"), client.ErrInternal}, {context.DeadlineExceeded, client.ErrInternal},
	} {
		fails = c.fails
		if _, err := s.rpcOf(t.Context(), "echo", `2`); err != c.want {
			t.Errorf("%v: %v", c.fails, err)
		}
	}
	counted(t, s, map[string]uint64{"rpc/ok": 3, "rpc/method": 14, "message/ok": 1, "rpc/large": 1, "rpc/empty": 1, "rpc/nobody": 1, "rpc/unreachable": 1, "rpc/timeout": 1})
}
