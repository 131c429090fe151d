package tally

import (
	"maps"
	"sync"
	"testing"
)

func TestTally(t *testing.T) {
	var c Of[string]
	if all := c.All(); all == nil || len(all) != 0 {
		t.Errorf("nothing counted: %v", all)
	}
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 1000 {
				c.Add("a")
				c.Add("b")
			}
			c.Add("c")
		})
	}
	done.Wait()
	all := c.All()
	if want := map[string]uint64{"a": 8000, "b": 8000, "c": 8}; !maps.Equal(all, want) {
		t.Errorf("%v, want %v", all, want)
	}
	all["a"] = 0
	if c.All()["a"] != 8000 {
		t.Error("what All returns is not a copy")
	}
}
