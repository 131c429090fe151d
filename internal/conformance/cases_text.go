package conformance

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	umlauts = "Hello-µ@ßöäüàá-UTF-8!!"
	kosme   = "\u03ba\u1f79\u03c3\u03bc\u03b5" // eleven bytes
)

// bytewise is a message in fragments of one byte.
func bytewise(message string) []frame {
	var fs []frame
	for i := range len(message) {
		op := byte(opContinuation)
		if i == 0 {
			op = opText
		}
		fs = append(fs, part(op, i < len(message)-1, message[i:i+1]))
	}
	return fs
}

func echoed(id, sends, message string, fs ...frame) Case {
	return Case{ID: id, Sends: sends, Expect: "the message back, close 1000", steps: frames(0, fs...),
		ok: []event{gotText(message)}, closing: normal}
}

// utf8Cases are 6.1 to 6.4.
func utf8Cases() []Case {
	half := strings.Index(umlauts, "ü")
	surrogate := kosme + "\xed\xa0\x80" + "edited"
	bad := func(id, sends string, fs ...frame) Case {
		return Case{ID: id, Sends: sends, Expect: "failed with 1007", steps: frames(0, fs...), closing: payloadFail}
	}
	return append([]Case{
		echoed("6.1.1", "an empty text message", "", text("")),
		echoed("6.1.2", "a text message of three empty fragments", "",
			part(opText, true, ""), part(opContinuation, true, ""), part(opContinuation, false, "")),
		echoed("6.1.3", "a text message of which only the middle fragment is not empty", "middle frame payload",
			part(opText, true, ""), part(opContinuation, true, "middle frame payload"), part(opContinuation, false, "")),
		echoed("6.2.1", "UTF-8 in one frame", umlauts, text(umlauts)),
		echoed("6.2.2", "UTF-8 in two fragments, cut between code points", umlauts,
			part(opText, true, umlauts[:half]), part(opContinuation, false, umlauts[half:])),
		echoed("6.2.3", "UTF-8 in fragments of one byte", umlauts, bytewise(umlauts)...),
		echoed("6.2.4", "UTF-8 of two- and three-byte code points in fragments of one byte", kosme, bytewise(kosme)...),
		bad("6.3.1", "text with a surrogate in one frame", text(surrogate)),
		bad("6.3.2", "text with a surrogate in fragments of one byte", bytewise(surrogate)...),
	}, failFastCases()...)
}

// failFastCases are 6.4: a message that cannot be UTF-8 any more from its
// second part on is to be refused then, not at its end. Its thirteenth byte is
// the first impossible one.
func failFastCases() []Case {
	message := kosme + "\xf4\x90\x80\x80" + "edited"
	var cases []Case
	for i, cut := range [][2]int{{11, 15}, {12, 13}} {
		parts := []string{message[:cut[0]], message[cut[0]:cut[1]], message[cut[1]:]}
		framed := [][]byte{
			part(opText, true, parts[0]).append(nil),
			part(opContinuation, true, parts[1]).append(nil),
			part(opContinuation, false, parts[2]).append(nil),
		}
		whole := text(message).append(nil)
		start := len(whole) - len(message)
		chopped := [][]byte{whole[:start+cut[0]], whole[start+cut[0] : start+cut[1]], whole[start+cut[1]:]}
		for k, sent := range [][][]byte{framed, chopped} {
			cases = append(cases, Case{ID: fmt.Sprintf("6.4.%d", i+1+2*k),
				Sends:  fmt.Sprintf("text in three %s: %q, pause A, %q, pause B, %q", []string{"frames", "chops of one frame"}[k], parts[0], parts[1], parts[2]),
				Expect: "nothing before pause A is over, failed with 1007 before pause B is",
				steps: []step{{data: sent[0]}, wait(pauseShort, "A"), {data: sent[1]}, wait(pauseLong, "B"),
					{data: sent[2]}},
				ok:        []event{{op: opPause, payload: []byte("A")}},
				nonStrict: []event{{op: opPause, payload: []byte("A")}, {op: opPause, payload: []byte("B")}},
				loose:     true, closing: payloadFail})
		}
	}
	cases[1], cases[2] = cases[2], cases[1]
	return cases
}

