package ws

import "sync"

// MinDeflate is the shortest payload worth compressing, in bytes. Below, the compressor looks for no matches, and 127
// bytes of JSON come out longer than they went in.
const MinDeflate = 128

// Prepared is one unmasked message, encoded once and shared by all its receivers. Its bytes never change.
// Safe for concurrent use.
type Prepared struct {
	// Static after construction.
	plain []byte // the whole frame
	head  int    // length of its header

	// Made at first use, guarded by once.
	once     sync.Once
	deflated []byte // the whole compressed frame, or plain where compressing does not help
}

// NewPrepared encodes a message or a control frame. It copies payload.
func NewPrepared(op Opcode, payload []byte) *Prepared {
	b := AppendHeader(make([]byte, 0, maxServerHeader+len(payload)), op, true, false, len(payload))
	return &Prepared{head: len(b), plain: append(b, payload...)}
}

// Frame returns the whole frame: compressed with the full window where deflate is set and compressing helps, else
// plain, which is always allowed. The caller must not change it.
func (p *Prepared) Frame(deflate bool) []byte {
	if deflate {
		return p.FrameWindow(MaxWindowBits)
	}
	return p.plain
}

// FrameWindow is Frame for a client whose window is 1<<bits bytes (Upgrade.WindowBits), or that takes no compressed
// messages where bits is 0. A message longer than a small window goes out plain: so all receivers share one
// encoding, and clients with a bounded window are rare.
func (p *Prepared) FrameWindow(bits uint8) []byte {
	n := len(p.plain) - p.head
	if bits == 0 || n < MinDeflate || bits < MaxWindowBits && n > 1<<bits || Opcode(p.plain[0]&0x0f).IsControl() {
		return p.plain
	}
	p.once.Do(p.deflate)
	return p.deflated
}

func (p *Prepared) deflate() {
	p.deflated = p.plain
	payload := p.plain[p.head:]
	// Behind room for the longest header, so that header and payload end up in one piece.
	out, err := AppendDeflated(make([]byte, maxServerHeader, maxServerHeader+len(payload)/2), payload)
	if err != nil || len(out)-maxServerHeader >= len(payload) {
		return
	}
	var room [maxServerHeader]byte
	head := AppendHeader(room[:0], Opcode(p.plain[0]&0x0f), true, true, len(out)-maxServerHeader)
	from := maxServerHeader - len(head)
	copy(out[from:], head)
	p.deflated = out[from:]
}
