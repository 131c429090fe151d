package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roost/gateway"
	"roost/internal/proctest"
	"roost/proto/client"
)

var peer = gateway.Peer{Client: "c1", Transport: "websocket", Protocol: "json", Encoding: "json", User: "ann", Meta: json.RawMessage(`{"tenant":7}`)}

// one returns a configuration in which a single backend gets everything.
func one(e Endpoint) Config {
	return Config{Backends: map[string]Endpoint{"b": e}, RPC: []Rule{{"*", "b"}}, Message: "b"}
}

// set starts backends without a log unless o has one.
func set(t *testing.T, o Options) *Set {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// serve starts a backend and returns its URL.
func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}

// says is a backend that answers everything so.
func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, body)
	}
}

func (s *Set) rpcOf(ctx context.Context, method, data string) ([]byte, error) {
	return s.Handlers().RPC(ctx, gateway.RPCEvent{Peer: peer, Method: method, Data: []byte(data)})
}

// counted checks that the calls of one backend so far had these outcomes, as event/outcome.
func counted(t *testing.T, s *Set, want map[string]uint64) {
	t.Helper()
	got := map[string]uint64{}
	for _, b := range s.Stats() {
		for _, c := range b.Calls {
			got[c.Event+"/"+c.Outcome] = c.Total
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// What a backend is sent, and what comes of good answers.
func TestCalls(t *testing.T) {
	var got atomic.Value
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), r.Header.Get("X-Secret"), body))
		var q struct{ Data string }
		_ = json.Unmarshal(body, &q)
		says(q.Data)(w, r)
	})
	var observed []string
	s := set(t, Options{Config: one(Endpoint{URL: url + "/hook?a=b", Headers: map[string]string{"x-secret": "s3"}}),
		Observe: func(b, e, o string, _ time.Duration) { observed = append(observed, b+" "+e+" "+o) }})
	for _, c := range []struct {
		answer, data string
		err          error
	}{
		{`{"result":{"data":{"x":[1, 2]}}}`, `{"x":[1, 2]}`, nil},
		{`{"result":{"data":null},"error":null,"new":1}`, `null`, nil},
		{`{"result":{}}`, ``, nil},
		{`{"result":{"b64data":"eyJ4IjoxfQ=="}}`, `{"x":1}`, nil},
		{`{"error":{"code":400,"message":"no","temporary":true}}`, ``, &client.Error{Code: 400, Message: "no", Temporary: true}},
		{`{"error":{"code":1999}}`, ``, &client.Error{Code: 1999}},
		{`{"error":{"code":111,"message":"x"}}`, ``, client.ErrTooManyRequests},
		{`{"disconnect":{"code":4000,"reason":"later"}}`, ``, &client.Disconnect{Code: 4000, Reason: "later"}},
		{`{"disconnect":{"code":4999}}`, ``, &client.Disconnect{Code: 4999}},
	} {
		quoted, _ := json.Marshal(c.answer)
		data, err := s.rpcOf(t.Context(), "m", string(quoted))
		if string(data) != c.data || fmt.Sprintf("%#v", err) != fmt.Sprintf("%#v", c.err) && fmt.Sprint(err) != fmt.Sprint(c.err) {
			t.Errorf("%s: %s, %v; want %s, %v", c.answer, data, err, c.data, c.err)
		}
		want := `POST /hook?a=b application/json s3 {"event":"rpc","client":"c1","transport":"websocket","protocol":"json","encoding":"json",` +
			`"user":"ann","meta":{"tenant":7},"method":"m","data":` + string(quoted) + `}`
		if got.Load() != want {
			t.Errorf("asked\n%s, want\n%s", got.Load(), want)
		}
	}
	if err := s.Handlers().Message(t.Context(), gateway.MessageEvent{Peer: peer, Data: []byte(`"{\"result\":{}}"`)}); err != nil {
		t.Error(err)
	}
	var end *client.Disconnect
	err := s.Handlers().Message(t.Context(), gateway.MessageEvent{Peer: peer, Data: []byte(`"{\"disconnect\":{\"code\":4500}}"`)})
	if !errors.As(err, &end) || end.Code != 4500 {
		t.Error(err)
	}
	counted(t, s, map[string]uint64{"rpc/ok": 4, "rpc/error": 3, "rpc/disconnect": 2, "message/ok": 1, "message/disconnect": 1})
	if len(observed) != 11 || observed[0] != "b rpc ok" || observed[10] != "b message disconnect" {
		t.Error(observed)
	}
}

