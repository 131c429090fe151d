package broker

import (
	"fmt"
	"time"

	"roost/internal/pack"
)

// Heir is what a broker leaves to the one that takes its place.
type Heir struct {
	Node, Boot string // so that what names them stays valid
	Calls      uint64 // publications stored or tried: the next ids come after that
	// Nodes are those of the cluster, the one that leaves this included.
	Nodes []string
	// State is what the embedded broker knows of streams and channels, so that none of them has
	// to be looked up again; in a cluster it is empty.
	State []byte
}

// Will returns what the broker leaves. It should publish nothing any more.
func (b *Broker) Will() Heir {
	h := Heir{Node: b.opts.Node, Boot: b.boot, Calls: b.calls.Load()}
	if b.server != nil {
		h.State = b.appendState(nil)
	} else {
		h.Nodes = b.Nodes()
	}
	return h
}

// Append encodes h for ParseHeir.
func (h Heir) Append(dst []byte) []byte {
	dst = pack.AppendString(dst, h.Node)
	dst = pack.AppendString(dst, h.Boot)
	dst = pack.AppendUint(dst, h.Calls)
	dst = pack.AppendUint(dst, uint64(len(h.Nodes)))
	for _, id := range h.Nodes {
		dst = pack.AppendString(dst, id)
	}
	return pack.AppendBytes(dst, h.State)
}

// ParseHeir undoes Append. The state is a part of p.
func ParseHeir(p []byte) (h Heir, err error) {
	r := pack.NewReader(p)
	h = Heir{Node: r.String(), Boot: r.String(), Calls: r.Uint()}
	for range r.Uint() {
		if r.Err() != nil {
			break
		}
		h.Nodes = append(h.Nodes, r.String())
	}
	h.State = r.Bytes()
	if r.Err() != nil || r.Len() > 0 {
		return h, fmt.Errorf("broker: heir: %w", pack.ErrMalformed)
	}
	return h, nil
}

// appendState describes the keys, the open streams, then the channels whose last record is known.
func (b *Broker) appendState(dst []byte) []byte {
	dst = b.keys.append(dst)
	var open []byte
	count := 0
	for class := range b.streams {
		for part := range b.streams[class] {
			s := &b.streams[class][part]
			if !s.opened.Load() {
				continue
			}
			count++
			open = append(open, byte(class), byte(part))
			open = s.present.append(open)
		}
	}
	dst = append(pack.AppendUint(dst, uint64(count)), open...)
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		for k, c := range sh.channels {
			if c.known {
				dst = c.append(append(dst, k.class))
			}
		}
		sh.mu.Unlock()
	}
	return dst
}

func (c *channel) append(dst []byte) []byte {
	dst = pack.AppendString(dst, c.name)
	dst = pack.AppendUint(dst, c.seq)
	dst = pack.AppendUint(dst, c.top.Offset)
	dst = pack.AppendString(dst, c.top.Epoch)
	dst = pack.AppendUint(dst, c.version)
	dst = pack.AppendString(dst, c.versionEpoch)
	dst = pack.AppendBool(dst, c.acked)
	return pack.AppendUint(dst, c.floor)
}

// inherit takes over what appendState has described, of the same folder.
func (b *Broker) inherit(state []byte) error {
	r := pack.NewReader(state)
	if err := b.keys.inherit(r); err != nil {
		return fmt.Errorf("broker: inherit keys: %w", err)
	}
	for range r.Uint() {
		class, part := int(r.Byte()), int(r.Byte())
		names := readPresent(r)
		if r.Err() != nil || class >= len(classes) || part >= b.parts {
			return fmt.Errorf("broker: inherit streams: %w", pack.ErrMalformed)
		}
		s := &b.streams[class][part]
		s.present.names = names
		s.opened.Store(true)
	}
	now := time.Now().UnixMilli()
	for r.Len() > 0 {
		class := r.Byte()
		c := &channel{key: key{r.String(), class}, turn: make(chan struct{}, 1), known: true, used: now, seq: r.Uint()}
		c.top = Position{r.Uint(), r.String()}
		c.version, c.versionEpoch, c.acked, c.floor = r.Uint(), r.String(), r.Bool(), r.Uint()
		if r.Err() != nil || int(class) >= len(classes) {
			return fmt.Errorf("broker: inherit channels: %w", pack.ErrMalformed)
		}
		b.shard(c.name).channels[c.key] = c
	}
	return r.Err()
}
