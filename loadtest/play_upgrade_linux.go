package loadtest

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/centrifugal/protocol"

	"roost/proto/ws"
)

const (
	splitFor    = 100 * time.Millisecond // between the first fragment of a large message and the others
	recountOwed = 50 * time.Millisecond  // how often what is still awaited is counted, at the end
	largeOneIn  = 50                     // clients
)

// upgrades is clients that publish to a channel each and receive what is published there, while the server is
// replaced. Client s publishes in its first channel; numbers are those of the publisher, so that many may publish in
// one channel. One client in largeOneIn sends large messages in fragments with a pause between, so that there is
// always a message of which the server has only a part. Owned by the loop, which is the only one of the run.
type upgrades struct {
	clients
	pacer   Pacer
	count   int64 // messages that were due
	turn    int   // session to send next
	peers   int
	windows []window // peers for each subscription: what has come from each of its channel's publishers
	senders []sender // by session
	halves  []half   // messages of which a part is sent, oldest first
	mark    mark
	owed    int64 // messages awaited, as of counted
	counted int64 // Unix ns
}

// sender is what a session has published.
type sender struct {
	sent    uint32
	answers window
	due     int64  // Unix ns, of the publication with number answers.base; 0: not known
	rest    []byte // of the message that is being sent in fragments
	worst   [2]uint32
}

// The parts of sender.worst: the longest that a message took which arrived there, in µs; 0 where none did.
const (
	calm   = 0
	around = 1 // a replacement
)

// half is a message of which the rest is to be sent.
type half struct {
	due           int64 // Unix ns
	session, sent uint32
}

// mark is the last replacement of the server. Its end is in the future while it lasts.
type mark struct{ begin, end int64 }

func newUpgrades(w *worker) *upgrades {
	u := &upgrades{clients: *newClients(w, w.Connections), pacer: newPacer(w.Rate, w.Ramp), peers: w.peers(),
		senders: make([]sender, w.Connections), mark: mark{begin: math.MaxInt64}}
	u.windows = make([]window, w.Connections*w.Subscriptions*u.peers)
	u.clients.received, u.clients.answered, u.clients.before = u.received, u.answered, u.whole
	return u
}

// size is the payload bytes of a session's messages.
func (u *upgrades) size(s uint32) int {
	if u.w.Large > 0 && s%largeOneIn == 0 {
		return u.w.Large
	}
	return u.w.Size
}

// window is what subscription k of session s has of publisher p.
func (u *upgrades) window(s uint32, k int, p uint32) *window {
	peer := 0
	if u.w.Channels > 0 {
		peer = int(p) / u.w.Channels
	}
	return &u.windows[(int(s)*u.w.Subscriptions+k)*u.peers+peer]
}

func (u *upgrades) due() (next int64) {
	w := u.w
	for len(u.halves) > 0 {
		h := u.halves[0]
		if h.due > w.now {
			next = h.due
			break
		}
		u.halves = u.halves[1:]
		if g := &u.senders[h.session]; g.rest != nil && g.sent == h.sent {
			u.whole(&w.clients[u.sessions[h.session].slot])
		}
	}
	if w.phase != measuring {
		return next
	}
	for range sendBatch {
		due := u.start + int64(u.pacer.Due(u.count))
		if due > w.now {
			return earlier(next, due)
		}
		u.count++
		u.one(due)
	}
	return w.now // more is due, after a look at the events
}

// one has the next session that is open publish, unless it cannot.
func (u *upgrades) one(due int64) {
	w := u.w
	for range u.sessions {
		s := uint32(u.turn)
		if u.turn++; u.turn == len(u.sessions) {
			u.turn = 0
		}
		if !u.sessions[s].open {
			continue
		}
		g, c := &u.senders[s], &w.clients[u.sessions[s].slot]
		if c.blocked() || g.rest != nil || g.sent-g.answers.base >= 64 {
			w.stats.Late++ // and dropped
			return
		}
		if clock()-due > int64(lateAfter) {
			w.stats.Late++
		}
		u.publish(c, s, due)
		return
	}
}

