package ws

import (
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
)

// ref is a second decoder, the plain way: the whole input at once, no speed, another inflate. Tests hold Decoder
// against it.
type ref struct {
	lim     *Limits
	deflate bool
	events  []string

	op         Opcode // of the message being read, or 0
	compressed bool
	raw        []byte
}

type refFrame struct {
	op    Opcode
	fin   bool
	rsv1  bool
	plain []byte // the payload as far as it is there, unmasked
	whole bool
}

// reference decodes in up to the first error or incomplete frame. code is what the error closes with, or 0.
func reference(lim *Limits, deflate bool, in string) (events []string, code CloseCode) {
	r := &ref{lim: lim, deflate: deflate}
	for in != "" && code == 0 {
		var f *refFrame
		if f, in, code = r.parse(in); f == nil {
			break
		}
		if f.op.IsControl() {
			code = r.control(f)
		} else {
			code = r.data(f)
		}
	}
	return r.events, code
}

// parse takes one frame from in. Without its whole header there is none.
func (r *ref) parse(in string) (f *refFrame, rest string, code CloseCode) {
	f = &refFrame{op: Opcode(in[0] & 15), fin: in[0]&0x80 != 0, rsv1: in[0]&0x40 != 0}
	data := f.op == OpText || f.op == OpBinary
	switch {
	case in[0]&0x30 != 0, f.rsv1 && !(r.deflate && data):
		return nil, "", CloseProtocolError
	case !strings.ContainsRune("\x00\x01\x02\x08\x09\x0a", rune(f.op)):
		return nil, "", CloseProtocolError
	case f.op.IsControl() && !f.fin, data && r.op != 0, f.op == 0 && r.op == 0:
		return nil, "", CloseProtocolError
	case len(in) == 1:
		return nil, "", 0
	}
	length, ext := uint64(in[1]&127), 0
	if in[1]&0x80 == 0 || f.op.IsControl() && length > 125 || f.op == OpClose && length == 1 {
		return nil, "", CloseProtocolError
	}
	switch in = in[2:]; length {
	case 126:
		ext, length = 2, 0
	case 127:
		ext, length = 8, 0
	}
	for i := 0; i <= min(ext, len(in)); i++ { // the length after i bytes of it, as if the others were zero
		if i > 0 {
			length |= uint64(in[i-1]) << (8 * (ext - i))
		}
		if length>>63 != 0 || ext > 0 && i == ext && (length < 126 || ext == 8 && length < 65536) {
			return nil, "", CloseProtocolError
		}
		if r.tooBig(f, length) {
			return nil, "", CloseTooBig
		}
	}
	if len(in) < ext+4 {
		return nil, "", 0
	}
	key, body := in[ext:ext+4], in[ext+4:]
	n := min(length, uint64(len(body)))
	f.whole = n == length
	f.plain = []byte(body[:n])
	for i := range f.plain {
		f.plain[i] ^= key[i%4]
	}
	return f, body[n:], 0
}

func (r *ref) tooBig(f *refFrame, length uint64) bool {
	switch {
	case f.op.IsControl():
		return false
	case f.op == 0:
		return length > uint64(r.lim.MaxFrame) || uint64(len(r.raw))+length > uint64(r.lim.maxStored(r.compressed))
	}
	return length > uint64(r.lim.MaxFrame) || length > uint64(r.lim.maxStored(f.rsv1))
}

func (r *ref) control(f *refFrame) CloseCode {
	var c CloseCode
	if f.op == OpClose {
		if c = CloseNoStatus; len(f.plain) >= 2 {
			if c = CloseCode(binary.BigEndian.Uint16(f.plain)); !c.Valid() {
				return CloseProtocolError
			}
			if f.plain = f.plain[2:]; !utf8Possible(f.plain, f.whole) {
				return CloseInvalidPayload
			}
		}
	}
	if f.whole {
		r.events = append(r.events, show(f.op, c, f.plain))
	}
	return 0
}

func (r *ref) data(f *refFrame) CloseCode {
	if f.op != 0 {
		r.op, r.compressed, r.raw = f.op, f.rsv1, nil
	}
	r.raw = append(r.raw, f.plain...)
	last := f.fin && f.whole
	if r.op == OpText && !r.compressed && !utf8Possible(r.raw, last) {
		return CloseInvalidPayload
	}
	if !last {
		return 0
	}
	msg := r.raw
	if r.compressed {
		var code CloseCode
		if msg, code = referenceInflate(r.raw, r.lim.MaxMessage); code != 0 {
			return code
		}
		if r.op == OpText && !utf8.Valid(msg) {
			return CloseInvalidPayload
		}
	}
	r.events = append(r.events, show(r.op, 0, msg))
	r.op = 0
	return 0
}

// utf8Possible reports whether b is UTF-8, or can become so by more bytes if there may be more.
func utf8Possible(b []byte, last bool) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !last && !utf8.FullRune(b)
		}
		b = b[n:]
	}
	return true
}

// referenceInflate is AppendInflated by another library, with a new reader for each stream.
func referenceInflate(p []byte, limit int64) ([]byte, CloseCode) {
	if len(p) == 0 {
		return nil, 0
	}
	src := strings.NewReader(string(p) + "\x00\x00\xff\xff\x01\x00\x00\xff\xff")
	var out []byte
	for src.Len() > 0 {
		b, err := io.ReadAll(io.LimitReader(flate.NewReader(src), limit+1-int64(len(out))))
		out = append(out, b...)
		if int64(len(out)) > limit {
			return nil, CloseTooBig
		}
		if err != nil {
			return nil, CloseInvalidPayload
		}
		if src.Len() == 9 {
			break
		}
	}
	return out, 0
}
