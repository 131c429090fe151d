package client

import (
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/centrifugal/fdelta"
	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"

	"roost/proto/ws"
)

// DeltaMode says how a publication's data travels.
type DeltaMode uint8

// Modes.
const (
	DeltaNone  DeltaMode = iota // as it is
	DeltaFull                   // the whole data; deltas were agreed, so JSON has it as a string
	DeltaPatch                  // a patch to the data before, or the whole where none pays
	deltaModes
)

// Shape is one of the forms a push is sent in.
type Shape struct {
	Encoding Encoding
	ByID     bool // the channel's number instead of its name
	Delta    DeltaMode
}

func (s Shape) index() int {
	i := int(s.Encoding)*int(deltaModes) + int(s.Delta)
	if s.ByID {
		i += len(Ping) * int(deltaModes)
	}
	return i
}

// Frame is a push to many receivers, encoded at most once for each shape. Any
// goroutine.
type Frame struct {
	push   *protocol.Push // with the channel's name
	id     int64
	before []byte // data that a patch applies to

	shapes [2 * len(Ping) * int(deltaModes)]atomic.Pointer[ws.Prepared] // with channel and with id, by encoding

	mu    sync.Mutex // of who encodes
	patch []byte
	tried bool // patch was made, or found not to pay
}

// NewPublicationFrame makes the frame of a publication; before is the data patches
// apply to, nil where there can be none.
func NewPublicationFrame(channel string, id int64, pub *protocol.Publication, before []byte) *Frame {
	return &Frame{push: &protocol.Push{Channel: channel, Pub: pub}, id: id, before: before}
}

// NewPushFrame makes the frame of another push.
func NewPushFrame(p *protocol.Push, id int64) *Frame { return &Frame{push: p, id: id} }

// Prepared returns the push in a shape.
func (f *Frame) Prepared(s Shape) *ws.Prepared {
	shape := &f.shapes[s.index()]
	if p := shape.Load(); p != nil { // all receivers but one
		return p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := shape.Load()
	if p == nil {
		p = f.encode(s)
		shape.Store(p)
	}
	return p
}

func (f *Frame) encode(s Shape) *ws.Prepared {
	push := &protocol.Push{Channel: f.push.Channel, Pub: f.push.Pub, Join: f.push.Join, Leave: f.push.Leave,
		Unsubscribe: f.push.Unsubscribe, Message: f.push.Message, Subscribe: f.push.Subscribe, Connect: f.push.Connect,
		Disconnect: f.push.Disconnect, Refresh: f.push.Refresh}
	if s.ByID {
		push.Id, push.Channel = f.id, ""
	}
	if f.push.Pub != nil {
		push.Pub = f.publication(s)
	}
	b, err := AppendPush(nil, s.Encoding, push)
	if err != nil { // only where tags are no text, too: without the rest, clients ignore it
		b, _ = AppendPush(nil, s.Encoding, &protocol.Push{Id: push.Id, Channel: push.Channel})
	}
	return ws.NewPrepared(s.Encoding.Opcode(), b)
}

// publication returns the publication as it goes into a shape.
func (f *Frame) publication(s Shape) *protocol.Publication {
	p := f.push.Pub
	out := &protocol.Publication{Data: p.Data, Info: p.Info, Offset: p.Offset, Tags: p.Tags, Time: p.Time}
	if s.Delta == DeltaNone {
		return out
	}
	if s.Delta == DeltaPatch && f.before != nil {
		if !f.tried {
			f.patch, f.tried = Delta(f.before, p.Data), true
		}
		if f.patch != nil && (s.Encoding == Protobuf || f.patchIsText()) {
			out.Data, out.Delta = f.patch, true
		}
	}
	switch {
	case s.Encoding == Protobuf:
	case out.Delta:
		out.Data = cfjson.AppendString(nil, string(f.patch))
	default:
		out.Data = JSONString(nil, p.Data)
	}
	return out
}

// patchIsText tells whether JSON clients can apply the patch: it may cut a character in
// two, and of data that is no JSON they have something else.
func (f *Frame) patchIsText() bool {
	return utf8.Valid(f.patch) && isJSON(f.before) && isJSON(f.push.Pub.Data)
}

// Delta returns the fossil delta that turns prev into cur, or nil where it is not
// shorter than cur.
func Delta(prev, cur []byte) []byte {
	d := fdelta.Create(prev, cur)
	if len(d) >= len(cur) {
		return nil
	}
	return d
}
