package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxPublishers = 4096
	lateAfter     = time.Millisecond // a send that much behind its due time counts as late
	maxAnswer     = 64 << 10         // bytes of the API's answer
)

// deliveries is how many receptions the first total publications are to have.
func (o *Options) deliveries(total int64) (n int64) {
	channels := o.allChannels()
	for g := range o.Connections {
		for k := range o.Subscriptions {
			n += share(total, channels, int(o.channelOf(uint32(g), k)))
		}
	}
	return n
}

// publisher publishes through the server's API. Publications of one channel follow each other, so that their order
// is certain; those of different channels do not wait for each other.
type publisher struct {
	r        *run
	pace     Pacer // nil: closed loop
	client   http.Client
	fill     []byte
	channels int64
	start    int64 // Unix ns
}

// publish is the measured phase of publish and reconnect.
func (r *run) publish(ctx context.Context) error {
	p := &publisher{
		r: r, pace: newPacer(r.o.Rate, r.o.Ramp), fill: filler(r.o.Size), channels: int64(r.o.allChannels()), start: clock(),
		client: http.Client{Timeout: r.o.Timeout, Transport: &http.Transport{MaxIdleConnsPerHost: r.o.Publishers}},
	}
	defer p.client.CloseIdleConnections()
	if p.pace == nil {
		return p.rounds(ctx)
	}
	total := r.o.Messages
	if total == 0 {
		for p.pace.Due(total) < r.o.Duration {
			total++
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.send(ctx, 0, total)
	}()
	for {
		select {
		case <-done:
			return ctx.Err()
		case <-time.After(watchEvery):
			r.watch()
		}
	}
}

// rounds publishes once in every channel, again when all have received that.
func (p *publisher) rounds(ctx context.Context) error {
	leaves := int64(p.r.fleet.leaves)
	for n := int64(0); ctx.Err() == nil; n++ {
		from := n * p.channels
		if p.r.o.Messages > 0 && from >= p.r.o.Messages || p.r.o.Messages == 0 && clock()-p.start >= int64(p.r.o.Duration) {
			break
		}
		to := from + p.channels
		if p.r.o.Messages > 0 {
			to = min(to, p.r.o.Messages)
		}
		p.r.fleet.do(command{Do: doRound, N: to})
		p.send(ctx, from, to)
		limited, cancel := context.WithTimeout(ctx, p.r.o.Timeout)
		err := p.r.await(limited, evRound, (n+1)*leaves)
		cancel()
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, context.DeadlineExceeded) {
				p.count(stats{Errors: map[string]int64{fmt.Sprintf("stopped early: not everybody received a publication in %v (--timeout)", p.r.o.Timeout): 1}})
				return nil
			}
			return err
		}
	}
	return ctx.Err()
}

// send publishes the publications from, ..., to-1 when they are due.
func (p *publisher) send(ctx context.Context, from, to int64) {
	var wg sync.WaitGroup
	workers := min(int64(p.r.o.Publishers), p.channels)
	for worker := range workers {
		wg.Go(func() {
			for i := from; i < to && ctx.Err() == nil; i++ {
				if i%p.channels%workers == worker {
					p.one(ctx, i, to)
				}
			}
		})
	}
	wg.Wait()
}

// one publishes publication i of total, when it is due.
func (p *publisher) one(ctx context.Context, i, total int64) {
	due := clock()
	if p.pace != nil {
		due = p.start + int64(p.pace.Due(i))
		if wait := due - clock(); wait > 0 {
			select {
			case <-time.After(time.Duration(wait)):
			case <-ctx.Done():
				return
			}
		}
	}
	if p.r.o.Scenario == Reconnect && p.r.o.Churn == 0 && i == total/2 {
		p.cut(ctx)
	}
	s := stats{Sent: 1}
	if clock()-due > int64(lateAfter) {
		s.Late = 1
	}
	if err := p.post(ctx, i, due); err != nil && ctx.Err() == nil {
		s.Errors = map[string]int64{err.Error(): 1}
	}
	p.count(s)
}

// cut has clients lose their connections.
func (p *publisher) cut(ctx context.Context) {
	if p.r.o.Run == "" {
		p.r.fleet.do(command{Do: doCut})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.r.o.Limit)
	defer cancel()
	if out, err := shell(ctx, p.r.o.Run).CombinedOutput(); err != nil {
		p.count(stats{Errors: map[string]int64{fmt.Sprintf("--command: %v: %.200s", err, bytes.TrimSpace(out)): 1}})
	}
}

func (p *publisher) count(s stats) { p.r.fleet.take(event{Kind: evStats, Stats: &s}) }

// post publishes. The answer must say that it is done.
func (p *publisher) post(ctx context.Context, i, due int64) error {
	m := publication{run: uint32(p.r.fleet.seed), channel: uint32(i % p.channels), seq: uint32(i / p.channels), due: due}
	body := strconv.AppendQuote([]byte(`{"channel":`), p.r.o.channel(int64(m.channel)))
	body = append(m.append(append(body, `,"data":`...), p.fill, p.r.o.Size), '}')
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.r.o.API, "/")+"/publish", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.r.o.APIKey != "" {
		req.Header.Set("X-API-Key", p.r.o.APIKey)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	var answer struct {
		Error *struct {
			Code    int
			Message string
		}
		Result json.RawMessage
	}
	switch err := json.Unmarshal(text, &answer); {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("publish: %s: %.160s; are --api and --api-key right?", resp.Status, bytes.TrimSpace(text))
	case err != nil || answer.Error == nil && answer.Result == nil:
		return fmt.Errorf("publish: not an answer of the API: %.160q", text)
	case answer.Error != nil:
		return fmt.Errorf("publish: error %d: %s", answer.Error.Code, answer.Error.Message)
	}
	return nil
}
