package ws

import "roost/internal/pack"

// AppendState appends what d is in the middle of, so that a decoder of another process can go
// on with it. The last event must have been used.
func (d *Decoder) AppendState(dst []byte) []byte {
	dst = append(dst, d.state, byte(d.op))
	dst = pack.AppendBytes(dst, d.hdr[:d.hdrLen])
	dst = pack.AppendBytes(dst, d.ctl[:d.ctlLen])
	dst = pack.AppendUint(dst, uint64(d.left))
	dst = pack.AppendUint(dst, uint64(d.pos))
	dst = pack.AppendBool(dst, d.deflated)
	dst = pack.AppendUint(dst, uint64(d.checked))
	return pack.AppendBytes(dst, d.buf)
}

// LoadState makes d, a fresh decoder, go on where AppendState left off. Its error is
// pack.ErrMalformed.
func (d *Decoder) LoadState(r *pack.Reader) error {
	state, op := r.Byte(), Opcode(r.Byte())
	hdr, ctl := r.Bytes(), r.Bytes()
	left, pos := r.Uint(), r.Uint()
	deflated, checked, buf := r.Bool(), r.Uint(), r.Bytes()
	if r.Err() != nil || len(hdr) > len(d.hdr) || len(ctl) > len(d.ctl) || left > 1<<62 || checked > uint64(len(buf)) || state >= inMessage<<1 {
		return pack.ErrMalformed
	}
	d.hdrLen, d.ctlLen = uint8(copy(d.hdr[:], hdr)), uint8(copy(d.ctl[:], ctl))
	if d.hdrLen >= 2 && (d.hdr[1]&0x80 == 0) != d.Client {
		return pack.ErrMalformed // of the other side's frames
	}
	whole := d.hdrLen >= 2 && d.hdrLen == d.headerSize()
	if state&inPayload != 0 && !whole || state&inHeader != 0 && (whole || d.hdrLen > 2 && d.hdrLen > d.headerSize()) {
		return pack.ErrMalformed
	}
	if len(ctl) > 0 || state&inPayload != 0 && Opcode(d.hdr[0]&0x0f).IsControl() {
		if state&inPayload == 0 || !Opcode(d.hdr[0]&0x0f).IsControl() || uint64(len(ctl))+left > MaxControlPayload {
			return pack.ErrMalformed // it would not fit
		}
	}
	d.state, d.op, d.left, d.pos, d.deflated, d.checked = state, op, int64(left), int(pos&3), deflated, int(checked)
	d.buf = append(d.buf[:0], buf...)
	return nil
}
