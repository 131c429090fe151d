//go:build !race

package sync

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roost/internal/proctest"
)

// A list with as many items as are allowed: what it costs to fill, to hold, to write to, and to read from its pages.
func TestLargeList(t *testing.T) {
	items := size(t, "ROOST_SYNC_ITEMS", 30_000)
	r := newRig(t, Config{MaxItems: items})
	r.ears.deaf = true
	id := r.do("open", `{"type":"list","name":"l"}`)["object"].(map[string]any)["id"].(string)
	before := proctest.LiveHeap()
	began := time.Now()
	for n := 0; n < items; n += 100 {
		data := make([]string, min(100, items-n))
		for i := range data {
			data[i] = fmt.Sprintf(`{"n":%d,"text":"item"}`, n+i)
		}
		r.do("list.push", fmt.Sprintf(`{"id":%q,"items":[%s]}`, id, strings.Join(data, ",")))
	}
	st := r.s.Stats()
	t.Logf("%d items in %v, %d pages written, %d B of heap each", items, time.Since(began), st.Pages, (proctest.LiveHeap()-before)/int64(items))
	r.refused(backendCaller, CodeFull, "list.push", fmt.Sprintf(`{"id":%q,"data":1}`, id))

	began = time.Now()
	const writes = 1000
	for i := range writes {
		r.do("list.set", fmt.Sprintf(`{"id":%q,"index":%d,"data":{"n":%d,"text":"else"}}`, id, i*7919%items, i))
	}
	t.Logf("%v for each of %d writes all over it, %d pages written", time.Since(began)/writes, writes, r.s.Stats().Pages-st.Pages)

	r.restart()
	began = time.Now()
	equal(t, "count", r.do("get", fmt.Sprintf(`{"id":%q}`, id))["count"], items)
	t.Logf("read in %v", time.Since(began))
	for i := max(0, writes-100); i < writes; i++ {
		equal(t, "item", r.item(fmt.Sprintf(`{"id":%q,"index":%d}`, id, i*7919%items)), fmt.Sprintf(`{"n":%d,"text":"else"}`, i))
	}
	equal(t, "the last", r.item(fmt.Sprintf(`{"id":%q,"index":%d}`, id, items-1)), fmt.Sprintf(`{"n":%d,"text":"item"}`, items-1))
}
