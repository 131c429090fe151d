package conformance

import (
	"bytes"
	"fmt"
	"strings"
)

// CaseCount is how many cases there are.
const CaseCount = 517

// Cases returns all cases in Autobahn's order.
func Cases() []Case {
	var cases []Case
	for _, group := range [][]Case{
		echoCases(), pingCases(), rsvCases(), opcodeCases(), fragmentCases(), strayCases(), pausedFragmentCases(),
		utf8Cases(), utf8SequenceCases(), closeCases(), closeCodeCases(), limitCases(), deflateCases(),
	} {
		cases = append(cases, group...)
	}
	return cases
}

const hello = "Hello, world!"

// echoCases are 1.1 and 1.2: one message of each length class.
func echoCases() []Case {
	var cases []Case
	for k, kind := range []struct {
		op   byte
		fill string
	}{{opText, "*"}, {opBinary, "\xfe"}} {
		for i, size := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			chop := 0
			if i == 7 {
				chop = 997
			}
			payload := bytes.Repeat([]byte(kind.fill), size)
			cases = append(cases, Case{
				ID:      fmt.Sprintf("1.%d.%d", k+1, i+1),
				Sends:   fmt.Sprintf("a %s message of %d bytes, %d bytes per write (0: all)", opName(kind.op), size, chop),
				Expect:  "the message back, close 1000",
				steps:   frames(chop, frame{op: kind.op, payload: payload}),
				ok:      []event{{op: kind.op, payload: payload}},
				closing: normal,
			})
		}
	}
	return cases
}

// pingCases are 2: pings and pongs.
func pingCases() []Case {
	full := strings.Repeat("\xfe", 125)
	binary := "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	pong := func(id, sends, payload string, chop int) Case {
		return Case{ID: id, Sends: sends, Expect: "one pong with the same payload, close 1000",
			steps: frames(chop, ping(payload)), ok: []event{gotPong(payload)}, closing: normal}
	}
	unsolicited := func(id, payload string) Case {
		return Case{ID: id, Sends: fmt.Sprintf("a pong of %d bytes nobody asked for, then close 1000", len(payload)),
			Expect: "no answer to it, close 1000", closing: normal,
			steps: append(frames(0, frame{op: opPong, payload: []byte(payload)}), sendClose(closeBody(1000, "")))}
	}
	many := func(id string, chop int) Case {
		c := Case{ID: id, Sends: fmt.Sprintf("ten pings, %d bytes per write (0: all)", chop),
			Expect: "ten pongs in their order, close 1000", closing: normal}
		var pings []frame
		for i := range 10 {
			payload := fmt.Sprintf("payload-%d", i)
			pings = append(pings, ping(payload))
			c.ok = append(c.ok, gotPong(payload))
		}
		c.steps = frames(chop, pings...)
		return c
	}
	return []Case{
		pong("2.1", "a ping without payload", "", 0),
		pong("2.2", "a ping with a text payload", hello, 0),
		pong("2.3", "a ping with a binary payload", binary, 0),
		pong("2.4", "a ping of 125 bytes", full, 0),
		{ID: "2.5", Sends: "a ping of 126 bytes", Expect: "failed with 1002", closing: protocolFail,
			steps: frames(0, ping(full+"\xfe"))},
		pong("2.6", "a ping of 125 bytes, byte by byte", full, 1),
		unsolicited("2.7", ""),
		unsolicited("2.8", "unsolicited pong payload"),
		{ID: "2.9", Sends: "a pong nobody asked for, then a ping", Expect: "one pong, to the ping; close 1000",
			steps: frames(0, frame{op: opPong, payload: []byte("unsolicited pong payload")}, ping("ping payload")),
			ok:    []event{gotPong("ping payload")}, closing: normal},
		many("2.10", 0),
		many("2.11", 1),
	}
}

// afterEcho is a case whose first message is fine and whose second frame is not.
func afterEcho(id, sends string, chop int, bad frame) Case {
	return Case{ID: id, Sends: "a text message, then " + sends + ", then a ping",
		Expect: "the message back, then failed with 1002 and no pong",
		steps:  frames(chop, text(hello), bad, ping("")),
		ok:     []event{gotText(hello)}, loose: true, closing: protocolFail}
}

func failing(id, sends string, chop int, bad ...frame) Case {
	return Case{ID: id, Sends: sends, Expect: "failed with 1002, nothing back", steps: frames(chop, bad...),
		closing: protocolFail}
}

