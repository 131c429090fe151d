package setting

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestPath(t *testing.T) {
	plain := errors.New("is -1")
	inner := At(plain, "timeout")
	outer := At(fmt.Errorf("backend: %w", inner), "servers", "a")
	for _, c := range []struct {
		err  error
		want []string
	}{
		{nil, nil}, {plain, nil}, {inner, []string{"timeout"}}, {outer, []string{"servers", "a", "timeout"}},
		{fmt.Errorf("backends: %w", outer), []string{"servers", "a", "timeout"}},
	} {
		if got := Path(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
	if At(nil, "a") != nil {
		t.Error("no error has become one")
	}
	if !errors.Is(outer, plain) || outer.Error() != "backend: is -1" {
		t.Errorf("%v has lost what it wraps", outer)
	}
}
