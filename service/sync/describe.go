package sync

import (
	"slices"
	"strings"

	"roost/service"
)

// fieldTexts describe the parameters: their type, and what they say.
var fieldTexts = map[string][2]string{
	"id":              {"string", "Id of the object; or its type and name."},
	"type":            {"string", "document, map, list or stream."},
	"name":            {"string", "Name of the object, unique among those of its type, up to 320 bytes."},
	"mode":            {"string", "open_or_create, open_existing or create_new."},
	"restricted":      {"boolean", "Whether only those may use the object whom its creator has granted it."},
	"data":            {"", "Any JSON."},
	"items":           {"array", "Instead of data: up to 100 items, pushed in their order."},
	"ttl":             {"integer", "Seconds until it is removed, 0 is never; up to a year. Without it an update changes nothing about that."},
	"if_revision":     {"integer", "Do it only if this is the current revision, of the item or of the object; 0: only if there is no such item."},
	"idempotency_key": {"string", "A write whose key is among the object's last 1,024 is not done again."},
	"key":             {"string", "Key of a map's item, 1 to 256 bytes."},
	"index":           {"integer", "Index of a list's item."},
	"order":           {"string", "asc or desc, by key or index."},
	"from":            {"", "Key or index to begin with."},
	"bounds":          {"string", "inclusive or exclusive: whether from itself is in the answer."},
	"limit":           {"integer", "How many at most."},
	"cursor":          {"string", "Where the same query goes on."},
	"identity":        {"string", "Id of a user, or * for everyone."},
	"read":            {"boolean", "May read and subscribe."},
	"write":           {"boolean", "May change data and items."},
	"manage":          {"boolean", "May delete the object and change ttl and permissions."},
	"operations":      {"array", "Up to 100 write operations on the object, each with its name as op: all are done, or none."},
}

// describe makes a description; a * before a field's name says that it is required.
func describe(name, summary, fields string) service.Operation {
	op := service.Operation{Name: name, Summary: summary}
	for _, f := range strings.Fields("id type name " + fields) {
		f, required := strings.CutPrefix(f, "*")
		t := fieldTexts[f]
		op.Fields = append(op.Fields, service.Field{Name: f, Type: t[0], Text: t[1], Required: required})
	}
	return op
}

const writing = " if_revision ttl idempotency_key"

// Described are all operations, in the order of the documentation.
var Described = []service.Operation{
	describe("open", "Open an object, or create it.", "mode data ttl restricted idempotency_key"),
	describe("get", "Read an object, or an item of it.", "key index"),
	describe("query", "Read items in the order of their keys or indexes.", "order from bounds limit cursor"),
	describe("history", "Read what a document was, the latest first.", "limit"),
	describe("set", "Set a document or an item.", "key index *data"+writing),
	describe("merge", "Merge members into a document or an item; null takes one away.", "key index *data"+writing),
	describe("delete", "Remove an object or an item.", "key index if_revision idempotency_key"),
	describe("map.set", "Set an item of a map.", "*key *data"+writing),
	describe("map.insert", "Add an item to a map, unless it is there.", "*key *data ttl idempotency_key"),
	describe("map.merge", "Merge members into an item of a map.", "*key *data"+writing),
	describe("map.delete", "Remove an item of a map.", "*key if_revision idempotency_key"),
	describe("list.push", "Add items to the end of a list.", "data items"+writing),
	describe("list.set", "Set an item of a list.", "*index *data"+writing),
	describe("list.merge", "Merge members into an item of a list.", "*index *data"+writing),
	describe("list.delete", "Remove an item of a list.", "*index if_revision idempotency_key"),
	describe("set_ttl", "Say when an object or an item is removed.", "key index *ttl idempotency_key"),
	describe(OpBatch, "Do several write operations, all or none.", "*operations idempotency_key"),
	describe("stream.publish", "Send a message to the subscribers of a stream.", "*data"),
	describe("grant", "Say what an identity may do.", "*identity read write manage idempotency_key"),
	describe("revoke", "Take from an identity what it was granted.", "*identity idempotency_key"),
	describe("restrict", "Turn permissions on or off.", "*restricted idempotency_key"),
	describe("permissions", "Read who may do what.", ""),
	clientsOnly(describe(OpGone, "Have write operations done when the client goes, in the place of those it asked for before; none withdraws them.", "operations")),
}

// Operations about what is done when a client goes.
const (
	OpGone  = "on_disconnect" // done by gateways: it is about their clients
	OpBatch = "batch"         // what they do then
)

func clientsOnly(op service.Operation) service.Operation {
	op.Client = true
	return op
}

// takes are the fields of each operation.
var takes = func() map[string][]string {
	all := map[string][]string{
		OpSubscribe: {"id", "type", "name"}, OpTry: {"id", "operations"},
	}
	for _, op := range Described {
		for _, f := range op.Fields {
			all[op.Name] = append(all[op.Name], f.Name)
		}
	}
	return all
}()

// fits tells what an operation has that it does not take. In a batch it names no object.
func (p *params) fits(op string, batched bool) error {
	given := map[string]bool{
		"id": p.ID != "", "type": p.Type != "", "name": p.Name != "", "mode": p.Mode != "", "restricted": p.Restricted != nil,
		"key": p.Key != nil, "index": p.Index != nil, "data": len(p.Data) > 0, "items": p.Items != nil, "ttl": p.TTL != nil,
		"if_revision": p.IfRevision != nil, "idempotency_key": p.IdempotencyKey != "", "order": p.Order != "", "from": len(p.From) > 0,
		"bounds": p.Bounds != "", "limit": p.Limit != nil, "cursor": p.Cursor != "", "identity": p.Identity != "",
		"read": p.Read, "write": p.Write, "manage": p.Manage, "operations": p.Operations != nil,
	}
	for name, there := range given {
		own := batched && (name == "id" || name == "type" || name == "name" || name == "idempotency_key" || name == "operations")
		if there && (own || !slices.Contains(takes[op], name)) {
			return failf(CodeInvalid, "%s takes no %s%s", op, name, map[bool]string{true: " in a batch"}[own])
		}
	}
	return nil
}
