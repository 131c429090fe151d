package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"roost/gateway"
	"roost/internal/config"
)

type drainCmd struct {
	config.Config
	remote

	Share  percent       `env:"-" default:"100%" help:"Share of the clients that go. With all of them the gateway lets nobody in until --abort."`
	Over   time.Duration `env:"-" default:"60s" help:"Time over which they go, evenly."`
	Abort  bool          `env:"-" help:"End the drain that is going on, or has been: clients that are left stay, others may come."`
	Status bool          `env:"-" help:"Tell how far a drain is, and nothing else."`
	Plain  bool          `env:"-" help:"Plain lines, no progress bar."`
}

// percent is a share as people write it.
type percent uint32

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *percent) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(strings.TrimSuffix(string(b), "%"), 10, 32)
	if err != nil || n < 1 || n > 100 {
		return fmt.Errorf("%q is no share: give 1%% to 100%%", b)
	}
	*p = percent(n)
	return nil
}

// drainPoll is how often the gateway is asked how far it is.
const drainPoll = 250 * time.Millisecond

// Run drains a gateway, by default that of this configuration, by its server API. When it is
// interrupted the drain goes on.
func (d *drainCmd) Run() error {
	for _, problem := range d.FileProblems() {
		return fmt.Errorf("drain: %w", problem)
	}
	if len(d.APIKey) == 0 {
		return errors.New("drain: --api-key is missing: the gateway is asked by its server API")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case d.Abort:
		return d.abort(ctx)
	case d.Status:
		r, err := d.status(ctx)
		if err == nil {
			sayDrain(r)
		}
		return err
	}
	if d.Over < 0 || d.Over > gateway.MaxDrain {
		return fmt.Errorf("drain: --over is %v, must be 0s to %v", d.Over, gateway.MaxDrain)
	}
	seconds := uint32((d.Over + time.Second - 1) / time.Second)
	_, err := d.call(ctx, "drain", &gateway.DrainRequest{Percent: uint32(d.Share), Seconds: seconds})
	if ctx.Err() != nil {
		return interrupted("drain: interrupted before the gateway answered; roost drain --status tells whether the drain goes on")
	}
	if err != nil {
		return err
	}
	return d.follow(ctx)
}

func (d *drainCmd) abort(ctx context.Context) error {
	before, err := d.status(ctx)
	if err != nil {
		return err
	}
	r, err := d.call(ctx, "drain_abort", &gateway.DrainAbortRequest{})
	switch {
	case err != nil:
		return err
	case before.State == gateway.DrainServing:
		fmt.Println("nothing to abort: no drain goes on, and clients are let in")
	default:
		fmt.Printf("aborted: %d of %d clients have gone\n", r.Done, r.Total)
	}
	return nil
}

func (d *drainCmd) status(ctx context.Context) (*gateway.DrainResult, error) {
	return d.call(ctx, "drain_status", &gateway.DrainStatusRequest{})
}

func sayDrain(r *gateway.DrainResult) {
	fmt.Printf("%s: %d of %d clients have gone\n", r.State, r.Done, r.Total)
}

// follow shows how the drain gets on, until its end.
func (d *drainCmd) follow(ctx context.Context) error {
	show, end := plainProgress, func() {}
	if !d.Plain && cwriter.IsTerminal(int(os.Stdout.Fd())) {
		show, end = barProgress()
	}
	for {
		r, err := d.status(ctx)
		if ctx.Err() != nil {
			end()
			return interrupted("drain: it goes on without this command; roost drain --abort ends it")
		}
		if err != nil {
			end()
			return err
		}
		if show(r); r.State == gateway.DrainServing || r.State == gateway.DrainDrained {
			end()
			sayDrain(r)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}

func plainProgress(r *gateway.DrainResult) {
	fmt.Printf("%s: %d of %d\n", r.State, r.Done, r.Total)
}

// barProgress returns what shows a bar, and what leaves it as it is.
func barProgress() (show func(*gateway.DrainResult), end func()) {
	p := mpb.New(mpb.WithOutput(os.Stdout))
	bar := p.AddBar(0, mpb.PrependDecorators(decor.Name("disconnected "), decor.CountersNoUnit("%d of %d")), mpb.AppendDecorators(decor.Percentage()))
	show = func(r *gateway.DrainResult) {
		bar.SetTotal(int64(max(r.Total, r.Done, 1)), false)
		bar.SetCurrent(int64(r.Done))
	}
	return show, func() {
		bar.Abort(false)
		p.Wait()
	}
}

// known wants the gateway to have the certificate of this configuration, which is for the name that
// others use: the key of the server API is for nobody else.
func (d *drainCmd) known(state tls.ConnectionState) error {
	text, err := os.ReadFile(d.InternalTLSCert)
	if err != nil {
		return err
	}
	if own, _ := pem.Decode(text); own == nil || !bytes.Equal(own.Bytes, state.PeerCertificates[0].Raw) {
		return fmt.Errorf("it has another certificate than %s", d.InternalTLSCert)
	}
	return nil
}

// call asks the gateway for an operation.
func (d *drainCmd) call(ctx context.Context, operation string, request any) (*gateway.DrainResult, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	base, name := d.asked(&d.Config)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/"+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-API-Key", d.APIKey[0])
	res, err := d.client(&d.Config, &tls.Config{InsecureSkipVerify: true, VerifyConnection: d.known}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("drain: no answer from %s: %w", name, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	var answer struct {
		Error  *gateway.OperationError `json:"error"`
		Result *gateway.DrainResult    `json:"result"`
	}
	switch err := json.Unmarshal(text, &answer); {
	case res.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("drain: %s does not know this --api-key: give one that it was started with", name)
	case err == nil && answer.Error != nil:
		return nil, fmt.Errorf("drain: %s", answer.Error.Message)
	case err != nil || answer.Result == nil:
		return nil, fmt.Errorf("drain: %s gives no answer of the server API: %s %.100q", name, res.Status, cmp.Or(string(text), "nothing"))
	}
	return answer.Result, nil
}
