package sync

import (
	"fmt"
	"strings"
	"testing"
)

// What is wrong with an operation is told by a code and a text of its own, and nothing is half-written.
func TestBadInput(t *testing.T) {
	r := newRig(t, Config{MaxData: 100, MaxItems: 3})
	for _, kind := range []string{"document", "map", "list", "stream"} {
		r.do("open", fmt.Sprintf(`{"type":%q,"name":"x"}`, kind))
	}
	r.do("map.set", `{"type":"map","name":"x","key":"k","data":1}`)
	r.do("list.push", `{"type":"list","name":"x","items":[1,2]}`)
	other := r.do("query", `{"type":"list","name":"x","limit":1}`)["cursor"].(string)
	long := `"` + strings.Repeat("x", 200) + `"`
	deep := strings.Repeat("[", 20000) + strings.Repeat("]", 20000)
	for _, c := range []struct {
		op, params string
		code       uint32
		text       string
	}{
		{"set", `{`, CodeInvalid, "cannot be read: unexpected EOF"},
		{"set", ``, CodeInvalid, "send a JSON object"},
		{"set", `[]`, CodeInvalid, "must be an object, not array"},
		{"set", `{} {}`, CodeInvalid, "more behind the object"},
		{"set", `{"type":"document","name":"x","data":` + deep + `}`, CodeInvalid, "exceeded max depth"},
		{"set", `{"type":"document","name":"x","date":1}`, CodeInvalid, `unknown field "date"`},
		{"set", `{"type":"document","name":"x"}`, CodeInvalid, "data is missing"},
		{"set", `{"type":"document","name":"x","data":1,"limit":3}`, CodeInvalid, "set takes no limit"},
		{"set", `{"type":"document","name":7,"data":1}`, CodeInvalid, "name must be a string, not number"},
		{"set", `{"type":"document","name":"x","data":` + long + `}`, CodeTooLarge, "data has 202 bytes, at most 100"},
		{"merge", `{"type":"document","name":"x","data":{"a":` + long[:52] + `","b":` + long[:52] + `"}}`, CodeTooLarge, "the result has"},
		{"merge", `{"type":"document","name":"x","data":[]}`, CodeInvalid, "data must be an object"},
		{"get", `{"type":"document","name":"none"}`, CodeUnknownObject, "there is no document"},
		{"get", `{"id":"zzz"}`, CodeBadName, "id \"zzz\" is none"},
		{"get", `{"id":"daaaaaaaaaaaaaaaaaaaaaaaaa","type":"map"}`, CodeInvalid, "either id, or type and name"},
		{"get", `{"type":"table","name":"x"}`, CodeInvalid, "must be document, map, list or stream"},
		{"get", `{"type":"map"}`, CodeBadName, "name is missing"},
		{"get", `{"name":"x"}`, CodeInvalid, "id is missing"},
		{"open", `{"type":"map"}`, CodeInvalid, "name is missing"},
		{"open", `{"type":"map","name":"` + strings.Repeat("x", 321) + `"}`, CodeBadName, "name has 321 bytes"},
		{"open", `{"type":"map","name":"y","mode":"fast"}`, CodeInvalid, "mode is \"fast\""},
		{"open", `{"type":"map","name":"y","data":1}`, CodeInvalid, "no data of its own"},
		{"open", `{"type":"map","name":"y","ttl":-1}`, CodeBadTTL, "ttl is -1"},
		{"open", `{"type":"map","name":"x","mode":"create_new"}`, CodeObjectExists, "such a map already"},
		{"map.set", `{"type":"document","name":"x","key":"k","data":1}`, CodeWrongType, "map.set is not an operation of a document"},
		{"list.push", `{"type":"map","name":"x","data":1}`, CodeWrongType, "list.push is not an operation of a map"},
		{"set", `{"type":"map","name":"x","index":1,"data":1}`, CodeInvalid, "a map has keys, no indexes"},
		{"set", `{"type":"document","name":"x","key":"k","data":1}`, CodeInvalid, "a document has no items"},
		{"set", `{"type":"document","name":"x","data":1,"if_revision":7}`, CodeWrongRevision, "the current revision is 1, not 7"},
		{"map.set", `{"type":"map","name":"x","key":"k","data":1,"if_revision":0}`, CodeWrongRevision, "the current revision is 2, not 0"},
		{"map.set", `{"type":"map","name":"x","key":"","data":1}`, CodeBadKey, "key has 0 bytes"},
		{"map.set", `{"type":"map","name":"x","key":"` + strings.Repeat("k", 257) + `","data":1}`, CodeBadKey, "key has 257 bytes"},
		{"map.set", `{"type":"map","name":"x","data":1}`, CodeInvalid, "key is missing"},
		{"map.set", `{"type":"map","name":"x","key":"k","data":1,"ttl":31536001}`, CodeBadTTL, "ttl is 31536001"},
		{"map.set", `{"type":"map","name":"x","key":"k","data":1,"ttl":1.5}`, CodeInvalid, "ttl must be a whole number"},
		{"map.insert", `{"type":"map","name":"x","key":"k","data":1}`, CodeItemExists, "of revision 2"},
		{"map.delete", `{"type":"map","name":"x","key":"none"}`, CodeUnknownItem, `no item "none"`},
		{"list.set", `{"type":"list","name":"x","index":2,"data":1}`, CodeBadIndex, "the next item pushed gets 2"},
		{"list.set", `{"type":"list","name":"x","index":-1,"data":1}`, CodeInvalid, "index must be a whole number of 0 or more"},
		{"list.push", `{"type":"list","name":"x","items":[3,4]}`, CodeFull, "at most 3 are allowed"},
		{"list.push", `{"type":"list","name":"x","items":[3],"data":4}`, CodeInvalid, "either data, or items"},
		{"query", `{"type":"map","name":"x","cursor":"` + other + `"}`, CodeBadCursor, "belongs to another query"},
		{"query", `{"type":"list","name":"x","order":"desc","cursor":"` + other + `"}`, CodeBadCursor, "belongs to another query"},
		{"query", `{"type":"map","name":"x","cursor":"e30"}`, CodeBadCursor, "none that a query returned"},
		{"query", `{"type":"map","name":"x","limit":1001}`, CodeInvalid, "limit is 1001"},
		{"query", `{"type":"map","name":"x","order":"up"}`, CodeInvalid, "order is \"up\""},
		{"query", `{"type":"list","name":"x","from":"k"}`, CodeBadIndex, "must be an index"},
		{"query", `{"type":"document","name":"x"}`, CodeWrongType, "a document has no items"},
		{"batch", `{"type":"map","name":"x","operations":[]}`, CodeInvalid, "operations has 0 entries"},
		{"batch", `{"type":"map","name":"x","operations":[{"op":"map.set","key":"a","data":1},{"op":"map.delete","key":"b"}]}`, CodeUnknownItem, "operation 1 of the batch"},
		{"batch", `{"type":"map","name":"x","operations":[{"op":"map.set","key":"a","data":1,"id":"x"}]}`, CodeInvalid, "takes no id in a batch"},
		{"batch", `{"type":"map","name":"x","operations":[{"op":"delete"},{"op":"map.set","key":"a","data":1}]}`, CodeInvalid, "must be alone"},
		{"batch", `{"type":"map","name":"x","operations":[{"op":"open"}]}`, CodeUnknownOp, `no operation "open" to write with`},
		{"grant", `{"type":"map","name":"x","read":true}`, CodeInvalid, "identity has 0 bytes"},
		{"grant", `{"type":"map","name":"x","identity":"a"}`, CodeInvalid, "or use revoke"},
		{"set_ttl", `{"type":"map","name":"x"}`, CodeInvalid, "ttl is missing"},
		{"restrict", `{"type":"map","name":"x"}`, CodeInvalid, "restricted is missing"},
		{"stream.publish", `{"type":"map","name":"x","data":1}`, CodeWrongType, "not an operation of a map"},
		{"history", `{"type":"map","name":"x"}`, CodeWrongType, "not an operation of a map"},
		{"map.set", `{"type":"map","name":"x","key":"k","data":1,"idempotency_key":` + long + `}`, CodeInvalid, "idempotency_key has 200 bytes"},
		{"explode", `{"type":"map","name":"x"}`, CodeUnknownOp, `there is no operation "explode"`},
	} {
		if e := r.refused(backendCaller, c.code, c.op, c.params); !strings.Contains(e.Message, c.text) {
			t.Errorf("%s %.200s: %q does not say %q", c.op, c.params, e.Message, c.text)
		}
	}
	for _, again := range []func(){func() {}, r.restart} {
		again()
		equal(t, "events of the map", r.do("get", `{"type":"map","name":"x"}`)["position"].(map[string]any)["event"], 2)
		equal(t, "events of the list", r.do("get", `{"type":"list","name":"x"}`)["position"].(map[string]any)["event"], 2)
		equal(t, "events of the document", r.do("get", `{"type":"document","name":"x"}`)["position"].(map[string]any)["event"], 1)
	}
}
