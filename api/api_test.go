package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"roost/gateway"
	"roost/proto/client"
)

// fake answers publish, and what else the tests set; all other operations panic.
type fake struct {
	Operations
	publish func(*gateway.PublishRequest) (*gateway.PublishResult, error)
	rpc     json.RawMessage
}

func (f *fake) Publish(_ context.Context, r *gateway.PublishRequest) (*gateway.PublishResult, error) {
	if f.publish != nil {
		return f.publish(r)
	}
	switch r.Channel {
	case "unknown":
		return nil, client.ErrUnknownChannel
	case "broken":
		return nil, errors.New("the disk is on fire")
	case "wrapped":
		return nil, errors.Join(errors.New("context"), client.ErrUnrecoverablePosition)
	}
	return &gateway.PublishResult{Offset: 7, Epoch: "e<" + r.Channel}, nil
}

func (f *fake) RPC(context.Context, *gateway.RPCRequest) (*gateway.RPCResult, error) {
	return &gateway.RPCResult{Data: f.rpc}, nil
}

func (f *fake) Info(ctx context.Context, _ *gateway.InfoRequest) (*gateway.InfoResult, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("no deadline")
	}
	return &gateway.InfoResult{Nodes: []gateway.NodeInfo{{UID: "n"}}}, nil
}

type observed struct {
	method string
	code   int
}

// recorder gathers what Observe is told.
type recorder struct {
	mu   sync.Mutex
	seen []observed
}

func (r *recorder) observe(method string, code int, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, observed{method, code})
}

func options(node Operations) (Options, *recorder) {
	var rec recorder
	return Options{Node: node, Keys: []string{"first", "second", ""}, MaxBody: 1000, MaxCommands: 8,
		Logger: slog.New(slog.DiscardHandler), Observe: rec.observe}, &rec
}

