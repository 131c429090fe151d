package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// corpusSize is about that of the original's files, and such that a walk
// through it in steps of a power of two is back where it was after at most 33
// messages of 8 KiB and more: what has been compressed once need not be
// compressed again.
const corpusSize = 33 * 8 << 10

// corpora returns JSON, a bitmap, German-like prose, an HTML page and a
// document of text and compressed streams, each corpusSize bytes and the same
// in every run. JSON and HTML are ASCII: they are cut anywhere.
func corpora() (text, image, prose, page, document []byte) {
	r := rand.New(rand.NewPCG(6455, 7692))
	text = fill(func(b []byte) []byte {
		return fmt.Appendf(b, `{"id":%d,"name":"%s","price":%d.%02d,"tags":["%s","%s"],"stock":%t},`+"\n",
			r.IntN(1e6), words(r, 2), r.IntN(1000), r.IntN(100), words(r, 1), words(r, 1), r.IntN(2) == 0)
	})
	image = fill(func(b []byte) []byte {
		x, y := len(b)%512, len(b)/512
		return append(b, byte(x/4+y/6+r.IntN(6)))
	})
	prose = fill(func(b []byte) []byte { return append(append(b, words(r, 4+r.IntN(8))...), ".\r\nÜber "...) })
	page = fill(func(b []byte) []byte {
		return fmt.Appendf(b, "<div class=\"row-%d\"><a href=\"/%s/%d\">%s</a><p>%s</p></div>\n",
			r.IntN(4), words(r, 1), r.IntN(1e4), words(r, 2), words(r, 12))
	})
	document = fill(func(b []byte) []byte {
		b = fmt.Appendf(b, "%d 0 obj\n<< /Length 1024 /Filter /FlateDecode >>\nstream\n", len(b)/1100)
		for range 1024 {
			b = append(b, byte(r.Uint32()))
		}
		return append(b, "\nendstream\nendobj\n"...)
	})
	return text, image, prose, page, document
}

func fill(add func([]byte) []byte) []byte {
	var b []byte
	for len(b) < corpusSize {
		b = add(b)
	}
	return b[:corpusSize]
}

// words makes n words of common syllables, so that they repeat as words do.
func words(r *rand.Rand, n int) string {
	syllables := []string{"ge", "ver", "an", "ten", "lich", "keit", "un", "der", "schaft", "heit", "be", "sein", "wort", "geist"}
	out := make([]string, n)
	for i := range out {
		for range 1 + r.IntN(3) {
			out[i] += syllables[r.IntN(len(syllables))]
		}
	}
	return strings.Join(out, " ")
}
