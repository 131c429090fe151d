package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"roost/internal/proctest"
	"roost/proto/client"
)

func TestSendOperation(t *testing.T) {
	n := start(t, func(o *Options) { o.QueueLimit = 1 << 10 })
	a, b := n.dial(""), n.connected("ann")
	id := a.ok(`{"connect":{}}`).Connect.Client
	for _, tt := range []struct {
		request SendRequest
		sent    uint32
		code    uint32 // of the error
		text    string
	}{
		{SendRequest{Client: id, Data: []byte(`{"n":1}`)}, 1, 0, ""},
		{SendRequest{Client: id, B64Data: []byte(`{"n":2}`)}, 1, 0, ""},
		{SendRequest{User: "ann", Data: []byte(`"hello"`)}, 1, 0, ""},
		{SendRequest{User: "bob", Data: []byte(`1`)}, 0, 0, ""},
		{SendRequest{Client: id, B64Data: []byte{0, 1}}, 0, 107, "not what the client understands"},
		{SendRequest{Client: "c1", Data: []byte(`1`)}, 0, 108, "no such client"},
		{SendRequest{Client: id, User: "ann", Data: []byte(`1`)}, 0, 107, "exactly one of user"},
		{SendRequest{Data: []byte(`1`)}, 0, 107, "exactly one of user"},
		{SendRequest{Client: id}, 0, 107, "either data or b64data"},
		{SendRequest{Client: id, Data: []byte(`1`), B64Data: []byte(`1`)}, 0, 107, "either data or b64data"},
	} {
		res, err := n.Send(t.Context(), &tt.request)
		var e *client.Error
		switch {
		case tt.code == 0:
			if err != nil || res.NumClients != tt.sent {
				t.Errorf("%+v: %+v, %v", tt.request, res, err)
			}
		case !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Message, tt.text):
			t.Errorf("%+v: %v, want %d with %q", tt.request, err, tt.code, tt.text)
		}
	}
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		if m := a.next(); m.Push == nil || m.Push.Message == nil || string(m.Push.Message.Data) != want {
			t.Errorf("%+v, want %s", m.Push, want)
		}
	}
	if m := b.next(); m.Push == nil || m.Push.Message == nil || string(m.Push.Message.Data) != `"hello"` {
		t.Errorf("%+v", m.Push)
	}
}

// A client that does not read is cut, and whoever goes on sending hears of it.
func TestSendOperationTooSlow(t *testing.T) {
	n := start(t, func(o *Options) { o.QueueLimit = 1 << 10 })
	a := n.dial("")
	id := a.ok(`{"connect":{}}`).Connect.Client
	data := []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	proctest.Eventually(t, func() error {
		_, err := n.Send(t.Context(), &SendRequest{Client: id, Data: data})
		var e *client.Error
		if !errors.As(err, &e) || e.Code != 108 {
			return fmt.Errorf("not cut: %v", err)
		}
		return nil
	})
}