func (u *upgrades) publish(c *client, s uint32, due int64) {
	w, g, size := u.w, &u.senders[s], u.size(s)
	large := size != w.Size
	if large {
		due = w.now + int64(splitFor)
	}
	if g.sent == g.answers.base {
		g.due = due
	}
	w.payload = publication{uint32(w.Seed), s, g.sent, due}.append(w.payload[:0], w.fill, size)
	frame := u.wire.command(nil, &protocol.Command{Id: u.id2(g.sent), Publish: &protocol.PublishRequest{
		Channel: w.channel(w.channelOf(s, 0)), Data: w.payload}})
	g.sent++
	w.stats.Sent++
	if c.deflate {
		if b, err := ws.AppendDeflated(nil, frame); err == nil {
			frame = b
		}
	}
	if !large {
		w.sendFrame(c, u.op(), frame, c.deflate)
		return
	}
	g.rest = frame[len(frame)/3:]
	u.halves = append(u.halves, half{due, s, g.sent})
	w.sendFragment(c, u.op(), frame[:len(frame)/3], c.deflate, false)
}

// id2 is the command id of a session's publication seq; those below are of connect and subscribe.
func (u *upgrades) id2(seq uint32) uint32 { return uint32(u.w.Subscriptions) + 2 + seq }

// whole sends what is left of a message: nothing but control frames may come between its fragments.
func (u *upgrades) whole(c *client) {
	if c.state != stateOpen {
		return
	}
	g := &u.senders[c.session]
	if rest := g.rest; rest != nil {
		g.rest = nil
		u.w.sendFragment(c, ws.OpContinuation, rest[:len(rest)/2], false, false)
		if c.state == stateOpen {
			u.w.sendFragment(c, ws.OpContinuation, rest[len(rest)/2:], false, true)
		}
	}
}

// answered takes the reply to a publish command.
func (u *upgrades) answered(c *client, r *protocol.Reply) {
	w, g := u.w, &u.senders[c.session]
	w.progress = w.now
	seq := r.Id - u.id2(0)
	if seq >= g.sent {
		w.wrong("an answer nobody is waiting for")
		return
	}
	due := int64(0)
	if seq == g.answers.base {
		due = g.due
	}
	how, _ := g.answers.take(seq) // never 64 ahead: no more are under way
	if g.answers.base > seq {
		g.due = 0
	}
	switch {
	case how == doubled:
		w.stats.Doubled++
		w.stats.fail("an answer for a second time", 1)
	case r.Error != nil:
		text := fmt.Sprintf("%d: %s", r.Error.Code, r.Error.Message)
		w.stats.code(text, 1)
		w.stats.fail("publish: error "+text, 1)
	case due != 0:
		u.note(c.session, due)
	}
}

// received takes a publication.
func (u *upgrades) received(s uint32, p push) {
	w := u.w
	w.stats.Received++
	w.progress = w.now
	k, ok := u.find(s, p.channel)
	if !ok {
		w.wrong("a publication of a channel that the client has not subscribed to")
		return
	}
	sub := u.sub(s, k)
	if p.offset > sub.offset+1 {
		w.stats.Gaps++
		w.stats.fail("gaps in the offsets of publications", 1)
	}
	sub.offset = max(sub.offset, p.offset)
	data := bytes.TrimSpace(p.data)
	if len(data) > max(w.Size, w.Large) {
		w.wrong("not the bytes that were published")
		return
	}
	m, whole := parsePublication(data, w.fill, len(data))
	switch {
	case !whole:
		w.wrong("not the bytes that were published")
	case m.run != uint32(w.Seed):
		w.wrong("a publication of somebody else: give the run channels of its own (--channel)")
	case int(m.channel) >= w.Connections || w.channelOf(m.channel, 0) != w.channelOf(s, k):
		w.wrong("another channel's publication")
	case m.seq >= u.senders[m.channel].sent || len(data) != u.size(m.channel):
		w.wrong("not what was published under that number")
	default:
		u.numbered(s, k, m)
	}
}