// rsvCases are 3: reserved bits no extension gave a meaning.
func rsvCases() []Case {
	message := func(rsv byte) frame { return frame{op: opText, rsv: rsv, payload: []byte(hello)} }
	return []Case{
		failing("3.1", "a text message with RSV 1", 0, message(1)),
		afterEcho("3.2", "one with RSV 2", 0, message(2)),
		afterEcho("3.3", "one with RSV 3, each frame in its own write", framewise, message(3)),
		afterEcho("3.4", "one with RSV 4, byte by byte", 1, message(4)),
		failing("3.5", "a binary message with RSV 5", 0,
			frame{op: opBinary, rsv: 5, payload: []byte("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}),
		failing("3.6", "a binary message with RSV 6", 0, frame{op: opBinary, rsv: 6, payload: []byte(hello)}),
		failing("3.7", "a close frame with RSV 7", 0, frame{op: opClose, rsv: 7}),
	}
}

// opcodeCases are 4: reserved opcodes, data (3 to 7) and control (11 to 15).
func opcodeCases() []Case {
	var cases []Case
	for k, first := range []byte{3, 11} {
		id := func(i int) string { return fmt.Sprintf("4.%d.%d", k+1, i) }
		name := func(i byte) string { return fmt.Sprintf("a frame with opcode %d", first+i) }
		payload := []byte(hello)
		cases = append(cases,
			failing(id(1), name(0), 0, frame{op: first}),
			failing(id(2), name(1), 0, frame{op: first + 1, payload: []byte("reserved opcode payload")}),
			afterEcho(id(3), name(2), 0, frame{op: first + 2}),
			afterEcho(id(4), name(3), 0, frame{op: first + 3, payload: payload}),
			afterEcho(id(5), name(4)+", byte by byte", 1, frame{op: first + 4, payload: payload}),
		)
	}
	return cases
}

func part(op byte, more bool, payload string) frame {
	return frame{op: op, more: more, payload: []byte(payload)}
}

// fragmentCases are 5.1 to 5.8: two fragments, with and without a ping between.
func fragmentCases() []Case {
	chops := []int{0, framewise, 1}
	names := []string{"in one write", "each frame in its own write", "byte by byte"}
	cases := []Case{
		failing("5.1", "a ping in two fragments", 0, part(opPing, true, "fragment1"), part(opContinuation, false, "fragment2")),
		failing("5.2", "a pong in two fragments", 0, part(opPong, true, "fragment1"), part(opContinuation, false, "fragment2")),
	}
	for i, chop := range chops {
		cases = append(cases, Case{ID: fmt.Sprintf("5.%d", 3+i), Sends: "a text message in two fragments, " + names[i],
			Expect:  "the message back, close 1000",
			steps:   frames(chop, part(opText, true, "fragment1"), part(opContinuation, false, "fragment2")),
			ok:      []event{gotText("fragment1fragment2")},
			closing: normal})
	}
	for i, chop := range chops {
		cases = append(cases, Case{ID: fmt.Sprintf("5.%d", 6+i),
			Sends:  "a text message in two fragments with a ping between them, " + names[i],
			Expect: "the pong, then the message back, close 1000",
			steps: frames(chop, part(opText, true, "fragment1"), ping("ping payload"),
				part(opContinuation, false, "fragment2")),
			ok:      []event{gotPong("ping payload"), gotText("fragment1fragment2")},
			closing: normal})
	}
	return cases
}

// strayCases are 5.9 to 5.18: continuations of nothing and messages begun twice.
func strayCases() []Case {
	var cases []Case
	for k, more := range []bool{false, true} {
		for i, chop := range []int{0, framewise, 1} {
			cases = append(cases, failing(fmt.Sprintf("5.%d", 9+3*k+i),
				fmt.Sprintf("a continuation of nothing with FIN %v, then a text message; chop %d", !more, chop), chop,
				part(opContinuation, more, "non-continuation payload"), text(hello)))
		}
	}
	cases = append(cases, Case{ID: "5.15",
		Sends:  "a text message in two fragments, a continuation of nothing, a text message",
		Expect: "the first message back, then failed with 1002",
		steps: frames(0, part(opText, true, "fragment1"), part(opContinuation, false, "fragment2"),
			part(opContinuation, true, "fragment3"), text("fragment4")),
		ok: []event{gotText("fragment1fragment2")}, loose: true, closing: protocolFail})
	for i, more := range []bool{true, false} {
		twice := []frame{part(opContinuation, more, "fragment1"), part(opText, true, "fragment2"),
			part(opContinuation, false, "fragment3")}
		cases = append(cases, failing(fmt.Sprintf("5.%d", 16+i),
			fmt.Sprintf("twice: a continuation of nothing with FIN %v, a text message in two fragments", !more), 0,
			append(twice, twice...)...))
	}
	return append(cases, failing("5.18", "two fragments that both begin a text message", 0,
		part(opText, true, "fragment1"), part(opText, false, "fragment2")))
}

// pausedFragmentCases are 5.19 and 5.20: five fragments, two pings and a pause.
func pausedFragmentCases() []Case {
	var cases []Case
	for i, chop := range []int{0, framewise} {
		steps := frames(chop, part(opText, true, "fragment1"), part(opContinuation, true, "fragment2"), ping("pongme 1!"))
		steps = append(steps, wait(pauseShort, ""))
		steps = append(steps, frames(chop, part(opContinuation, true, "fragment3"), part(opContinuation, true, "fragment4"),
			ping("pongme 2!"), part(opContinuation, false, "fragment5"))...)
		cases = append(cases, Case{ID: fmt.Sprintf("5.%d", 19+i), steps: steps, closing: normal,
			Sends:  fmt.Sprintf("two fragments, a ping, a pause, two fragments, a ping, the last fragment; chop %d", chop),
			Expect: "the first pong before the pause is over, the second, then the message back; close 1000",
			ok: []event{gotPong("pongme 1!"), {op: opPause}, gotPong("pongme 2!"),
				gotText("fragment1fragment2fragment3fragment4fragment5")}})
	}
	return cases
}