// stall never answers. The server notices that the client has gone once it has read all.
func stall(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// hijack answers with bytes that need not be HTTP, and closes the connection.
func hijack(t *testing.T, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// Every way in which a backend may misbehave has its own outcome, a line in the log, and
// is no more than error 100 to the client.
func TestMisbehaviour(t *testing.T) {
	var followed atomic.Int64
	elsewhere := serve(t, func(w http.ResponseWriter, r *http.Request) {
		followed.Add(1)
		says(`{"result":{}}`)(w, r)
	})
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"result":{}}`)
		}
	}
	typed := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{kind}
			_, _ = io.WriteString(w, `{"result":{}}`)
		}
	}
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		outcome string
	}{
		"500":                  {status(500), "status"},
		"404":                  {status(404), "status"},
		"201":                  {status(201), "status"},
		"204":                  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "status"},
		"301":                  {status(301), "redirect"},
		"302":                  {status(302), "redirect"},
		"307":                  {status(307), "redirect"},
		"308":                  {status(308), "redirect"},
		"nothing":              {says(""), "empty"},
		"blanks":               {says(" \n\t"), "empty"},
		"HTML":                 {typed("text/html"), "type"},
		"no type":              {typed(""), "type"},
		"bad type":             {typed("application/json; ="), "type"},
		"garbage":              {says("\x00\xff{{{"), "garbage"},
		"half":                 {says(`{"result":{"data":1}`), "garbage"},
		"two values":           {says(`{"result":{}}{"result":{}}`), "garbage"},
		"list":                 {says(`[]`), "garbage"},
		"null":                 {says(`null`), "garbage"},
		"none":                 {says(`{"data":1}`), "garbage"},
		"two":                  {says(`{"result":{},"error":{"code":400}}`), "garbage"},
		"all":                  {says(`{"result":{},"error":{"code":400},"disconnect":{"code":4000}}`), "garbage"},
		"result no object":     {says(`{"result":"x"}`), "garbage"},
		"both data":            {says(`{"result":{"data":1,"b64data":"MQ=="}}`), "garbage"},
		"no base64":            {says(`{"result":{"b64data":"?"}}`), "garbage"},
		"binary for JSON":      {says(`{"result":{"b64data":"AAE="}}`), "garbage"},
		"error 0":              {says(`{"error":{}}`), "garbage"},
		"error 99":             {says(`{"error":{"code":99}}`), "garbage"},
		"error 113":            {says(`{"error":{"code":113}}`), "garbage"},
		"error 399":            {says(`{"error":{"code":399}}`), "garbage"},
		"error 2000":           {says(`{"error":{"code":2000}}`), "garbage"},
		"error -1":             {says(`{"error":{"code":-1}}`), "garbage"},
		"error 2^32+400":       {says(`{"error":{"code":4294967696}}`), "garbage"},
		"error text":           {says(`{"error":"no"}`), "garbage"},
		"long message":         {says(`{"error":{"code":400,"message":"` + strings.Repeat("x", 1025) + `"}}`), "garbage"},
		"disconnect 3000":      {says(`{"disconnect":{"code":3000}}`), "garbage"},
		"disconnect 5000":      {says(`{"disconnect":{"code":5000}}`), "garbage"},
		"long reason":          {says(`{"disconnect":{"code":4000,"reason":"` + strings.Repeat("x", 121) + `"}}`), "garbage"},
		"long code":            {says(`{"error":{"code":` + strings.Repeat("9", 30_000) + `}}`), "garbage"},
		"long line":            {hijack(t, strings.Repeat("x", 30_000)+"\r\n\r\n"), "broken"},
		"deep":                 {says(`{"result":` + strings.Repeat("[", 20_000)), "garbage"},
		"large, length said":   {says(`{"result":{"data":"` + strings.Repeat("x", 1<<16) + `"}}`), "large"},
		"large, length unsaid": {flood, "large"},
		"endless head":         {hijack(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<17)), "broken"},
		"no HTTP":              {hijack(t, "SSH-2.0-x\r\n"), "broken"},
		"closed":               {hijack(t, ""), "broken"},
		"truncated":            {hijack(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"), "broken"},
		"broken chunk":         {hijack(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "broken"},
		"late":                 {stall, "timeout"},
		"late after the head": {func(w http.ResponseWriter, r *http.Request) {
			says(`{"res`)(w, r)
			w.(http.Flusher).Flush()
			stall(w, r)
		}, "timeout"},
		"slow body of a status": {func(w http.ResponseWriter, r *http.Request) { status(500)(w, r); w.(http.Flusher).Flush(); stall(w, r) }, "status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			timeout := time.Minute
			if strings.HasPrefix(name, "late") {
				timeout = 50 * time.Millisecond
			}
			s := set(t, Options{Config: one(Endpoint{URL: serve(t, c.answer), Timeout: timeout, MaxAnswer: 32 << 10, Headers: map[string]string{"X-Key": "secret"}}),
				Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if data, err := s.rpcOf(t.Context(), "m", `1`); err != client.ErrInternal || data != nil {
				t.Errorf("%s, %v", data, err)
			}
			counted(t, s, map[string]uint64{"rpc/" + c.outcome: 1})
			if text := log.String(); !strings.Contains(text, "backend=b event=rpc outcome="+c.outcome+" error=") || strings.Contains(text, "secret") || len(text) > 600 {
				t.Errorf("log: %s", text)
			}
		})
	}
	t.Cleanup(func() {
		if n := followed.Load(); n > 0 {
			t.Errorf("%d redirects were followed", n)
		}
	})
}

// Calls one after another use one connection, whether they fail or not.
func TestConnectionIsKept(t *testing.T) {
	var opened atomic.Int64
	var asked int
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked%2 == 0 {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		says(`{"result":{}}`)(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	s := set(t, Options{Config: one(Endpoint{URL: server.URL, Timeout: time.Minute})})
	for range 20 {
		_, _ = s.rpcOf(t.Context(), "m", `1`)
	}
	counted(t, s, map[string]uint64{"rpc/ok": 10, "rpc/status": 10})
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

// flood answers without end or length.
func flood(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	for {
		if _, err := w.Write(bytes.Repeat([]byte(" "), 4096)); err != nil {
			return
		}
	}
}

// refused returns an address that nobody listens on.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestUnreachable(t *testing.T) {
	var log bytes.Buffer
	s := set(t, Options{Config: one(Endpoint{URL: "http://" + refused(t) + "/?key=secret"}), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if _, err := s.rpcOf(t.Context(), "m", `1`); err != client.ErrInternal {
		t.Error(err)
	}
	counted(t, s, map[string]uint64{"rpc/unreachable": 1})
	if text := log.String(); !strings.Contains(text, "outcome=unreachable") || strings.Contains(text, "secret") {
		t.Error(text)
	}
}

// Only what certainly did no harm is sent again.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		retryRPC bool
		asked    int64
	}{
		"503, rpc may be repeated": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, true, 3},
		"502, rpc may be repeated": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, true, 3},
		"500, rpc may be repeated": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, true, 1},
		"503":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, false, 1},
		"closed":                   {hijack(t, ""), true, 1},
		"garbage":                  {says("x"), true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			url := serve(t, func(w http.ResponseWriter, r *http.Request) { asked.Add(1); c.answer(w, r) })
			s := set(t, Options{Config: one(Endpoint{URL: url, Retries: 2, RetryRPC: c.retryRPC, Timeout: time.Minute})})
			if _, err := s.rpcOf(t.Context(), "m", `1`); err != client.ErrInternal {
				t.Error(err)
			}
			if asked.Load() != c.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), c.asked)
			}
		})
	}
}

