package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"roost/service"
)

// Limits of requests that are no options.
const (
	maxTTL        = 31_536_000 // seconds: a year
	maxOperations = 100        // of a batch, and items of a push
	maxIdemKey    = 128        // bytes
	maxKey        = 256        // bytes
	maxIdentity   = 255        // bytes
)

// params are the fields of all operations; which one takes what is in operations.
type params struct {
	ID   string `json:"id,omitempty"`
	Type string `json:"type,omitempty"`
	Name string `json:"name,omitempty"`

	Mode       string `json:"mode,omitempty"`
	Restricted *bool  `json:"restricted,omitempty"`

	Key   *string         `json:"key,omitempty"`
	Index *uint64         `json:"index,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	// Items are pushed in their order.
	Items          []json.RawMessage `json:"items,omitempty"`
	TTL            *int64            `json:"ttl,omitempty"`
	IfRevision     *uint64           `json:"if_revision,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitempty"`

	Order  string          `json:"order,omitempty"`
	From   json.RawMessage `json:"from,omitempty"`
	Bounds string          `json:"bounds,omitempty"`
	Limit  *int            `json:"limit,omitempty"`
	Cursor string          `json:"cursor,omitempty"`

	Identity string `json:"identity,omitempty"`
	Read     bool   `json:"read,omitempty"`
	Write    bool   `json:"write,omitempty"`
	Manage   bool   `json:"manage,omitempty"`

	// Operations of a batch, each with its Op.
	Operations []params `json:"operations,omitempty"`
	Op         string   `json:"op,omitempty"`
}

// parse reads the parameters of an operation.
func parse(data []byte) (*params, error) {
	p := new(params)
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, failf(CodeInvalid, "the operation has no parameters: send a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(p)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more behind the object")
		}
	}
	if err != nil {
		return nil, failf(CodeInvalid, "the parameters cannot be read: %s", readable(err))
	}
	return p, nil
}

// readable says what is wrong with JSON in words that do not need Go.
func readable(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return strings.TrimPrefix(err.Error(), "json: ")
	}
	want := map[string]string{
		"string": "a string", "bool": "true or false", "int": "a whole number", "int64": "a whole number",
		"uint64": "a whole number of 0 or more", "sync.params": "an object", "[]sync.params": "a list", "[]json.RawMessage": "a list",
	}[wrong.Type.String()]
	if wrong.Field == "" {
		return fmt.Sprintf("it must be an object, not %s", wrong.Value)
	}
	return fmt.Sprintf("%s must be %s, not %s", wrong.Field, want, wrong.Value)
}

// objectID returns which object an operation is about.
func (p *params) objectID() (string, error) {
	switch {
	case p.ID != "" && (p.Type != "" || p.Name != ""):
		return "", failf(CodeInvalid, "give either id, or type and name")
	case p.ID != "":
		if _, ok := kindOf(p.ID); !ok {
			return "", failf(CodeBadName, "id %.40q is none: it is a letter of d, m, l and s, and 26 of a-z and 2-7", p.ID)
		}
		return p.ID, nil
	case p.Type == "":
		return "", failf(CodeInvalid, "id is missing, or type and name in its place")
	}
	k, ok := kinds[p.Type]
	if !ok {
		return "", failf(CodeInvalid, "type is %.40q, must be document, map, list or stream", p.Type)
	}
	if p.Name == "" {
		return "", failf(CodeBadName, "name is missing")
	}
	return namedID(k, p.Name), checkName(p.Name)
}

// value returns data as it is stored.
func (s *Service) value(data json.RawMessage, field string) (json.RawMessage, error) {
	if len(data) == 0 {
		return nil, failf(CodeInvalid, "%s is missing", field)
	}
	out := data
	if bytes.ContainsAny(data, " \t\r\n") {
		var b bytes.Buffer
		if err := json.Compact(&b, data); err != nil {
			return nil, failf(CodeInvalid, "%s is no JSON: %v", field, err)
		}
		out = b.Bytes()
	}
	if len(out) > s.opts.MaxData {
		return nil, failf(CodeTooLarge, "%s has %d bytes, at most %d are allowed", field, len(out), s.opts.MaxData)
	}
	return out, nil
}

// merged returns an object with the top-level members of another one; null takes a member away (RFC 7396
// does the same at all levels).
func (s *Service) merged(old, with json.RawMessage, what string) (json.RawMessage, error) {
	var members, more map[string]json.RawMessage
	if err := json.Unmarshal(with, &more); err != nil || more == nil {
		return nil, failf(CodeInvalid, "data must be an object, to be merged")
	}
	if err := json.Unmarshal(old, &members); err != nil || members == nil {
		return nil, failf(CodeInvalid, "%s is no object, so nothing can be merged into it: use set", what)
	}
	for name, v := range more {
		if string(v) == "null" {
			delete(members, name)
		} else {
			members[name] = v
		}
	}
	out, err := service.Marshal(members)
	if err != nil {
		return nil, err
	}
	return s.value(out, "the result")
}

// expiry turns a ttl into a time; 0 is never. old holds without a ttl.
func (p *params) expiry(now, old int64) (int64, error) {
	switch {
	case p.TTL == nil:
		return old, nil
	case *p.TTL < 0 || *p.TTL > maxTTL:
		return 0, failf(CodeBadTTL, "ttl is %d, must be 0 (never) to %d seconds", *p.TTL, maxTTL)
	case *p.TTL == 0:
		return 0, nil
	}
	return now + *p.TTL*1000, nil
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > maxKey || !utf8.ValidString(key) {
		return failf(CodeBadKey, "key has %d bytes, must be 1 to %d of UTF-8", len(key), maxKey)
	}
	return nil
}
