package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// message is one of a stream, as it is stored.
type message struct {
	data []byte
	seq  uint64
}

// stored is a record and its place in the stream.
type stored struct {
	*record
	seq uint64
}

// stored reads a message that is a record.
func (m message) stored(err error) (stored, error) {
	if err != nil {
		return stored{}, err
	}
	r, err := decodeRecord(m.data)
	return stored{record: r, seq: m.seq}, err
}

// last returns the last record of a channel, or errMissing.
func (b *Broker) last(ctx context.Context, at place) (stored, error) {
	m, err := b.lastMessage(ctx, at)
	return m.stored(err)
}

// bySeq returns one record by its sequence, or errMissing.
func (b *Broker) bySeq(ctx context.Context, at place, seq uint64) (stored, error) {
	m, err := b.direct(ctx, &nats.Msg{
		Subject: "$JS.API.DIRECT.GET." + at.stream,
		Data:    fmt.Appendf(nil, `{"seq":%d}`, seq),
	})
	return m.stored(err)
}

// lastMessage returns the last message of a subject, or errMissing. With replicas it is the leader that is
// asked, since a direct get may be answered by one that lags behind.
func (b *Broker) lastMessage(ctx context.Context, at place) (message, error) {
	if b.opts.Replicas == 1 {
		return b.direct(ctx, &nats.Msg{Subject: "$JS.API.DIRECT.GET." + at.stream + "." + at.subject})
	}
	body, err := json.Marshal(map[string]string{"last_by_subj": at.subject})
	if err != nil {
		return message{}, err
	}
	reply, err := b.request(ctx, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + at.stream, Data: body})
	if err != nil {
		return message{}, err
	}
	return decodeGot(reply.Data)
}

func (b *Broker) direct(ctx context.Context, m *nats.Msg) (message, error) {
	reply, err := b.request(ctx, m)
	if err != nil {
		return message{}, err
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
	case "404":
		return message{}, errMissing
	default:
		return message{}, errors.New(status + " " + reply.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("sequence: %w", err)
	}
	return message{reply.Data, seq}, nil
}

// decodeGot reads the leader's answer to a request for one message; errMissing if there is none.
func decodeGot(answer []byte) (message, error) {
	var res struct {
		Error *struct {
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer, &res); err != nil {
		return message{}, fmt.Errorf("last record: %w", err)
	}
	const noMessage = 10037
	switch {
	case res.Error == nil:
		return message{res.Message.Data, res.Message.Seq}, nil
	case res.Error.ErrCode == noMessage:
		return message{}, errMissing
	}
	return message{}, errors.New(res.Error.Description)
}
