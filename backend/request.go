package backend

import (
	"encoding/base64"
	"encoding/json"

	"roost/gateway"
)

// request is a question to a backend; fields an event does not have are empty.
type request struct {
	event  event
	peer   *gateway.Peer
	method string
	data   []byte
	again  bool        // asking twice does no harm
	fields any         // more of them, a struct of this package that is sure to have a JSON; may be nil
	raw    *rawMessage // where data alone is the body, as it is; over HTTP only
}

// encode returns q's JSON, in one allocation if its data is JSON and it has neither fields nor headers. It is not taken from a pool:
// net/http may still read it when a call has been given up.
func (q *request) encode() []byte {
	if q.raw != nil {
		return q.data
	}
	const names = 128 // bytes for all that is not a value
	p := q.peer
	raw := len(q.data) == 0 || json.Valid(q.data)
	size := len(q.data)
	if !raw {
		size = base64.StdEncoding.EncodedLen(size)
	}
	size += names + len(p.Client) + len(p.Transport) + len(p.Protocol) + len(p.Encoding) + len(p.User) + len(p.Meta) + len(q.method)
	more := q.more()
	size += len(more)
	b := make([]byte, 0, size)
	b = appendString(append(b, `{"event":`...), q.event.String())
	b = appendString(append(b, `,"client":`...), p.Client)
	b = appendString(append(b, `,"transport":`...), p.Transport)
	b = appendString(append(b, `,"protocol":`...), p.Protocol)
	b = appendString(append(b, `,"encoding":`...), p.Encoding)
	if p.User != "" {
		b = appendString(append(b, `,"user":`...), p.User)
	}
	if len(p.Meta) > 0 {
		b = append(append(b, `,"meta":`...), p.Meta...)
	}
	if len(p.Headers) > 0 {
		headers, _ := json.Marshal(p.Headers) // never fails for strings
		b = append(append(b, `,"headers":`...), headers...)
	}
	if q.method != "" {
		b = appendString(append(b, `,"method":`...), q.method)
	}
	switch {
	case !raw:
		b = base64.StdEncoding.AppendEncode(append(b, `,"b64data":"`...), q.data)
		b = append(b, '"')
	case len(q.data) > 0:
		b = append(append(b, `,"data":`...), q.data...)
	}
	if len(more) > 0 {
		b = append(append(b, ','), more...)
	}
	return append(b, '}')
}

// more are q.fields without the braces.
func (q *request) more() []byte {
	if q.fields == nil {
		return nil
	}
	b, _ := json.Marshal(q.fields)
	return b[1 : len(b)-1]
}

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // never fails for a string
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
