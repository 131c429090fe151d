package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	// idleTimeout is that of a connection to a backend. Node and Apache close theirs after
	// 5 s: a call that meets that has been sent, and gets no answer.
	idleTimeout   = 4 * time.Second
	maxHead       = 64 << 10 // bytes of an answer's head
	drainLimit    = 4 << 10  // bytes of an answer that is of no use, which is read to keep its connection
	jsonMediaType = "application/json"
)

// httpAsker asks by HTTP POST.
type httpAsker struct {
	url    string
	header http.Header
	own    http.Header // those of the configuration, which no client may replace
	client *http.Client
	limit  int64
}

func newHTTPAsker(e Endpoint) *httpAsker {
	h := http.Header{"Content-Type": {jsonMediaType}, "Accept": {jsonMediaType}, "User-Agent": {"roost"}}
	own := make(http.Header)
	for name, value := range e.Headers {
		own.Set(name, value)
	}
	maps.Copy(h, own)
	dialer := net.Dialer{Timeout: e.Timeout}
	return &httpAsker{url: e.URL, header: h, own: own, limit: e.MaxAnswer, client: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSHandshakeTimeout: e.Timeout, IdleConnTimeout: idleTimeout,
			MaxConnsPerHost: e.Concurrency, MaxIdleConnsPerHost: e.Concurrency, MaxResponseHeaderBytes: maxHead,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (a *httpAsker) ask(ctx context.Context, q *request, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, &fault{outcomeUnreachable, err}
	}
	req.Header = a.header.Clone() // net/http does not say that requests may share one
	// So what looks for a cookie or a token in every request need not know the JSON.
	for name, value := range q.peer.Headers {
		if name = http.CanonicalHeaderKey(name); a.own[name] == nil {
			req.Header[name] = []string{value}
		}
	}
	if q.again { // net/http then sends it anew if a connection that was kept turns out to be dead
		req.Header["X-Idempotency-Key"] = []string{} // which is not sent
	}
	if q.raw != nil {
		maps.Copy(req.Header, q.raw.header)
	}
	res, err := a.client.Do(req)
	if err != nil {
		// What is around it is the URL, whose query may be secret.
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err
		}
		if unsent(err) {
			return nil, lost(ctx, outcomeUnreachable, err)
		}
		return nil, lost(ctx, outcomeBroken, err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := a.refuse(q, res); err != nil {
		if res.ContentLength <= drainLimit && res.ContentLength > 0 {
			_, _ = io.Copy(io.Discard, res.Body)
		}
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, a.limit+1))
	if err != nil {
		return nil, lost(ctx, outcomeBroken, fmt.Errorf("read the answer: %w", err))
	}
	if int64(len(raw)) > a.limit {
		return nil, tooLarge(a.limit)
	}
	return raw, nil
}

// refuse says what is wrong with an answer's head.
func (a *httpAsker) refuse(q *request, res *http.Response) error {
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		return &fault{outcomeRedirect, fmt.Errorf("the backend answered status %d; redirects are not followed: configure the URL it is at", res.StatusCode)}
	}
	if q.raw != nil && res.StatusCode/100 == 2 {
		q.raw.answered = res.Header.Get("Content-Type")
		if res.ContentLength > a.limit {
			return tooLarge(a.limit)
		}
		return nil
	}
	if res.StatusCode != http.StatusOK {
		return &fault{outcomeStatus, &statusError{res.StatusCode}}
	}
	if res.ContentLength == 0 {
		return &fault{outcomeEmpty, errors.New("the answer is empty")}
	}
	given := res.Header.Get("Content-Type")
	if kind, _, err := mime.ParseMediaType(given); err != nil || kind != jsonMediaType {
		return &fault{outcomeType, fmt.Errorf("the answer has Content-Type %.100q, not %s", given, jsonMediaType)}
	}
	if res.ContentLength > a.limit {
		return tooLarge(a.limit)
	}
	return nil
}

func tooLarge(limit int64) error {
	return &fault{outcomeLarge, fmt.Errorf("the answer has more than %d bytes", limit)}
}

// statusError is an answer whose status is not 200.
type statusError struct{ status int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the backend answered status %d, not 200", e.status)
}

// unsent says whether err came before there was a connection, so that the backend
// cannot have seen the request.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (a *httpAsker) retries(q *request, err error) bool {
	var s *statusError
	switch {
	case unsent(err):
		return true
	case errors.As(err, &s):
		return q.again && slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, s.status)
	}
	return false
}

func (a *httpAsker) close() { a.client.CloseIdleConnections() }
