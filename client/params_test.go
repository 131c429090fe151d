package client

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/centrifugal/centrifuge-go"
)

func TestWriteParams(t *testing.T) {
	for _, c := range []struct {
		w    Write
		want string
	}{
		{Write{Key: "k"}, `{"idempotency_key":"k"}`},
		{Write{Key: "k", IfRevision: 7}, `{"idempotency_key":"k","if_revision":7}`},
		{Write{Key: "k", Absent: true}, `{"idempotency_key":"k","if_revision":0}`},
		{Write{Key: "k", TTL: 60}, `{"idempotency_key":"k","ttl":60}`},
		{Write{Key: "k", TTL: Forever}, `{"idempotency_key":"k","ttl":0}`},
	} {
		if got, err := json.Marshal(c.w.params(map[string]any{})); err != nil || string(got) != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.w, got, err, c.want)
		}
	}
	one, other := Write{}.params(map[string]any{}), Write{}.params(map[string]any{})
	if one["idempotency_key"] == other["idempotency_key"] {
		t.Error("two writes have the same key")
	}
}

func TestOpenParams(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Open
		want string
	}{
		{"n", Open{}, `{"name":"n","type":"map"}`},
		{"", Open{}, `{"mode":"create_new","type":"map"}`},
		{"n", Open{Mode: CreateNew, TTL: 5, Data: 1, Restricted: new(false)}, `{"data":1,"mode":"create_new","name":"n","restricted":false,"ttl":5,"type":"map"}`},
		{"n", Open{ID: "m1", Mode: CreateNew}, `{"id":"m1","mode":"open_existing"}`},
	} {
		p := c.o.params("map", c.name)
		if key, _ := p["idempotency_key"].(string); key == "" && c.o.ID == "" {
			t.Errorf("%+v has no key", c.o)
		}
		delete(p, "idempotency_key")
		if got, err := json.Marshal(p); err != nil || string(got) != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.o, got, err, c.want)
		}
	}
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		err   error
		want  string
		final bool
	}{
		{&centrifuge.Error{Code: 1408, Message: "the current revision is 12, not 7"}, "1408: the current revision is 12, not 7", true},
		{&centrifuge.Error{Code: 1403, Message: "no"}, "1403: no", true},
		{&centrifuge.Error{Code: 100, Message: "internal"}, "100: internal", false},
		{&centrifuge.Error{Code: 111, Message: "too many"}, "111: too many", false},
		{&centrifuge.Error{Code: 4000, Message: "away", Temporary: true}, "4000: away", false},
		{centrifuge.ErrTimeout, centrifuge.ErrTimeout.Error(), false},
		{centrifuge.ErrClientClosed, centrifuge.ErrClientClosed.Error(), true},
	} {
		err, final := failure(c.err)
		if err.Error() != c.want || final != c.final {
			t.Errorf("%v: %v, final %t", c.err, err, final)
		}
	}
	err, _ := failure(&centrifuge.Error{Code: 1407, Message: `there is an item "k" already, of revision 12`})
	var own *Error
	if !errors.As(err, &own) || own.Revision != 12 || codeOf(err) != CodeItemExists || codeOf(errors.New("other")) != 0 {
		t.Errorf("%+v", err)
	}
	if err, _ := failure(&centrifuge.Error{Code: 1408, Message: "revision is " + strings.Repeat("9", 30)}); err.(*Error).Code != 1408 {
		t.Error(err)
	}
}

// The token of centrifuge-go's own options holds where there is no other.
func TestToken(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Config: centrifuge.Config{Token: "own"}}, "own"},
		{Options{Token: "given", Config: centrifuge.Config{Token: "own"}}, "given"},
	} {
		if got := c.o.config().Token; got != c.want {
			t.Errorf("the token is %q, want %q", got, c.want)
		}
	}
}
