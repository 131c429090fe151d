package gateway

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"roost/broker"
	"roost/conn"
	"roost/poller"
	"roost/proto/client"
	"roost/proto/ws"
)

const (
	wireLimit  = 32 << 20 // bytes that wait for NATS; clients are held from half of it on
	outboxSize = 8 << 20  // bytes that wait for a loop; then NATS is not read
	outboxKept = 4096     // messages whose places are kept for the next
	rawSubRoom = 1024     // bytes on the stack for a subject; longer ones are allocated
)

// rawNATS is the carrier of a route whose backend is on NATS. What client C of user U
// sends is published on SUBJECT.raw.ROUTE.in.C.U.KIND, as it is, with the reply subject
// SUBJECT.raw.ROUTE.out.NODE.C.KIND; the backend's messages come on that. KIND is text or
// binary, besides connect and disconnect on the way in and close on the way out.
type rawNATS struct {
	// Static after start.
	rt      *rawRoute
	in, out string // beginnings of the subjects, out with the node
	boxes   map[*poller.Loop]*rawOutbox
}

// rawOutbox is what the backend says to the clients of one loop.
type rawOutbox struct {
	mu    sync.Mutex
	room  sync.Cond
	list  []rawPush
	spare []rawPush // the other half of list
	bytes int
	gone  bool // the loop has stopped
}

type rawPush struct {
	handle poller.Handle
	kind   rawPushKind
	data   []byte
}

type rawPushKind uint8

const (
	pushText rawPushKind = iota
	pushBinary
	pushClose
	pushNobody // nobody listened to what the client sent
)

var pushKinds = map[string]rawPushKind{"text": pushText, "binary": pushBinary, "close": pushClose}

// newRawNATS connects the node for raw routes, if it is not yet.
func newRawNATS(rt *rawRoute) (*rawNATS, error) {
	n := rt.node
	if n.wire == nil {
		var err error
		if n.wire, err = n.broker.Wire(wireLimit, n.rawBroken); err != nil {
			return nil, err
		}
	}
	prefix := rt.Subject + ".raw." + rt.name
	return &rawNATS{rt: rt, in: prefix + ".in.", out: prefix + ".out." + string(broker.AppendToken(nil, n.broker.Node())) + "."}, nil
}

// start listens to the backend, once there are loops.
func (x *rawNATS) start() error {
	x.boxes = make(map[*poller.Loop]*rawOutbox)
	for _, l := range x.rt.node.server.Poller().Loops() {
		b := new(rawOutbox)
		b.room.L = &b.mu
		x.boxes[l] = b
	}
	return x.rt.node.wire.Subscribe(x.out+">", x.pushed)
}

// subjects returns those of a message of s, in dst.
func (x *rawNATS) subjects(dst []byte, s *session, kind string) (subject, reply []byte) {
	ids, h := x.rt.node.ids, s.Conn.Handle()
	dst = append(dst, x.in...)
	at := len(dst)
	dst = ids.appendID(dst, h)
	end := len(dst)
	dst = append(dst, '.')
	if s.User == "" {
		dst = append(dst, '-')
	} else {
		dst = broker.AppendToken(dst, s.User)
	}
	dst = append(append(dst, '.'), kind...)
	subject = dst
	reply = append(dst, x.out...)
	reply = append(append(reply, subject[at:end]...), '.')
	reply = append(reply, kind...)
	return reply[:len(subject)], reply[len(subject):]
}

// put hands a message to the wire.
func (x *rawNATS) put(s *session, kind string, data []byte, keep bool) {
	var room [rawSubRoom]byte
	subject, reply := x.subjects(room[:0], s, kind)
	if keep {
		reply = nil
	}
	switch err := x.rt.node.wire.Put(s, subject, reply, data, keep); {
	case err == nil:
	case errors.Is(err, broker.ErrTooLarge):
		x.rt.fail(s, rawLarge, errRawLarge)
	case errors.Is(err, broker.ErrWireFull):
		x.rt.fail(s, rawFull, errRawFull)
	default:
		x.rt.fail(s, rawLost, errRawAway)
	}
}

func (x *rawNATS) message(s *session, op ws.Opcode, payload []byte) {
	x.rt.node.touch(s)
	if op == ws.OpText {
		x.put(s, "text", payload, false)
	} else {
		x.put(s, "binary", payload, false)
	}
}

// opened tells the backend, and where it reaches the client.
func (x *rawNATS) opened(s *session, r *RawRequest) {
	b, err := json.Marshal(struct {
		*RawRequest
		Reply string `json:"reply"`
	}{r, x.out + r.Client})
	if err != nil {
		x.rt.node.opts.Logger.Error("a connect event could not be encoded", "error", err)
	}
	x.put(s, "connect", b, false)
}

