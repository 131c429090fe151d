package loadtest

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram range: 1 µs to 10 minutes with three digits.
const (
	histMax    = 600_000_000
	histDigits = 3
)

// hist is a latency histogram in µs that crosses process borders as its HDR V2 encoding.
type hist struct{ *hdrhistogram.Histogram }

func newHist() hist { return hist{hdrhistogram.New(1, histMax, histDigits)} }

// record takes nanoseconds; what lies outside the range counts as its border.
func (h hist) record(ns int64) {
	_ = h.RecordValue(min(max(ns/1000, 1), histMax)) // cannot fail: the value is in the range
}

// handOver returns what is to be told, nothing if h is empty, and what is to be filled next.
func (h hist) handOver() (told, next hist) {
	if h.Histogram != nil && h.TotalCount() > 0 {
		return h, newHist()
	}
	return hist{}, h
}

// MarshalText writes the compressed V2 encoding in base64, and nothing for an empty histogram.
func (h hist) MarshalText() ([]byte, error) {
	if h.Histogram == nil || h.TotalCount() == 0 {
		return nil, nil
	}
	return h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
}

// UnmarshalText reads what MarshalText wrote.
func (h *hist) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*h = newHist()
		return nil
	}
	d, err := hdrhistogram.Decode(b)
	if err != nil {
		return fmt.Errorf("loadtest: histogram: %w", err)
	}
	h.Histogram = d
	return nil
}

// errorTexts is how many different error texts one node keeps apart.
const errorTexts = 50

// stats is what a node has done since it last told. Every field is additive, gauges included (they travel as
// differences), so the sum over all reports of all nodes is the state of the whole.
type stats struct {
	Opened    int64 `json:"opened,omitempty"`    // upgrades that succeeded
	Failed    int64 `json:"failed,omitempty"`    // connects or upgrades that did not
	Lost      int64 `json:"lost,omitempty"`      // connections ended by the other side, unasked
	Open      int64 `json:"open,omitempty"`      // gauge: upgraded and not ended
	Completed int64 `json:"completed,omitempty"` // closed as wanted

	Sent     int64 `json:"sent,omitempty"`
	Received int64 `json:"received,omitempty"`
	Wrong    int64 `json:"wrong,omitempty"`   // not the bytes, connection or order expected
	Missing  int64 `json:"missing,omitempty"` // never arrived
	Late     int64 `json:"late,omitempty"`    // sends over lateAfter behind, or dropped as the socket was full
	BytesIn  int64 `json:"bytes_in,omitempty"`
	BytesOut int64 `json:"bytes_out,omitempty"`

	// Of sessions of the client protocol.
	Cuts        int64 `json:"cuts,omitempty"`        // connections cut on purpose
	PutOff      int64 `json:"put_off,omitempty"`     // upgrades of those that came back, answered with 503 and Retry-After
	Closed      int64 `json:"closed,omitempty"`      // connections closed by the server with a code to come back after
	Recovered   int64 `json:"recovered,omitempty"`   // subscriptions
	Unrecovered int64 `json:"unrecovered,omitempty"` // subscriptions of which the server said so
	Told        int64 `json:"told,omitempty"`        // publications missed by those
	Doubled     int64 `json:"doubled,omitempty"`     // publications
	Disordered  int64 `json:"disordered,omitempty"`  // publications
	Gaps        int64 `json:"gaps,omitempty"`        // jumps of the offset between publications

	Unanswered int64 `json:"unanswered,omitempty"` // publish commands

	Codes map[string]int64 `json:"codes,omitempty"` // of rpc and upgrade: answers with an error, by code and message

	RSS int64 `json:"rss,omitempty"` // gauge: memory of the generator, bytes
	CPU int64 `json:"cpu,omitempty"` // of the generator, ns

	Latency hist             `json:"latency"` // µs, messages
	Connect hist             `json:"connect"` // µs, from connect to 101, or to the last subscribe reply
	Beside  hist             `json:"beside"`  // µs, answers to bystanders
	Back    hist             `json:"back"`    // µs, from a cut until the session is open again
	Pause   hist             `json:"pause"`   // µs, of a connection around a replacement of the server
	Calm    hist             `json:"calm"`    // µs, of a connection at other times
	Errors  map[string]int64 `json:"errors,omitempty"`
}

func newStats() *stats {
	return &stats{Latency: newHist(), Connect: newHist(), Back: newHist(), Beside: newHist(), Pause: newHist(), Calm: newHist(), Errors: map[string]int64{}}
}

// add merges d into s.
func (s *stats) add(d *stats) {
	for _, f := range []struct {
		to   *int64
		from int64
	}{
		{&s.Opened, d.Opened}, {&s.Failed, d.Failed}, {&s.Lost, d.Lost}, {&s.Open, d.Open}, {&s.Completed, d.Completed},
		{&s.Sent, d.Sent}, {&s.Received, d.Received}, {&s.Wrong, d.Wrong}, {&s.Missing, d.Missing}, {&s.Late, d.Late},
		{&s.BytesIn, d.BytesIn}, {&s.BytesOut, d.BytesOut}, {&s.RSS, d.RSS}, {&s.CPU, d.CPU},
		{&s.Cuts, d.Cuts}, {&s.PutOff, d.PutOff}, {&s.Closed, d.Closed}, {&s.Recovered, d.Recovered}, {&s.Unrecovered, d.Unrecovered},
		{&s.Told, d.Told}, {&s.Doubled, d.Doubled}, {&s.Disordered, d.Disordered}, {&s.Gaps, d.Gaps},
		{&s.Unanswered, d.Unanswered},
	} {
		*f.to += f.from
	}
	for _, h := range []struct{ to, from hist }{
		{s.Latency, d.Latency}, {s.Connect, d.Connect}, {s.Back, d.Back}, {s.Beside, d.Beside},
		{s.Pause, d.Pause}, {s.Calm, d.Calm},
	} {
		if h.from.Histogram != nil {
			h.to.Merge(h.from.Histogram)
		}
	}
	for text, n := range d.Codes {
		s.code(text, n)
	}
	for text, n := range d.Errors {
		s.fail(text, n)
	}
}

// code counts answers with an error. There are as many texts as the server has codes.
func (s *stats) code(text string, n int64) {
	if s.Codes == nil {
		s.Codes = map[string]int64{}
	}
	s.Codes[text] += n
}

// fail counts an error text, and those beyond errorTexts together.
func (s *stats) fail(text string, n int64) {
	if _, known := s.Errors[text]; !known && len(s.Errors) >= errorTexts {
		text = "other errors"
	}
	s.Errors[text] += n
}
