// Package conformance puts a WebSocket echo server under two black-box suites
// over TCP: the server cases 1 to 13 of the Autobahn testsuite, written anew,
// and a table of hostile inputs. It has a raw client of its own and shares no
// code with the server, so it works against any RFC 6455 echo server.
//
// What the Autobahn cases send and expect (payloads, sizes, chops, codes,
// negotiation parameters) follows github.com/crossbario/autobahn-testsuite,
// folder autobahntestsuite/autobahntestsuite/case. Three things differ: the
// corpora of 12 and 13 are generated, echoes of 9 are compared byte by byte
// where the original looks at their length, and pauses are as short as the
// case allows.
package conformance

import (
	"fmt"
	"time"
)

// Class is how a case went, in Autobahn's terms.
type Class string

const (
	OK             Class = "OK"
	NonStrict      Class = "NON-STRICT"       // allowed, but not what the case prefers
	Informational  Class = "INFORMATIONAL"    // the specification leaves it open
	Unimplemented  Class = "UNIMPLEMENTED"    // the server declined permessage-deflate
	Failed         Class = "FAILED"           // neither of the expected outcomes
	WrongCode      Class = "WRONG CODE"       // close only: a code the case does not allow
	Unclean        Class = "UNCLEAN"          // close only: TCP ended without a close frame
	FailedByClient Class = "FAILED BY CLIENT" // close only: the server left it to us to drop TCP
)

// Case is one case; make them with [Cases].
type Case struct {
	ID     string // "6.4.2"
	Sends  string // what is sent
	Expect string // what is to be seen

	steps     []step
	ok        []event // what is to be received
	nonStrict []event // received instead: NonStrict, when loose
	loose     bool

	closing       closing
	keepOpen      bool // the script closes by itself: no close when ok has been received
	informational bool
	bulk          *bulk
}

// closing is how the connection is to end.
type closing struct {
	byClient bool     // the client's close frame comes first
	codes    []uint16 // what the server's close frame may carry; it may also be bare
	clean    bool     // the server must send a close frame
	decides  bool     // another code fails the case, not only its close
}

// step is one act of the client.
type step struct {
	data   []byte
	chop   int           // bytes per write, 0: one
	closes bool          // data is a close frame the closing handshake begins with
	pause  time.Duration // instead of data: wait, and note the label when the connection is still open
	label  string
}

// opPause marks a pause that ran out in what was received.
const opPause = 0xF0

// Pauses of the fail-fast cases 6.4. A server that fails fast ends the long one
// early; only a server that does not waits for it to run out.
const (
	pauseShort = 100 * time.Millisecond // the server must still be there after it
	pauseLong  = time.Second            // the server must be gone before it is over
)

func frames(chop int, fs ...frame) []step {
	var steps []step
	if chop == 0 { // frames of one turn share a segment
		var b []byte
		for _, f := range fs {
			b = f.append(b)
		}
		return []step{{data: b}}
	}
	for _, f := range fs {
		steps = append(steps, step{data: f.append(nil), chop: chop})
	}
	return steps
}

// framewise is the chop that sends each frame in one write of its own.
const framewise = 1 << 30

func sendClose(body []byte) step {
	return step{data: frame{op: opClose, payload: body}.append(nil), closes: true}
}

func wait(d time.Duration, label string) step { return step{pause: d, label: label} }

func text(s string) frame    { return frame{op: opText, payload: []byte(s)} }
func ping(s string) frame    { return frame{op: opPing, payload: []byte(s)} }
func gotText(s string) event { return event{op: opText, payload: []byte(s)} }
func gotPong(s string) event { return event{op: opPong, payload: []byte(s)} }

var (
	normal       = closing{byClient: true, codes: []uint16{1000}, clean: true}
	protocolFail = closing{codes: []uint16{1002}}
	payloadFail  = closing{codes: []uint16{1007}}
)

// Result is what became of a case.
type Result struct {
	Case
	Behavior Class  // of what was received
	Close    Class  // of how the connection ended
	Why      string // both, in a sentence
	Seen     []string
	Took     time.Duration
}

// Class is the verdict: a case whose close is not right has failed.
func (r Result) Class() Class {
	if r.Close != OK && r.Close != Informational {
		return Failed
	}
	return r.Behavior
}

func (r Result) String() string {
	return fmt.Sprintf("%s %s (behaviour %s, close %s) in %v\n\tsends:   %s\n\texpects: %s\n\tsaw:     %q\n\t%s",
		r.ID, r.Class(), r.Behavior, r.Close, r.Took.Round(time.Millisecond), r.Sends, r.Expect, r.Seen, r.Why)
}
