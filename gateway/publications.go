package gateway

import (
	"encoding/json"

	"github.com/centrifugal/protocol"

	"roost/broker"
	"roost/hub"
	"roost/proto/client"
)

// encoded turns a publication into what clients of an encoding get; asString makes the
// data of JSON clients a string, as they expect where deltas were agreed.
func encoded(p *broker.Publication, enc client.Encoding, asString bool) *protocol.Publication {
	out := &protocol.Publication{Data: p.Data, Offset: p.Offset, Tags: p.Tags, Time: p.Time, Info: clientInfo(p.Info)}
	if enc == client.JSON && asString {
		out.Data = client.JSONString(nil, p.Data)
	}
	return out
}

func publications(all []*broker.Publication, enc client.Encoding, asString bool) []*protocol.Publication {
	out := make([]*protocol.Publication, len(all))
	for i, p := range all {
		out[i] = encoded(p, enc, asString)
	}
	return out
}

// clientInfo decodes who published; nil where the server did.
func clientInfo(b []byte) *protocol.ClientInfo {
	if len(b) == 0 {
		return nil
	}
	i := new(protocol.ClientInfo)
	if i.UnmarshalCF(b) != nil {
		return nil
	}
	return i
}

// events is the node as the broker sees it.
type events Node

// Publication implements broker.Handler.
func (e *events) Publication(name string, p *broker.Publication) {
	n := (*Node)(e)
	ch := n.hub.Channel(name)
	if ch == nil {
		return
	}
	if n.deliver(ch, p) == hub.Gap {
		n.catchUp(ch)
	}
}

// deliver gives a publication to its subscribers here.
func (n *Node) deliver(ch *hub.Channel, p *broker.Publication) hub.Verdict {
	var keep []byte
	if p.Delta {
		keep = p.Data
	}
	v := n.hub.Publish(ch, p.Offset, p.Epoch, keep, func(before []byte) *hub.Frame {
		if !p.Delta {
			before = nil
		}
		pub := encoded(p, client.Protobuf, false)
		pub.Time = 0 // it is now: 21 B less for each receiver
		return &hub.Frame{
			Frame:  client.NewPublicationFrame(ch.Name(), ch.ID(), pub, before),
			Offset: p.Offset, Epoch: p.Epoch, Tags: p.Tags, Source: p,
		}
	})
	if v == hub.Delivered {
		n.counts.received.Add(1)
	}
	return v
}

// JoinLeave implements broker.Handler.
func (e *events) JoinLeave(name string, join bool, info []byte) {
	n := (*Node)(e)
	ch := n.hub.Channel(name)
	if ch == nil || !ch.Wants() { // or each who joins a large channel would cost a look at all its members
		return
	}
	i := clientInfo(info)
	if i == nil {
		return
	}
	p := &protocol.Push{Channel: name}
	if join {
		p.Join = &protocol.Join{Info: i}
	} else {
		p.Leave = &protocol.Leave{Info: i}
	}
	n.hub.Tell(ch, &hub.Frame{Frame: client.NewPushFrame(p, ch.ID())})
}

// Notice implements broker.Handler.
func (e *events) Notice(kind string, data []byte) {
	switch kind {
	case noticeRevocations:
		(*Node)(e).mergeRevocations(data)
	case noticeLoad:
		(*Node)(e).heardLoad(data)
	}
}

// Query implements broker.Handler.
func (e *events) Query(kind string, data []byte) ([]byte, error) { return (*Node)(e).query(kind, data) }

// jsonData is a publication's data for JSON readers: as it is, or beside it in base64.
func jsonData(b []byte) (data json.RawMessage, b64 []byte) {
	if json.Valid(b) {
		return b, nil
	}
	return nil, b
}
