package ws

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// MaxWindowBits is the base-2 logarithm of deflate's full window (RFC 7692 section 7.1.2.1).
	MaxWindowBits = 15
	minWindowBits = 8

	keepScratch = 64 << 10 // larger input copies are not kept in the pool, in bytes
)

// inflateTail is what RFC 7692 section 7.2.2 has the receiver append (an empty stored block's length), and an empty
// final block, after which a sound message ends exactly.
const (
	inflateTail = "\x00\x00\xff\xff" + finalBlock
	finalBlock  = "\x01\x00\x00\xff\xff"
)

type deflater struct {
	w   *flate.Writer
	out []byte
}

// Write appends to out: a deflater is its own writer's destination.
func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

type inflater struct {
	r       io.ReadCloser
	src     bytes.Reader
	scratch []byte
}

var (
	deflaters [MaxWindowBits + 1]sync.Pool // by window bits
	inflaters sync.Pool
)

// AppendDeflated appends payload as one compressed message: no context, the full 32 KiB window, and the tail
// 00 00 ff ff left out (RFC 7692 section 7.2.1). The error is the compressor's; none is known to happen.
// Safe for concurrent use.
func AppendDeflated(dst, payload []byte) ([]byte, error) {
	return AppendDeflatedWindow(dst, payload, MaxWindowBits)
}

// AppendDeflatedWindow is AppendDeflated for a client that bound the server's window (server_max_window_bits,
// RFC 7692 section 7.1.2.1): no match reaches back further than 1<<bits bytes. bits is from 8 to 15.
func AppendDeflatedWindow(dst, payload []byte, bits uint8) ([]byte, error) {
	if bits < minWindowBits || bits > MaxWindowBits {
		return dst, fmt.Errorf("ws: deflate: window bits %d are not from 8 to 15", bits)
	}
	if len(payload) <= 1<<bits {
		bits = MaxWindowBits // nothing can reach back further than the message is long
	}
	d, _ := deflaters[bits].Get().(*deflater)
	if d == nil {
		d = new(deflater)
		var err error
		if bits == MaxWindowBits {
			d.w, err = flate.NewWriter(d, flate.BestSpeed)
		} else {
			d.w, err = flate.NewWriterWindow(d, 1<<bits)
		}
		if err != nil {
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
	deflaters[bits].Put(d)
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
// senders exist. Blocks with BFINAL end a deflate stream; what follows is the next one, with no window (RFC 7692 section 7.2.3.4).
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