// ask sends one request with a valid key, unless headers say otherwise.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-API-Key", "second")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequests(t *testing.T) {
	long := strings.Repeat("x", 1000)
	transport := []string{"X-Centrifugo-Error-Mode", "transport"}
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string // whole body, or with … at its end the beginning
		seen                     []observed
	}{
		{"publish", "POST", "/api/publish", `{"channel":"a","data":{}}`, nil, 200, `{"result":{"offset":7,"epoch":"e<a"}}`, []observed{{"publish", 0}}},
		{"slash at the end", "POST", "/api/publish/", `{"channel":"a"}`, nil, 200, `{"result":…`, []observed{{"publish", 0}}},
		{"unknown members", "POST", "/api/publish", ` {"channel":"a","new":[1]} `, nil, 200, `{"result":…`, []observed{{"publish", 0}}},
		{"deadline", "POST", "/api/info", `{}`, nil, 200, `{"result":{"nodes":[{"uid":"n"…`, []observed{{"info", 0}}},
		{"error", "POST", "/api/publish", `{"channel":"unknown"}`, nil, 200, `{"error":{"code":102,"message":"unknown channel"}}`, []observed{{"publish", 102}}},
		{"wrapped error", "POST", "/api/publish", `{"channel":"wrapped"}`, nil, 200, `{"error":{"code":112,"message":"unrecoverable position"}}`, []observed{{"publish", 112}}},
		{"internal error", "POST", "/api/publish", `{"channel":"broken"}`, nil, 200, `{"error":{"code":100,"message":"internal server error"}}`, []observed{{"publish", 100}}},
		{"invalid result", "POST", "/api/rpc", `{"method":"m"}`, nil, 200, `{"error":{"code":100,…`, []observed{{"rpc", 100}}},
		{"transport error", "POST", "/api/publish", `{"channel":"unknown"}`, transport, 404, `{"code":102,"message":"unknown channel"}`, []observed{{"publish", 102}}},
		{"transport error by query", "POST", "/api/publish?error_mode=transport", `{"channel":"wrapped"}`, nil, 416, `{"code":112,…`, []observed{{"publish", 112}}},
		{"transport internal", "POST", "/api/publish", `{"channel":"broken"}`, transport, 500, `{"code":100,…`, []observed{{"publish", 100}}},
		{"transport malformed", "POST", "/api/publish", `{`, transport, 400, `{"code":107,…`, []observed{{"publish", 107}}},
		{"transport success", "POST", "/api/publish", `{"channel":"a"}`, transport, 200, `{"result":…`, []observed{{"publish", 0}}},

		{"GET", "GET", "/api/publish", ``, nil, 405, `{"error":{"code":107,"message":"use POST, not GET"}}`, []observed{{"", 107}}},
		{"POST to the description", "POST", "/api/openapi.json", ``, nil, 405, `{"error":{"code":107,"message":"use GET, not POST"}}`, []observed{{"", 107}}},
		{"unknown method", "POST", "/api/pub", `{}`, nil, 404, `{"error":{"code":104,"message":"method \"pub\" not found, see /api/openapi.json"}}`, []observed{{"", 104}}},
		{"below a method", "POST", "/api/publish/x", `{}`, nil, 404, `{"error":{"code":104…`, []observed{{"", 104}}},
		{"too large", "POST", "/api/publish", `{"channel":"` + long + `"}`, nil, 413, `{"error":{"code":106,"message":"the body is above 1000 bytes"}}`, []observed{{"", 106}}},
		{"too large, no JSON", "POST", "/api/batch", long + "x", nil, 413, `{"error":{"code":106,…`, []observed{{"", 106}}},

		{"empty", "POST", "/api/info", ``, nil, 400, `{"error":{"code":107,"message":"the body is empty, send at least {}"}}`, []observed{{"info", 107}}},
		{"cut", "POST", "/api/publish", "{\n\"channel\":", nil, 400, `{"error":{"code":107,"message":"malformed JSON at byte 12 (line 2): unexpected end of JSON input"}}`, []observed{{"publish", 107}}},
		{"trailing data", "POST", "/api/publish", `{"channel":"a"} {}`, nil, 400, `{"error":{"code":107,"message":"malformed JSON at byte 17 (line 1): invalid character '{' after top-level value"}}`, []observed{{"publish", 107}}},
		{"wrong type", "POST", "/api/publish", `{"channel":["a"]}`, nil, 400, `{"error":{"code":107,"message":"wrong type of \"channel\" at byte 12 (line 1): JSON array, want string"}}`, []observed{{"publish", 107}}},
		{"wrong range", "POST", "/api/publish", `{"version":-1}`, nil, 400, `{"error":{"code":107,"message":"wrong type of \"version\" at byte 13 (line 1): JSON number -1, want integer of Go's uint64"}}`, []observed{{"publish", 107}}},
		{"no object", "POST", "/api/publish", `[]`, nil, 400, `{"error":{"code":107,"message":"wrong type at byte 1 (line 1): JSON array, want object"}}`, []observed{{"publish", 107}}},
		{"no base64", "POST", "/api/publish", `{"b64data":"?"}`, nil, 400, `{"error":{"code":107,"message":"b64data is not base64: illegal base64 data at input byte 0"}}`, []observed{{"publish", 107}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, rec := options(&fake{rpc: json.RawMessage("{")})
			w := ask(New(o), tt.method, tt.path, tt.body, tt.headers...)
			checkBody(t, w, tt.status, tt.want)
			if !reflect.DeepEqual(rec.seen, tt.seen) {
				t.Errorf("observed %v, want %v", rec.seen, tt.seen)
			}
		})
	}
}

