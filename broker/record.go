package broker

import (
	"encoding/binary"
	"errors"
)

// Kinds of messages on a channel's subjects.
const (
	kindRecord byte = 1 + iota // a publication with history
	kindMark                   // takes the history before it away; offset and epoch stay
	kindLive                   // a publication without history
	kindJoin
	kindLeave
)

const formatVersion = 1

// Flags of a record.
const (
	flagDelta byte = 1 << iota
	flagNote
)

// record is one message: what a stream stores and what nodes send each other. It is
// one binary body and no NATS headers, since those are a map per message to read.
type record struct {
	Publication
	kind         byte
	class        uint8  // of the stream, see classes
	id           uint64 // of the try to publish, with boot
	boot         string
	version      uint64
	versionEpoch string
}

var errRecord = errors.New("broker: malformed record")

// append encodes r: version, kind, class, then numbers as varints and strings with
// their length; the data is the rest.
func (r *record) append(dst []byte) []byte {
	dst = append(dst, formatVersion, r.kind, r.class)
	dst = binary.AppendUvarint(dst, r.Offset)
	dst = appendString(dst, r.Epoch)
	dst = binary.AppendVarint(dst, r.Time)
	dst = binary.AppendUvarint(dst, r.id)
	dst = appendString(dst, r.boot)
	dst = binary.AppendUvarint(dst, r.version)
	dst = appendString(dst, r.versionEpoch)
	var flags byte
	if r.Delta {
		flags |= flagDelta
	}
	if len(r.Note) > 0 {
		flags |= flagNote
	}
	dst = append(dst, flags)
	if len(r.Note) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.Note)))
		dst = append(dst, r.Note...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Info)))
	dst = append(dst, r.Info...)
	dst = binary.AppendUvarint(dst, uint64(len(r.Tags)))
	for k, v := range r.Tags {
		dst = appendString(dst, k)
		dst = appendString(dst, v)
	}
	return append(dst, r.Data...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decodeRecord decodes b; the result shares its memory.
func decodeRecord(b []byte) (*record, error) {
	if len(b) < 3 || b[0] != formatVersion {
		return nil, errRecord
	}
	r := &record{kind: b[1], class: b[2]}
	d := decoder{b: b[3:]}
	r.Offset = d.uvarint()
	r.Epoch = string(d.bytes())
	r.Time = d.varint()
	r.id = d.uvarint()
	r.boot = string(d.bytes())
	r.version = d.uvarint()
	r.versionEpoch = string(d.bytes())
	flags := byte(d.uvarint())
	r.Delta = flags&flagDelta != 0
	if flags&flagNote != 0 {
		if r.Note = d.bytes(); len(r.Note) == 0 {
			r.Note = nil
		}
	}
	if info := d.bytes(); len(info) > 0 {
		r.Info = info
	}
	if n := d.uvarint(); n > 0 && n <= uint64(len(d.b)) {
		r.Tags = make(map[string]string, n)
		for range n {
			k := string(d.bytes())
			r.Tags[k] = string(d.bytes())
		}
	} else if n > 0 {
		d.bad = true
	}
	r.Data = d.b
	if d.bad || int(r.class) >= len(classes) || r.kind < kindRecord || r.kind > kindLeave {
		return nil, errRecord
	}
	return r, nil
}

// decoder reads from b and remembers the first failure.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

// varint is a uvarint in zigzag, as binary.AppendVarint writes it.
func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
