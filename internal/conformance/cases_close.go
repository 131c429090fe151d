package conformance

import (
	"fmt"
	"strings"
)

// answers is a case that begins the closing handshake itself.
func answers(id, sends string, want closing, steps ...step) Case {
	want.byClient, want.decides = true, true
	return Case{ID: id, Sends: sends, Expect: fmt.Sprintf("nothing but a close with one of %v (or empty)", want.codes),
		steps: steps, closing: want, keepOpen: true}
}

// closeCases are 7.1 to 7.5.
func closeCases() []Case {
	ordinary := closing{codes: []uint16{1000}, clean: true}
	refused := closing{codes: []uint16{1002}}
	close1000 := sendClose(closeBody(1000, ""))
	after := func(fs ...frame) []step { return append([]step{close1000}, frames(0, fs...)...) }
	firstEcho := Case{ID: "7.1.1", Sends: "a text message, and a close when it is back", Expect: "the message, close 1000",
		steps: frames(0, text("Hello World!")), ok: []event{gotText("Hello World!")}, closing: normal}
	firstEcho.closing.decides = true
	large := answers("7.1.6", "a text message of 256 KiB, a short one, a close and a ping back to back", ordinary)
	large.Expect = "whatever comes back before the close; only noted"
	large.informational = true
	large.steps = frames(0, text(strings.Repeat("BAsd7&jh23", 26215)[:256<<10]), text("Hello World!"))
	large.steps = append(large.steps, after(ping(""))...)
	return []Case{
		firstEcho,
		answers("7.1.2", "two close frames", ordinary, after(frame{op: opClose})...),
		answers("7.1.3", "a ping after the close", ordinary, after(ping(""))...),
		answers("7.1.4", "a text message after the close", ordinary, after(text("Hello World!"))...),
		answers("7.1.5", "a fragment, a close, the second fragment", ordinary,
			append(frames(0, part(opText, true, "fragment1")), after(part(opContinuation, false, "fragment2"))...)...),
		large,
		answers("7.3.1", "a close without payload", ordinary, sendClose(nil)),
		answers("7.3.2", "a close of one byte", refused, sendClose([]byte("a"))),
		answers("7.3.3", "a close with a code", ordinary, close1000),
		answers("7.3.4", "a close with code and reason", ordinary, sendClose(closeBody(1000, "Hello World!"))),
		answers("7.3.5", "a close with the longest reason, 123 bytes", ordinary,
			sendClose(closeBody(1000, strings.Repeat("*", 123)))),
		answers("7.3.6", "a close with a reason of 124 bytes", refused,
			sendClose(closeBody(1000, strings.Repeat("*", 124)))),
		answers("7.5.1", "a close whose reason is not UTF-8", closing{codes: []uint16{1002, 1007}},
			sendClose(closeBody(1000, kosme+"\xed\xa0\x80edited"))),
	}
}

// closeCodeCases are 7.7, 7.9 and 7.13: valid, invalid and undefined codes.
func closeCodeCases() []Case {
	var cases []Case
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, answers(fmt.Sprintf("7.7.%d", i+1), fmt.Sprintf("a close with the valid code %d", code),
			closing{codes: []uint16{1000, code}, clean: true}, sendClose(closeBody(code, ""))))
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		cases = append(cases, answers(fmt.Sprintf("7.9.%d", i+1), fmt.Sprintf("a close with the invalid code %d", code),
			closing{codes: []uint16{1002}}, sendClose(closeBody(code, ""))))
	}
	for i, code := range []uint16{5000, 65535} {
		c := answers(fmt.Sprintf("7.13.%d", i+1), fmt.Sprintf("a close with the code %d, which no one defines", code),
			closing{codes: []uint16{1000, code, 1002}}, sendClose(closeBody(code, "")))
		c.informational = true
		cases = append(cases, c)
	}
	return cases
}