// A backend that comes up while its first call waits to be repeated answers it.
func TestRetryConnection(t *testing.T) {
	address := refused(t)
	s := set(t, Options{Config: one(Endpoint{URL: "http://" + address, Retries: 10, Timeout: time.Minute})})
	failed := make(chan struct{}, 20)
	e := s.endpoints["b"]
	e.asker = &noticed{e.asker, failed}
	server := httptest.NewUnstartedServer(says(`{"result":{"data":1}}`))
	t.Cleanup(server.Close)
	go func() {
		<-failed
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		_ = server.Listener.Close()
		server.Listener = l
		server.Start()
	}()
	if data, err := s.rpcOf(t.Context(), "m", `1`); err != nil || string(data) != "1" {
		t.Errorf("%s, %v", data, err)
	}
}

// noticed tells of each failure that is to be repeated.
type noticed struct {
	asker
	failed chan struct{}
}

func (n *noticed) retries(q *request, err error) bool {
	n.failed <- struct{}{}
	return n.asker.retries(q, err)
}

// No more calls reach a backend at once than are allowed, four times as many wait, and
// the next is refused; another backend is not concerned.
func TestBounds(t *testing.T) {
	const concurrency = 3
	var under, most atomic.Int64
	release := make(chan struct{})
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := under.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		under.Add(-1)
		says(`{"result":{}}`)(w, r)
	})
	c := Config{Backends: map[string]Endpoint{"slow": {URL: slow, Concurrency: concurrency, Timeout: time.Minute}, "fast": {URL: serve(t, says(`{"result":{}}`))}},
		RPC: []Rule{{"fast", "fast"}, {"*", "slow"}}}
	s := set(t, Options{Config: c})
	var all sync.WaitGroup
	var failed atomic.Int64
	for range concurrency * (1 + queueFactor) {
		all.Go(func() {
			if _, err := s.rpcOf(t.Context(), "m", `1`); err != nil {
				failed.Add(1)
			}
		})
	}
	proctest.Eventually(t, func() error {
		if f, b := s.Stats()[0], s.Stats()[1]; f.InFlight != 0 || b.InFlight != concurrency || b.Waiting != concurrency*queueFactor || under.Load() != concurrency {
			return fmt.Errorf("%+v, %+v, %d at the backend", f, b, under.Load())
		}
		return nil
	})
	if _, err := s.rpcOf(t.Context(), "m", `1`); err != client.ErrTooManyRequests {
		t.Error(err)
	}
	if _, err := s.rpcOf(t.Context(), "fast", `1`); err != nil {
		t.Error(err)
	}
	close(release)
	all.Wait()
	if failed.Load() != 0 || most.Load() != concurrency {
		t.Errorf("%d failed, %d at once", failed.Load(), most.Load())
	}
	b := s.Stats()[1]
	if b.Backend != "slow" || b.InFlight != 0 || b.Waiting != 0 {
		t.Errorf("%+v", b)
	}
	if want := []Count{{"rpc", "ok", concurrency * (1 + queueFactor)}, {"rpc", "busy", 1}}; fmt.Sprint(b.Calls) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", b.Calls, want)
	}
}

