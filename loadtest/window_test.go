package loadtest

import "testing"

// A window tells what is late or comes twice, and counts what lacks.
func TestWindow(t *testing.T) {
	type step struct {
		n       uint32
		how     arrival
		skipped int64
	}
	for _, c := range []struct {
		name  string
		steps []step
		total uint32
		lacks int64
	}{
		{"nothing", nil, 3, 3},
		{"in order", []step{{0, fresh, 0}, {1, fresh, 0}, {2, fresh, 0}}, 3, 0},
		{"a gap", []step{{0, fresh, 0}, {2, fresh, 0}}, 3, 1},
		{"out of order", []step{{1, fresh, 0}, {0, late, 0}, {2, fresh, 0}}, 3, 0},
		{"twice", []step{{0, fresh, 0}, {0, doubled, 0}, {2, fresh, 0}, {2, doubled, 0}}, 3, 1},
		{"the last of 64", []step{{63, fresh, 0}, {0, late, 0}}, 64, 62},
		{"64 ahead", []step{{64, fresh, 1}, {0, doubled, 0}, {1, late, 0}}, 65, 62},
		{"far ahead", []step{{1, fresh, 0}, {1000, fresh, 936}, {999, late, 0}}, 1001, 62},
		{"a full window", []step{{1, fresh, 0}, {0, late, 0}, {65, fresh, 0}, {66, fresh, 1}}, 67, 62},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w window
			for _, s := range c.steps {
				if how, skipped := w.take(s.n); how != s.how || skipped != s.skipped {
					t.Errorf("%d: %v, %d skipped, want %v, %d", s.n, how, skipped, s.how, s.skipped)
				}
			}
			if n := w.lacks(c.total); n != c.lacks {
				t.Errorf("lacks %d, want %d", n, c.lacks)
			}
		})
	}
}
