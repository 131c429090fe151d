package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// gate lets requests to the internal address in. While this process is at rest, because
// another one is about to take over, they wait; afterwards that one answers them.
type gate struct {
	next http.Handler

	mu     sync.Mutex
	held   chan struct{} // closed when those that wait may go on; nil while they need not wait
	under  int           // requests that are being answered here
	follow http.Handler  // asks the process that took over; nil while this one answers
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := g.enter(r.Context())
	if h == nil {
		http.Error(w, "the gateway is restarting", http.StatusServiceUnavailable)
		return
	}
	defer g.leave()
	h.ServeHTTP(w, r)
}

// enter waits for who is to answer; nil when ctx ends first.
func (g *gate) enter(ctx context.Context) http.Handler {
	for {
		g.mu.Lock()
		held := g.held
		if held == nil {
			defer g.mu.Unlock()
			g.under++
			if g.follow != nil {
				return g.follow
			}
			return g.next
		}
		g.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	g.under--
	g.mu.Unlock()
}

// hold keeps requests waiting, and returns when no others are being answered, or ctx has ended.
func (g *gate) hold(ctx context.Context) {
	g.mu.Lock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
	g.mu.Unlock()
	g.idle(ctx)
}

// idle returns when no requests are being answered, or ctx has ended.
func (g *gate) idle(ctx context.Context) {
	for ctx.Err() == nil {
		g.mu.Lock()
		under := g.under
		g.mu.Unlock()
		if under == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// open ends hold: this process answers.
func (g *gate) open() { g.release(nil) }

// pass ends hold: the process that now listens at base answers, and says by the way that the
// connections to this one are to be given up.
func (g *gate) pass(base string) {
	to, err := url.Parse(base)
	if err != nil {
		panic(err) // made of an address
	}
	g.release(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		// It is this machine and this user: the certificate is for the name that others use.
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		ModifyResponse: func(r *http.Response) error { r.Header.Set("Connection", "close"); return nil },
	})
}

func (g *gate) release(follow http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.follow = follow
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}
