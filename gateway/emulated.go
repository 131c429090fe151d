package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"roost/broker"
	"roost/proto/ws"
)

// What a client without a WebSocket cannot be given.
var (
	// ErrNoNode means that the node which is to have the session is not alive.
	ErrNoNode = broker.ErrNoNode
	// ErrNoSession means that the node has, and lately had, no such session.
	ErrNoSession = errors.New("gateway: no such session")
	// ErrSessionEnded means that the session has just come to its end.
	ErrSessionEnded = errors.New("gateway: the session has ended")
	// ErrSessionBusy means that the session takes no more for now.
	ErrSessionBusy = errors.New("gateway: the session takes no more commands now")
)

// sessionHeader names in an upgrade request the session it is the upgrade of. Only who
// made the session knows its id until then, and once is all it is good for.
const sessionHeader = "Roost-Session"

// sessionMemory is how long an ended session is told from one that never was: a client
// that is about to read why it ended must not be told otherwise.
const sessionMemory = 10 * time.Second

// Emulated is a client that has no WebSocket of its own: its transport speaks as one to
// the server on its behalf, and takes what it sends by Post. All methods may be called by
// any goroutine.
type Emulated struct {
	// Static.
	node      *Node
	transport string
	id        string
	deliver   func(data []byte) error

	// Guarded by sessions.mu.
	session *session // once the upgrade has been asked for
	used    bool
	ended   bool
}

// sessions are the emulated ones, by the hash of their id: how long it takes to find one
// tells nothing about the ids there are.
type sessions struct {
	mu    sync.RWMutex
	byKey map[sessionKey]*Emulated
}

type sessionKey = [sha256.Size]byte

func keyOf(id string) sessionKey { return sha256.Sum256([]byte(id)) }

// Emulate begins a session of a transport, sse or http_stream. deliver gets the commands
// that are posted to it, in the encoding of the session, by any goroutine; its errors are
// Post's. End must be called.
func (n *Node) Emulate(transport string, deliver func(data []byte) error) *Emulated {
	e := &Emulated{node: n, transport: transport, id: rand.Text(), deliver: deliver}
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	if n.sessions.byKey == nil {
		n.sessions.byKey = make(map[sessionKey]*Emulated)
	}
	n.sessions.byKey[keyOf(e.id)] = e
	return e
}

// SetHeader makes h the header of an upgrade request for e.
func (e *Emulated) SetHeader(h http.Header) { h.Set(sessionHeader, e.id) }

// End forgets the session; its connection is the caller's to close.
func (e *Emulated) End() {
	all := &e.node.sessions
	all.mu.Lock()
	defer all.mu.Unlock()
	if e.ended {
		return
	}
	e.ended, e.session, e.deliver = true, nil, nil
	time.AfterFunc(sessionMemory, func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		delete(all.byKey, keyOf(e.id))
	})
}

// emulated returns the session that an upgrade request is for, nil where it is for a
// WebSocket. In the worker pool or on a loop.
func (n *Node) emulated(r *http.Request, s *session) (*Emulated, error) {
	ids := r.Header[sessionHeader]
	if len(ids) == 0 {
		return nil, nil
	}
	n.sessions.mu.Lock()
	defer n.sessions.mu.Unlock()
	e := n.sessions.byKey[keyOf(ids[0])]
	if len(ids) > 1 || e == nil || e.used || e.ended {
		return nil, &ws.HandshakeError{Status: http.StatusForbidden, Label: "forged_session", Detail: "the header " + sessionHeader + " is not for clients"}
	}
	e.used, e.session = true, s
	return e, nil
}

// find returns the session of an id and what takes its commands.
func (a *sessions) find(id string) (s *session, deliver func([]byte) error, err error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	switch e := a.byKey[keyOf(id)]; {
	case e == nil:
		return nil, nil, ErrNoSession
	case e.ended:
		return nil, nil, ErrSessionEnded
	default:
		return e.session, e.deliver, nil
	}
}

// findEmulated returns the client of an emulated session of this node, nil where there is
// none.
func (n *Node) findEmulated(id string) *session {
	s, _, err := n.sessions.find(id)
	if err != nil || s == nil || !s.is(markConnected) {
		return nil
	}
	return s
}

// byTransport counts the clients of each emulated transport.
func (a *sessions) byTransport() map[string]int64 {
	counts := map[string]int64{TransportSSE: 0, TransportHTTPStream: 0}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, e := range a.byKey {
		if e.session != nil && e.session.is(markConnected) {
			counts[e.transport]++
		}
	}
	return counts
}

// Post hands commands of an emulated client to its session, on whichever node that is;
// "" is this one. Errors: ErrNoNode, ErrNoSession,
// ErrSessionEnded, ErrSessionBusy, broker.ErrUnavailable, broker.ErrTooLarge, ctx's.
func (n *Node) Post(ctx context.Context, node, id string, data []byte) error {
	if node == "" || node == n.broker.Node() {
		return n.post(id, data)
	}
	reply, err := n.broker.AskNode(ctx, node, "post", append([]byte(id+"\n"), data...))
	if err != nil {
		return err
	}
	for _, known := range []error{ErrNoSession, ErrSessionEnded, ErrSessionBusy} {
		if string(reply) == known.Error() {
			return known
		}
	}
	if len(reply) > 0 {
		return errors.New(string(reply))
	}
	return nil
}

func (n *Node) post(id string, data []byte) error {
	_, deliver, err := n.sessions.find(id)
	if err != nil {
		return err
	}
	return deliver(data)
}

// posted answers another node's Post: by nothing, or by the text of the error.
func (n *Node) posted(question []byte) []byte {
	id, data, _ := strings.Cut(string(question), "\n")
	if err := n.post(id, []byte(data)); err != nil {
		return []byte(err.Error())
	}
	return nil
}