func bulkCase(id string, b bulk) Case {
	return Case{ID: id, bulk: &b, closing: normal, Expect: "each message back as it was, close 1000",
		Sends: fmt.Sprintf("%d × %d bytes of %s, fragments of %d and writes of %d bytes (0: whole), offering %q",
			b.count, b.length, opName(b.op), b.fragment, b.chop, b.offers)}
}

// limitCases are 9 and 10: large, chopped and many messages.
func limitCases() []Case {
	const mib = 1 << 20
	kinds := []bulk{
		{op: opText, count: 1, pattern: []byte("BAsd7&jh23")},
		{op: opBinary, count: 1, pattern: []byte("\x00\xfe\x23\xfa\xf0")},
	}
	var cases []Case
	add := func(group int, sizes []int, set func(b *bulk, size int)) {
		for k, kind := range kinds {
			for i, size := range sizes {
				b := kind
				set(&b, size)
				cases = append(cases, bulkCase(fmt.Sprintf("9.%d.%d", group+k, i+1), b))
			}
		}
	}
	add(1, []int{64 << 10, 256 << 10, mib, 4 * mib, 8 * mib, 16 * mib}, func(b *bulk, size int) { b.length = size })
	add(3, []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, mib, 4 * mib}, func(b *bulk, size int) {
		b.pattern = []byte{'*', 0xfe}[b.op-opText : b.op]
		b.length, b.fragment = 4*mib, size
	})
	add(5, []int{64, 128, 256, 512, 1024, 2048}, func(b *bulk, size int) { b.length, b.chop = mib, size })
	add(7, []int{0, 16, 64, 256, 1024, 4096}, func(b *bulk, size int) {
		b.pattern = []byte{'*', 0xfe}[b.op-opText : b.op]
		b.length, b.count = size, 1000
	})
	auto := bulkCase("10.1.1", bulk{op: opText, count: 1, pattern: []byte("*"), length: 65536, fragment: 1300})
	return append(cases, auto)
}

// deflateCases are 12 and 13: compressed messages of five corpora, and of one
// corpus under seven sets of offers. The window of 13.3, 13.5 and 13.7 is
// 9 bits as in the last releases of the original; the first ones said 8, which
// zlib has never been able to produce.
func deflateCases() []Case {
	const plain = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
	const fresh = "; server_no_context_takeover"
	const window = "; server_max_window_bits="
	text, image, prose, page, document := corpora()
	var cases []Case
	for i, c := range []bulk{
		{op: opText, pattern: text}, {op: opBinary, pattern: image}, {op: opBinary, pattern: prose},
		{op: opText, pattern: page}, {op: opBinary, pattern: document},
	} {
		c.offers = []string{plain}
		cases = append(cases, deflateGroup(fmt.Sprintf("12.%d", i+1), c)...)
	}
	for i, offers := range [][]string{
		{plain},
		{plain + fresh},
		{plain + window + "9"},
		{plain + window + "15"},
		{plain + fresh + window + "9"},
		{plain + fresh + window + "15"},
		{plain + fresh + window + "9", plain + fresh, plain},
	} {
		c := bulk{op: opText, pattern: text, offers: offers}
		cases = append(cases, deflateGroup(fmt.Sprintf("13.%d", i+1), c)...)
	}
	return cases
}

// deflateGroup is the eighteen sizes and fragmentations of one set.
func deflateGroup(id string, b bulk) []Case {
	var cases []Case
	for i, size := range [][2]int{
		{16}, {64}, {256}, {1 << 10}, {4 << 10}, {8 << 10}, {16 << 10}, {32 << 10}, {64 << 10}, {128 << 10},
		{8 << 10, 256}, {16 << 10, 256}, {32 << 10, 256}, {64 << 10, 256}, {128 << 10, 256},
		{128 << 10, 1 << 10}, {128 << 10, 4 << 10}, {128 << 10, 32 << 10},
	} {
		b := b
		b.count, b.length, b.fragment = 1000, size[0], size[1]
		cases = append(cases, bulkCase(fmt.Sprintf("%s.%d", id, i+1), b))
	}
	return cases
}
