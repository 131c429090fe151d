package ws

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math"
	"sync"

	fastflate "github.com/klauspost/compress/flate"
)

const (
	// MaxWindowBits is the base-2 logarithm of deflate's full window in bytes (RFC 7692 section 7.1.2.1).
	MaxWindowBits = 15

	keepScratch = 64 << 10 // larger input copies are not kept in the pool, in bytes
)

// inflateTail is what RFC 7692 section 7.2.2 has the receiver append (an empty stored block's length), and an empty
// final block, after which a sound message ends exactly.
const inflateTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// deflater is a compressor and the bytes it writes to; about 480 KiB.
type deflater struct {
	w   *fastflate.Writer
	out []byte
}

// Write appends to out: a deflater is its own writer's destination.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// inflater is a decompressor and the input it reads from; about 45 KiB. The decompressor is the standard library's:
// that of klauspost/compress (v1.20.1), reset between messages, decodes a block with an empty code by the tables of
// the message before, which may be another client's. It is a third faster from 1 KiB on, and no faster below.
type inflater struct {
	r       io.ReadCloser
	src     bytes.Reader
	scratch []byte
}

var (
	deflaters sync.Pool // of *deflater
	inflaters sync.Pool // of *inflater
)

// AppendDeflated appends payload as one compressed message: no context, and the tail 00 00 ff ff left out (RFC 7692
// section 7.2.1). Matches may reach back 32 KiB: to a client with a smaller window (Upgrade.WindowBits) send so only
// what is no longer than that window. The error is the compressor's; none is known to happen.
// Safe for concurrent use.
func AppendDeflated(dst, payload []byte) ([]byte, error) {
	d, _ := deflaters.Get().(*deflater)
	if d == nil {
		d = new(deflater)
		var err error
		if d.w, err = fastflate.NewWriter(d, fastflate.BestSpeed); err != nil {
			return dst, fmt.Errorf("ws: deflate: %w", err)
		}
	}
	d.out = dst
	d.w.Reset(d)
	_, err := d.w.Write(payload)
	if err == nil {
		err = d.w.Flush()
	}
	out := d.out
	d.out = nil
	deflaters.Put(d)
	if err != nil {
		return dst, fmt.Errorf("ws: deflate: %w", err)
	}
	return out[:len(out)-4], nil
}

// AppendInflated appends the inflated form of one compressed message, given without the tail (RFC 7692
// section 7.2.2). A message that inflates to more than limit bytes is a *ProtocolError with CloseTooBig; one that is
// no deflate, or ends in the middle of a block, one with CloseInvalidPayload: RFC 7692 names no code, and 1007
// stands for data that is not what its type says. dst grows with the output, at most to limit.
// Safe for concurrent use.
//
// Empty input is an empty message, though RFC 7692 section 7.2.3.6 would have it be one zero byte: zlib takes it, so
// senders exist. Blocks with BFINAL end a deflate stream; what follows is the next one, with no window (RFC 7692
// section 7.2.3.4).
func AppendInflated(dst, payload []byte, limit int64) ([]byte, error) {
	if len(payload) == 0 {
		return dst, nil
	}
	f, _ := inflaters.Get().(*inflater)
	if f == nil {
		f = &inflater{}
		f.r = flate.NewReader(&f.src)
	}
	f.scratch = append(append(f.scratch[:0], payload...), inflateTail...)
	out, err := f.inflate(dst, limit)
	f.src.Reset(nil)
	if cap(f.scratch) > keepScratch {
		f.scratch = nil
	}
	inflaters.Put(f)
	return out, err
}

// inflate appends what scratch inflates to.
func (f *inflater) inflate(dst []byte, limit int64) ([]byte, error) {
	base := len(dst)
	most := min(max(limit, 0), math.MaxInt-int64(base)-1) + 1 // one more than allowed shows that it is too much
	f.src.Reset(f.scratch)
	for f.src.Len() > 0 {
		if err := f.r.(flate.Resetter).Reset(&f.src, nil); err != nil {
			return dst[:base], deflateError(err)
		}
		for eof := false; !eof; {
			dst = grow(dst, 1, int64(base)+most)
			room := dst[len(dst):min(int64(cap(dst)), int64(base)+most)]
			n, err := f.r.Read(room)
			dst = dst[:len(dst)+n]
			if int64(len(dst)-base) >= most {
				return dst[:base], &ProtocolError{CloseTooBig, LabelInflateLimit,
					fmt.Sprintf("message inflates to more than %d bytes", limit)}
			}
			if eof = err == io.EOF; err != nil && !eof {
				return dst[:base], deflateError(err)
			}
		}
		if f.src.Len() == len(inflateTail) {
			break // the message ended with BFINAL and without the empty block that should follow: take it
		}
	}
	return dst, nil
}

func deflateError(err error) error {
	return &ProtocolError{CloseInvalidPayload, LabelDeflate, "message does not inflate: " + err.Error()}
}