// spanOf is the bytes from..to-1, each followed by after.
func spanOf(from, to int, after string) string {
	var b strings.Builder
	for c := from; c < to; c++ {
		b.WriteByte(byte(c))
		b.WriteString(after)
	}
	return b.String()
}

// utf8Sequences are the payloads of 6.5 to 6.23, after Markus Kuhn's UTF-8
// decoder test.
func utf8Sequences() [][]string {
	var prefixes []string
	for i := 1; i <= len(kosme); i++ {
		prefixes = append(prefixes, kosme[:i])
	}
	lonely := []string{spanOf(0xc0, 0xdf, " "), spanOf(0xe0, 0xef, " "), spanOf(0xf0, 0xf7, " "), spanOf(0xf8, 0xfb, " "),
		spanOf(0xfc, 0xfd, " ")}
	missing := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf",
		"\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}
	return [][]string{
		// 6.5 and 6.6: valid text and its prefixes
		{"hello\x24world", "hello¢world", "hello€world", "hello\xf0\xa4\xad\xa2world", kosme},
		prefixes,
		// 6.7 and 6.8: the first code of one to four, and of five and six bytes
		{"\x00", "\u0080", "\u0800", "\U00010000"},
		{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},
		// 6.9 and 6.10: the last code of one to four, and of four to six bytes
		{"\x7f", "\u07ff", "\uffff", "\U0010ffff"},
		{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},
		// 6.11: other borders
		{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"},
		// 6.12 to 6.15: continuations alone, starts alone, the last byte missing, and those in a row
		{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80",
			"\x80\xbf\x80\xbf\x80\xbf", spanOf(0x80, 0xbf, "")},
		lonely,
		missing,
		{strings.Join(missing, "")},
		// 6.16: bytes that never occur
		{"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		// 6.17 to 6.19: overlong forms of ASCII, the longest ones, and those of NUL
		{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"},
		{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		// 6.20 and 6.21: surrogates alone and in pairs
		{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"},
		surrogatePairs(),
		// 6.22 and 6.23: non-characters and specials, all valid
		nonCharacters(),
		{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"},
	}
}

func surrogatePairs() []string {
	var pairs []string
	for _, high := range []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf"} {
		pairs = append(pairs, high+"\xed\xb0\x80", high+"\xed\xbf\xbf")
	}
	return pairs
}

// nonCharacters are U+FFFE, U+FFFF and the last two code points of every
// sixteenth part of a plane that the original lists: x?FFE and x?FFF with the
// second byte 8F, 9F, AF or BF.
func nonCharacters() []string {
	list := []string{"\ufffe", "\uffff"}
	for first := 0xf0; first <= 0xf4; first++ {
		for _, second := range []byte{0x8f, 0x9f, 0xaf, 0xbf} {
			for _, last := range []byte{0xbe, 0xbf} {
				s := string([]byte{byte(first), second, 0xbf, last})
				if utf8.ValidString(s) { // leaves out the overlong and those beyond U+10FFFF
					list = append(list, s)
				}
			}
		}
	}
	return list
}

// utf8SequenceCases are 6.5 to 6.23: one frame each, valid or not.
func utf8SequenceCases() []Case {
	var cases []Case
	for i, group := range utf8Sequences() {
		for j, payload := range group {
			id := fmt.Sprintf("6.%d.%d", i+5, j+1)
			if utf8.ValidString(payload) {
				cases = append(cases, echoed(id, fmt.Sprintf("the valid text %q", payload), payload, text(payload)))
				continue
			}
			cases = append(cases, Case{ID: id, Sends: fmt.Sprintf("the impossible text %q", payload),
				Expect: "failed with 1007", steps: frames(0, text(payload)), closing: payloadFail})
		}
	}
	return cases
}