// numbered takes a publication that is what its publisher sent.
func (u *upgrades) numbered(s uint32, k int, m publication) {
	stats := u.w.stats
	how, skipped := u.window(s, k, m.channel).take(m.seq)
	if skipped > 0 {
		stats.Missing += skipped
		stats.fail("publications that never came, though 64 later ones did", skipped)
	}
	switch how {
	case doubled:
		stats.Doubled++
		stats.fail("a publication for a second time", 1)
		return
	case late:
		stats.Disordered++
		stats.fail("a publication out of order", 1)
	}
	stats.Latency.record(u.w.now - m.due)
	u.note(s, m.due)
}

// note keeps the longest that a session waited for a message.
func (u *upgrades) note(s uint32, due int64) {
	part, w := calm, u.w
	if due <= u.mark.end && w.now >= u.mark.begin {
		part = around
	}
	us := uint32(min(max((w.now-due)/1000, 1), histMax))
	worst := &u.senders[s].worst[part]
	*worst = max(*worst, us)
}

func (u *upgrades) gone(c *client, lost bool) {
	u.clients.gone(c, lost)
	u.senders[c.session].rest = nil
	if lost && u.w.opens == 0 && u.w.phase == measuring {
		u.w.over(u.count)
	}
}

func (u *upgrades) command(name string, n int64) {
	switch {
	case name == doHalt:
		for len(u.halves) > 0 {
			h := u.halves[0]
			u.halves = u.halves[1:]
			u.whole(&u.w.clients[u.sessions[h.session].slot])
		}
		u.w.over(u.count)
	case name == doMark && n == 1:
		u.fold(around)
		u.mark = mark{u.w.now, math.MaxInt64}
	case name == doMark:
		u.mark.end = u.w.now
	case name == doFinish:
		u.counted = 0
	}
}

// fold tells how long each session waited, and begins anew.
func (u *upgrades) fold(part int) {
	h := u.w.stats.Calm
	if part == around {
		if u.mark.begin == math.MaxInt64 {
			return // there was none
		}
		h = u.w.stats.Pause
	}
	for s := range u.senders {
		if worst := &u.senders[s].worst[part]; *worst > 0 {
			h.record(int64(*worst) * 1000)
			*worst = 0
		}
	}
	if part == around {
		u.w.emit(evFolded, 0, "")
	}
}

// inFlight is what clients that are still there await.
func (u *upgrades) inFlight() int64 {
	if u.w.now-u.counted >= int64(recountOwed) {
		answers, publications := u.lacking()
		u.counted, u.owed = u.w.now, answers+publications
	}
	return u.owed
}

// lacking counts the answers and publications that have not come to clients which are still there. Of a publisher
// that is gone only what the server has confirmed is owed.
func (u *upgrades) lacking() (answers, publications int64) {
	w := u.w
	for p := range u.senders {
		if g := &u.senders[p]; u.sessions[p].open {
			answers += g.answers.lacks(g.sent)
		}
	}
	for s := range u.sessions {
		if !u.sessions[s].open {
			continue
		}
		for k := range w.Subscriptions {
			first, step := w.channelOf(uint32(s), k), int64(w.Channels)
			if step == 0 { // its own channel; others of its own have no publisher
				if k > 0 {
					continue
				}
				first, step = int64(s), int64(w.Connections)
			}
			for p := first; p < int64(w.Connections); p += step {
				g := &u.senders[p]
				owed := g.sent
				if !u.sessions[p].open {
					owed = g.answers.base
				}
				publications += u.window(uint32(s), k, uint32(p)).lacks(owed)
			}
		}
	}
	return answers, publications
}

func (u *upgrades) missing() int64 {
	answers, publications := u.lacking()
	u.w.stats.Unanswered += answers
	u.fold(calm)
	u.fold(around)
	return answers + publications
}

var _ greeter = (*upgrades)(nil)