// A call ends with its context, at the backend or waiting for its turn.
func TestContextEnds(t *testing.T) {
	url := serve(t, stall)
	s := set(t, Options{Config: one(Endpoint{URL: url, Concurrency: 1, Timeout: time.Minute})})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	ask := func(ctx context.Context) {
		go func() {
			_, err := s.rpcOf(ctx, "m", `1`)
			ended <- err
		}()
	}
	until := func(inFlight, waiting int) {
		t.Helper()
		proctest.Eventually(t, func() error {
			if b := s.Stats()[0]; b.InFlight != inFlight || b.Waiting != waiting {
				return fmt.Errorf("%+v", b)
			}
			return nil
		})
	}
	ask(ctx)
	until(1, 0)
	short, end := context.WithTimeout(t.Context(), time.Millisecond)
	defer end()
	ask(short)
	if err := <-ended; err != client.ErrTooManyRequests {
		t.Errorf("its turn did not come: %v", err)
	}
	ask(ctx)
	until(1, 1)
	cancel()
	for range 2 {
		if err := <-ended; err != client.ErrInternal {
			t.Error(err)
		}
	}
	until(0, 0)
	counted(t, s, map[string]uint64{"rpc/busy": 1, "rpc/canceled": 2})
}

// A server that has gone and one that stalls leave no goroutine.
func TestNothingLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	s := set(t, Options{Config: one(Endpoint{URL: "http://" + refused(t), Timeout: time.Minute})})
	stalled := httptest.NewServer(http.HandlerFunc(stall))
	fine := httptest.NewServer(says(`{"result":{}}`))
	late := set(t, Options{Config: one(Endpoint{URL: stalled.URL, Timeout: 20 * time.Millisecond})})
	good := set(t, Options{Config: one(Endpoint{URL: fine.URL})})
	var all sync.WaitGroup
	for range 30 {
		for _, s := range []*Set{s, late, good} {
			all.Go(func() { _, _ = s.rpcOf(t.Context(), "m", `1`) })
		}
	}
	all.Wait()
	for _, s := range []*Set{s, late, good} {
		s.Close()
	}
	stalled.Close()
	fine.Close()
	proctest.Eventually(t, func() error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
}