func checkBody(t *testing.T, w *httptest.ResponseRecorder, status int, want string) {
	t.Helper()
	body := w.Body.String()
	begin, open := strings.CutSuffix(want, "…")
	if w.Code != status || open && !strings.HasPrefix(body, begin) || !open && body != want {
		t.Errorf("%d %s\nwant %d %s", w.Code, body, status, want)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	for line := range strings.Lines(body) {
		if !json.Valid([]byte(line)) {
			t.Errorf("invalid JSON: %s", line)
		}
	}
}

func TestAllow(t *testing.T) {
	o, _ := options(&fake{})
	for path, want := range map[string]string{"/api/publish": "POST", "/api": "POST", "/api/openapi.json": "GET, HEAD"} {
		if got := ask(New(o), "PUT", path, "").Header().Get("Allow"); got != want {
			t.Errorf("%s: Allow %q, want %q", path, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	o, rec := options(&fake{})
	none, open := o, o
	none.Keys, open.Insecure = []string{""}, true
	for _, tt := range []struct {
		name          string
		options       Options
		header, value string
		status        int
	}{
		{"first", o, "X-API-Key", "first", 200},
		{"second", o, "X-API-Key", "second", 200},
		{"authorization", o, "Authorization", "apikey second", 200},
		{"authorization, other case", o, "Authorization", "ApiKey first", 200},
		{"none", o, "", "", 401},
		{"wrong", o, "X-API-Key", "third", 401},
		{"beginning", o, "X-API-Key", "firs", 401},
		{"longer", o, "X-API-Key", "firstfirst", 401},
		{"empty", o, "X-API-Key", "", 401},
		{"empty authorization", o, "Authorization", "apikey", 401},
		{"wrong authorization", o, "Authorization", "apikey third", 401},
		{"another scheme", o, "Authorization", "Bearer first", 401},
		{"no scheme", o, "Authorization", "first", 401},
		{"no keys", none, "X-API-Key", "first", 401},
		{"no keys, empty", none, "Authorization", "apikey ", 401},
		{"insecure", open, "", "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec.seen = nil
			r := httptest.NewRequest("POST", "/api/publish", strings.NewReader(`{"channel":"a"}`))
			if tt.header != "" {
				r.Header.Set(tt.header, tt.value)
			}
			w := httptest.NewRecorder()
			New(tt.options).ServeHTTP(w, r)
			want, seen := `{"result":…`, observed{"publish", 0}
			if tt.status == 401 {
				want, seen = `{"error":{"code":101,"message":"unauthorized…`, observed{"", 101}
			}
			checkBody(t, w, tt.status, want)
			if len(rec.seen) != 1 || rec.seen[0] != seen {
				t.Errorf("observed %v, want %v", rec.seen, seen)
			}
		})
	}
}

// TestPublishRequest sends every member, so that none is lost on the way.
func TestPublishRequest(t *testing.T) {
	var got *gateway.PublishRequest
	o, _ := options(&fake{publish: func(r *gateway.PublishRequest) (*gateway.PublishResult, error) {
		got = r
		return &gateway.PublishResult{}, nil
	}})
	w := ask(New(o), "POST", "/api/publish", `{"channel":"a","data":{"b": "<"},"b64data":"AAE=","skip_history":true,"tags":{"k":"v"},
		"idempotency_key":"i","delta":true,"version":18446744073709551615,"version_epoch":"v"}`)
	checkBody(t, w, 200, `{"result":{}}`)
	want := &gateway.PublishRequest{Channel: "a", Data: json.RawMessage(`{"b": "<"}`), B64Data: []byte{0, 1}, SkipHistory: true,
		Tags: map[string]string{"k": "v"}, IdempotencyKey: "i", Delta: true, Version: 1<<64 - 1, VersionEpoch: "v"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBatch(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
		operations int
	}{
		{"several", `{"commands":[{"publish":{"channel":"a"}},{"publish":{"channel":"unknown"}},{"info":{}}]}`, 200,
			`{"replies":[{"publish":{"offset":7,"epoch":"e<a"}},{"error":{"code":102,"message":"unknown channel"}},{"info":{"nodes":[{"uid":"n"…`, 3},
		{"parallel", `{"parallel":true,"commands":[{"publish":{"channel":"a"}},{"publish":{"channel":"unknown"}},{"publish":{"channel":"b"}}]}`, 200,
			`{"replies":[{"publish":{"offset":7,"epoch":"e<a"}},{"error":{"code":102,"message":"unknown channel"}},{"publish":{"offset":7,"epoch":"e<b"}}]}`, 3},
		{"none", `{"commands":[]}`, 200, `{"replies":[]}`, 0},
		{"empty and null", `{"commands":[{},null,{"publish":null}]}`, 200, `{"replies":[{"error":{"code":107,"message":"the command holds no operation"}},{"error":{"code":107…`, 0},
		{"two operations", `{"commands":[{"info":{},"publish":{}}]}`, 200, `{"replies":[{"error":{"code":107,"message":"the command holds more than one operation"}}]}`, 0},
		{"unknown operation", `{"commands":[{"batch":{"commands":[]}}]}`, 200, `{"replies":[{"error":{"code":104,"message":"method \"batch\" not found, see /api/openapi.json"}}]}`, 0},
		{"unknown members beside", `{"commands":[{"id":1,"publish":{"channel":"a"},"info":null}]}`, 200, `{"replies":[{"publish":{"offset":7,"epoch":"e<a"}}]}`, 1},
		{"wrong type inside", `{"commands":[{"publish":{"channel":1}},{"publish":{"channel":"a"}}]}`, 200,
			`{"replies":[{"error":{"code":107,"message":"wrong type of \"channel\" at byte 12 (line 1): JSON number, want string"}},{"publish":{"offset":7,"epoch":"e<a"}}]}`, 2},
		{"cut", `{"commands":[{"publish":{"channel":"a"}}`, 400, `{"error":{"code":107,"message":"malformed JSON at byte 40 (line 1): unexpected end of JSON input"}}`, 0},
		{"wrong type", `{"commands":[1]}`, 400, `{"error":{"code":107,"message":"wrong type of \"commands\" at byte 14 (line 1): JSON number, want object"}}`, 0},
		{"too many", `{"commands":[` + strings.Repeat(`{"info":{}},`, 8) + `{}]}`, 400, `{"error":{"code":107,"message":"the batch has 9 commands, more than 8"}}`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, rec := options(&fake{})
			checkBody(t, ask(New(o), "POST", "/api/batch", tt.body), tt.status, tt.want)
			if last := rec.seen[len(rec.seen)-1]; len(rec.seen) != tt.operations+1 || last.method != "batch" || (last.code == 0) != (tt.status == 200) {
				t.Errorf("observed %v, want %d operations and the batch", rec.seen, tt.operations)
			}
		})
	}
}

// TestBatchSequential wants each operation to begin after the one before it has ended.
func TestBatchSequential(t *testing.T) {
	var order []string // not guarded: the race detector watches, too
	f := &fake{publish: func(r *gateway.PublishRequest) (*gateway.PublishResult, error) {
		order = append(order, "begin "+r.Channel)
		runtime.Gosched()
		order = append(order, "end "+r.Channel)
		return &gateway.PublishResult{}, nil
	}}
	o, _ := options(f)
	ask(New(o), "POST", "/api/batch", `{"commands":[{"publish":{"channel":"a"}},{"publish":{"channel":"b"}},{"publish":{"channel":"c"}}]}`)
	if got := strings.Join(order, ", "); got != "begin a, end a, begin b, end b, begin c, end c" {
		t.Error(got)
	}
}

// TestBatchParallel has operations wait until as many run as may, and counts the most.
func TestBatchParallel(t *testing.T) {
	var mu sync.Mutex
	var once sync.Once
	running, most := 0, 0
	full := make(chan struct{})
	f := &fake{publish: func(*gateway.PublishRequest) (*gateway.PublishResult, error) {
		mu.Lock()
		running++
		if most = max(most, running); running == parallel {
			once.Do(func() { close(full) })
		}
		mu.Unlock()
		<-full
		mu.Lock()
		running--
		mu.Unlock()
		return &gateway.PublishResult{}, nil
	}}
	o, _ := options(f)
	o.MaxBody, o.MaxCommands = 0, 0
	body := `{"parallel":true,"commands":[` + strings.Repeat(`{"publish":{}},`, 3*parallel-1) + `{"publish":{}}]}`
	w := ask(New(o), "POST", "/api/batch", body)
	if n := strings.Count(w.Body.String(), `{"publish":{}}`); n != 3*parallel || most != parallel {
		t.Errorf("%d replies, %d at once; want %d and %d", n, most, 3*parallel, parallel)
	}
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
		operations int
	}{
		{"one", `{"method":"publish","params":{"channel":"a"}}`, 200, `{"result":{"offset":7,"epoch":"e<a"}}`, 1},
		{"several", `{"id":1,"method":"PUBLISH","params":{"channel":"unknown"}}` + "\n" + `{"id":2,"method":"publish","params":{"channel":"a"}}` + "\n", 200,
			`{"id":1,"error":{"code":102,"message":"unknown channel"}}` + "\n" + `{"id":2,"result":{"offset":7,"epoch":"e<a"}}`, 2},
		{"no params", `{"method":"publish"}{"method":"publish","params":null}`, 200, `{"result":…`, 2},
		{"wrong params", `{"method":"publish","params":[]}`, 200, `{"error":{"code":107,"message":"wrong type at byte 1 (line 1): JSON array, want object"}}`, 1},
		{"unknown method", `{"id":3,"method":"x"}`, 200, `{"id":3,"error":{"code":104,"message":"method \"x\" not found, see /api/openapi.json"}}`, 0},
		{"empty", ``, 400, `{"error":{"code":107,"message":"the body is empty, send at least {}"}}`, -1},
		{"cut in the second", `{"method":"publish"}` + "\n" + `{"method":`, 400, `{"error":{"code":107,"message":"malformed JSON: unexpected EOF"}}`, -1},
		{"broken in the second", `{"method":"publish"}` + "\n" + `{"method"?`, 400, `{"error":{"code":107,"message":"malformed JSON at byte 31 (line 2): invalid character '?' after object key"}}`, -1},
		{"wrong type in the second", `{"method":"publish"}` + "\n" + `{"method":5}`, 400, `{"error":{"code":107,"message":"wrong type of \"method\" at byte 32 (line 2): JSON number, want string"}}`, -1},
		{"too many", strings.Repeat(`{"method":"info"}`, 9), 400, `{"error":{"code":107,"message":"more than 8 commands"}}`, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, rec := options(&fake{})
			checkBody(t, ask(New(o), "POST", "/api", tt.body), tt.status, tt.want)
			if tt.operations < 0 {
				if len(rec.seen) != 1 || rec.seen[0] != (observed{"", 107}) {
					t.Errorf("observed %v", rec.seen)
				}
			} else if len(rec.seen) != tt.operations {
				t.Errorf("observed %v, want %d operations", rec.seen, tt.operations)
			}
		})
	}
}

func TestBodyThatEnds(t *testing.T) {
	o, _ := options(&fake{})
	r := httptest.NewRequest("POST", "/api/publish", io.MultiReader(strings.NewReader("{"), broken{}))
	r.Header.Set("X-API-Key", "first")
	w := httptest.NewRecorder()
	New(o).ServeHTTP(w, r)
	checkBody(t, w, 400, `{"error":{"code":107,"message":"the body could not be read"}}`)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzRequest holds answers to be JSON, and a status to be one of those documented.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ path, body string }{
		{"/api/publish", `{"channel":"a","data":{"x":[1,"\u2028"]},"tags":{"k":"v"},"version":1}`},
		{"/api/publish", `{"channel":"a","b64data":"AAE="} `},
		{"/api/publish", `{"channel":"a"}{}`},
		{"/api/publish", "{\"channel\":\"\xff\"}"},
		{"/api/batch", `{"parallel":true,"commands":[{"publish":{"channel":"a"}},{"info":{}},{"x":1},null]}`},
		{"/api/batch", `{"commands":[{"publish":{"channel":1e99}}]}`},
		{"/api", `{"id":1,"method":"publish","params":{"channel":"unknown"}}` + "\n" + `{"method":"info"}`},
		{"/api", `{"method":"publish","params":[`},
		{"/api/nothing", `{}`},
		{"/api/rpc", `{"method":"m","params":null}`},
	} {
		f.Add(seed.path, seed.body)
	}
	o, _ := options(&fake{rpc: json.RawMessage("1")})
	o.Observe = nil
	h := New(o).(*handler)
	maps.DeleteFunc(h.operations, func(name string, _ *operation) bool {
		return name != "publish" && name != "rpc" && name != "info"
	})
	f.Fuzz(func(t *testing.T, path, body string) {
		r := httptest.NewRequest("POST", "/api", strings.NewReader(body))
		r.URL.Path = path
		r.Header.Set("X-API-Key", "first")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 400, 404, 405, 413:
		default:
			t.Fatalf("status %d", w.Code)
		}
		for d := json.NewDecoder(w.Body); d.More(); {
			var v map[string]json.RawMessage
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
		}
	})
}