func (x *rawNATS) closed(s *session, d *RawDisconnect) {
	b, err := json.Marshal(d)
	if err != nil {
		x.rt.node.opts.Logger.Error("a disconnect event could not be encoded", "error", err)
	}
	x.put(s, "disconnect", b, true)
}

// pushed takes a message of the backend to the loop of its client. On the goroutine of
// the subscription.
func (x *rawNATS) pushed(subject string, data []byte, failed bool) {
	n := x.rt.node
	id, kind, _ := strings.Cut(strings.TrimPrefix(subject, x.out), ".")
	h, ok := n.ids.handle(id)
	what, known := pushKinds[kind]
	if !ok || !known && kind != "connect" {
		x.rt.counts.dropped.Add(rawSubject)
		return
	}
	p := rawPush{handle: h, kind: what, data: data}
	switch {
	case failed:
		p.kind = pushNobody
	case kind == "connect": // the backend answered to it as to a message
		if x.rt.opcode(true) == ws.OpBinary {
			p.kind = pushBinary
		}
	}
	l := n.server.Poller().Loop(h)
	b := x.boxes[l]
	if b == nil {
		x.rt.counts.dropped.Add(rawGone)
		return
	}
	b.mu.Lock()
	for b.bytes > outboxSize && !b.gone {
		b.room.Wait()
	}
	b.list = append(b.list, p)
	b.bytes += len(data)
	first := len(b.list) == 1
	b.mu.Unlock()
	if first && !l.Post(func() { x.deliver(l, b) }) {
		b.mu.Lock()
		b.gone = true // nobody is left to hear it
		b.list = nil
		b.mu.Unlock()
		b.room.Broadcast()
	}
}

// deliver brings what has come to the clients. On the loop.
func (x *rawNATS) deliver(l *poller.Loop, b *rawOutbox) {
	b.mu.Lock()
	list := b.list
	b.list, b.spare = b.spare, nil
	b.bytes = 0
	b.mu.Unlock()
	b.room.Broadcast()
	for i := range list {
		x.bring(l, &list[i])
	}
	clear(list)
	if cap(list) > outboxKept {
		return
	}
	b.mu.Lock()
	if b.list == nil {
		b.list = list[:0]
	} else {
		b.spare = list[:0]
	}
	b.mu.Unlock()
}

func (x *rawNATS) bring(l *poller.Loop, p *rawPush) {
	s := sessionAt(l, p.handle)
	if s == nil || s.raw() != x.rt || s.is(markEnded) {
		x.rt.counts.dropped.Add(rawGone)
		return
	}
	x.rt.node.touch(s)
	switch p.kind {
	case pushNobody:
		x.rt.fail(s, rawNobody, errRawAway)
	case pushClose:
		d, ok := closeOf(p.data)
		if !ok {
			x.rt.counts.dropped.Add(rawBadEnd)
			return
		}
		x.rt.node.disconnect(s, d)
	case pushBinary:
		_ = x.rt.send(s, ws.OpBinary, p.data)
	default:
		_ = x.rt.send(s, ws.OpText, p.data)
	}
}

// closeOf reads {"code":4000,"reason":"…"}; nothing is 1000.
func closeOf(data []byte) (d client.Disconnect, ok bool) {
	d.Code = uint32(ws.CloseNormal)
	if len(data) == 0 {
		return d, true
	}
	var r struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &r) != nil || r.Code > 4999 || !ws.CloseCode(r.Code).Valid() || len(r.Reason) > maxReason {
		return d, false
	}
	return client.Disconnect{Code: r.Code, Reason: r.Reason}, true
}

const maxReason = 123 // bytes that a close frame has room for

// Sessions of raw routes are what the wire knows as senders.
var _ broker.Sender = (*session)(nil)

// Hold and Resume implement broker.Sender: the kernel pushes back on the client meanwhile.
func (s *session) Hold()   { s.Conn.Pause() }
func (s *session) Resume() { s.Conn.Resume() }

// Lost implements broker.Sender.
func (s *session) Lost(err error) {
	s.set(markBroken)
	rt := s.raw()
	if errors.Is(err, broker.ErrTooLarge) {
		rt.fail(s, rawLarge, errRawLarge)
		return
	}
	rt.fail(s, rawLost, errRawAway)
}

// Broken implements broker.Sender.
func (s *session) Broken() bool { return s.is(markBroken) }

var _ conn.Handler = (*rawRoute)(nil)