// A backend that always fails does not fill the log, which says what it left out.
func TestQuietLog(t *testing.T) {
	var q quiet
	now := time.Unix(1000, 0)
	var lines []string
	for range 2500 {
		if kept, ok := q.pass(now); ok {
			lines = append(lines, strconv.Itoa(kept))
		}
		now = now.Add(time.Millisecond)
	}
	if got := strings.Join(lines, " "); got != "0 999 999" {
		t.Error(got)
	}
}

func TestHandlersOnlyForWhatIsConfigured(t *testing.T) {
	if h := set(t, Options{}).Handlers(); h.RPC != nil || h.Message != nil {
		t.Error("an empty configuration handles something")
	}
	c := one(Endpoint{URL: serve(t, says(`{"result":{}}`))})
	c.RPC[0].Method = "chat.*"
	s := set(t, Options{Config: c})
	if _, err := s.rpcOf(t.Context(), "other", `1`); err != client.ErrMethodNotFound {
		t.Error(err)
	}
	if _, err := s.rpcOf(t.Context(), "chat.say", `1`); err != nil {
		t.Error(err)
	}
}

// Clients' headers come as headers, too, but never instead of the configuration's.
func TestClientsHeaders(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Headers map[string]string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		c, err := r.Cookie("session")
		if err != nil || c.Value != "s" || fmt.Sprint(r.Header["X-Secret"], r.Header["User-Agent"]) != "[ours] [Firefox]" || body.Headers["x-secret"] != "theirs" || len(body.Headers) != 3 {
			t.Errorf("%v, %v, %v", r.Header, body.Headers, err)
		}
		says(`{"result":{}}`)(w, r)
	})
	s := set(t, Options{Config: one(Endpoint{URL: url, Headers: map[string]string{"x-secret": "ours"}})})
	p := peer
	p.Headers = map[string]string{"cookie": "session=s", "x-secret": "theirs", "user-agent": "Firefox"}
	if _, err := s.Handlers().RPC(t.Context(), gateway.RPCEvent{Peer: p, Method: "m"}); err != nil {
		t.Error(err)
	}
}

// A connection that was kept and is dead costs no call that may be repeated, and one that may
// not be gets its error.
func TestDeadConnection(t *testing.T) {
	var calls atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 0 { // the second on each connection
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				t.Error(err)
			}
			return
		}
		says(`{"result":{}}`)(w, r)
	})
	c := one(Endpoint{URL: url})
	c.Refresh = "b"
	s := set(t, Options{Config: c})
	for range 2 {
		if _, err := s.Handlers().Refresh(t.Context(), gateway.RefreshEvent{Peer: peer}); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.rpcOf(t.Context(), "m", ""); err != client.ErrInternal || calls.Load() != 4 {
		t.Errorf("%v after %d calls", err, calls.Load())
	}
	counted(t, s, map[string]uint64{"refresh/ok": 2, "rpc/broken": 1})
}
