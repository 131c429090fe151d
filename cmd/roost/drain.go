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
	"github.com/vbauerster/mpb/v8/decor"

	"roost/gateway"
	"roost/internal/config"
)

type drainCmd struct {
	config.Config

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

// Run drains the gateway of this configuration, by its server API. When it is interrupted the
// drain goes on.
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
		r, err := d.call(ctx, "drain_abort", &gateway.DrainAbortRequest{})
		if err == nil {
			fmt.Printf("aborted: %d of %d clients have gone\n", r.Done, r.Total)
		}
		return err
	case d.Status:
		r, err := d.call(ctx, "drain_status", &gateway.DrainStatusRequest{})
		if err == nil {
			fmt.Printf("%s: %d of %d clients have gone\n", r.State, r.Done, r.Total)
		}
		return err
	}
	if d.Over < 0 || d.Over > 24*time.Hour {
		return fmt.Errorf("drain: --over is %v, must be 0s to 24h", d.Over)
	}
	seconds := uint32((d.Over + time.Second - 1) / time.Second)
	if _, err := d.call(ctx, "drain", &gateway.DrainRequest{Percent: uint32(d.Share), Seconds: seconds}); err != nil {
		return err
	}
	return d.follow(ctx)
}

// follow shows how the drain gets on, until its end.
func (d *drainCmd) follow(ctx context.Context) error {
	info, err := os.Stdout.Stat()
	show := plainProgress
	if err == nil && info.Mode()&os.ModeCharDevice != 0 && !d.Plain {
		show = barProgress()
	}
	for {
		r, err := d.call(ctx, "drain_status", &gateway.DrainStatusRequest{})
		switch {
		case ctx.Err() != nil:
			fmt.Println("the drain goes on without this command; roost drain --abort ends it")
			return nil
		case err != nil:
			return err
		}
		if show(r); r.State == gateway.DrainServing || r.State == gateway.DrainDrained {
			fmt.Printf("%s: %d of %d clients have gone\n", r.State, r.Done, r.Total)
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

func barProgress() func(*gateway.DrainResult) {
	p := mpb.New(mpb.WithOutput(os.Stdout))
	bar := p.AddBar(0, mpb.PrependDecorators(decor.Name("disconnected "), decor.CountersNoUnit("%d of %d")), mpb.AppendDecorators(decor.Percentage()))
	return func(r *gateway.DrainResult) {
		over := r.State == gateway.DrainServing || r.State == gateway.DrainDrained
		bar.SetTotal(int64(max(r.Total, r.Done, 1)), false)
		bar.SetCurrent(int64(r.Done))
		if over {
			bar.Abort(false)
			p.Wait()
		}
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
	scheme, client := internalClient(&d.Config, &tls.Config{InsecureSkipVerify: true, VerifyConnection: d.known})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://roost/api/"+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-API-Key", d.APIKey[0])
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("drain: no answer from --internal-address %s: %w", d.InternalAddress, err)
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
	case err == nil && answer.Error != nil:
		return nil, fmt.Errorf("drain: %s", answer.Error.Message)
	case err != nil || answer.Result == nil:
		return nil, fmt.Errorf("drain: %s is no answer of the server API: %s %.100q", d.InternalAddress, res.Status, cmp.Or(string(text), "nothing"))
	}
	return answer.Result, nil
}
