package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const password = "correct horse"

// page is the handler under test with a clock of its own and an API that repeats what it was asked.
type page struct {
	*handler
	http.Handler
	clock  time.Time
	failed int
}

func newPage(t *testing.T) *page {
	t.Helper()
	p := &page{clock: time.Unix(1_700_000_000, 0)}
	repeat := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %d", r.Method, r.URL.Path, body, len(r.Header))
	})
	h, err := newHandler(Options{Password: password, API: repeat,
		Figures:     func() Figures { return Figures{Connections: 7, Closed: map[string]uint64{"client": 2}} },
		FailedLogin: func() { p.failed++ },
	}, func() time.Time { return p.clock })
	if err != nil {
		t.Fatal(err)
	}
	p.handler, p.Handler = h, h.routes()
	return p
}

// ask sends a request as the page would; headers change it, an empty value takes one away.
func (p *page) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://roost.example"+path, strings.NewReader(body))
	r.Header.Set("Origin", "http://roost.example")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "From" {
			r.RemoteAddr = headers[i+1]
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func (p *page) try(password string, headers ...string) *httptest.ResponseRecorder {
	body, _ := json.Marshal(map[string]string{"password": password})
	return p.ask("POST", "/admin/login", string(body), headers...)
}

// enter logs in and returns the headers of a session.
func (p *page) enter(t *testing.T) (cookie, csrf []string) {
	t.Helper()
	w := p.try(password)
	var got struct{ CSRF string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != http.StatusOK || err != nil || len(got.CSRF) < 43 {
		t.Fatalf("login: %d %s %v", w.Code, w.Body, err)
	}
	c := w.Result().Cookies()[0]
	return []string{"Cookie", c.Name + "=" + c.Value}, []string{csrfHeader, got.CSRF}
}

func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("%d %.200s\nwant %d with %q", w.Code, w.Body, status, text)
	}
}

func TestPassword(t *testing.T) {
	for _, short := range []string{"", "seven77"} {
		if _, err := New(Options{Password: short}); !errors.Is(err, ErrPassword) {
			t.Errorf("%q: %v, want %v", short, err, ErrPassword)
		}
	}
	p := newPage(t)
	for _, wrong := range []string{"", "correct", "correct horse ", "Correct horse"} {
		w := p.try(wrong)
		want(t, w, http.StatusUnauthorized, "the password is wrong")
		if len(w.Result().Cookies()) != 0 {
			t.Errorf("%q got a cookie", wrong)
		}
	}
	want(t, p.ask("POST", "/admin/login", `password=`), http.StatusBadRequest, "send")
	want(t, p.ask("GET", "/admin/login", ``), http.StatusMethodNotAllowed, "")
	if p.failed != 4 {
		t.Errorf("%d failures counted, want 4", p.failed)
	}
}

func TestCookie(t *testing.T) {
	p := newPage(t)
	c := p.try(password).Result().Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/admin" || c.Secure || c.MaxAge != 12*60*60 || len(c.Value) < 52 {
		t.Errorf("cookie %v", c)
	}
	if c := p.try(password, "X-Forwarded-Proto", "https").Result().Cookies()[0]; !c.Secure {
		t.Errorf("cookie behind TLS %v", c)
	}
}

func TestSession(t *testing.T) {
	p := newPage(t)
	cookie, csrf := p.enter(t)
	both := append(cookie, csrf...)
	const path = "/admin/api/publish"
	for _, tt := range []struct {
		name, method, path string
		headers            []string
		status             int
		text               string
	}{
		{"operation", "POST", path, both, 200, `POST /api/publish {"channel":"a"} 0`},
		{"figures", "GET", "/admin/figures", cookie, 200, `"time":1700000000000,"connections":7,`},
		{"closes", "GET", "/admin/figures", cookie, 200, `"closed_total":{"client":2}`},
		{"token", "GET", "/admin/session", cookie, 200, csrf[1]},
		{"token without session", "GET", "/admin/session", nil, 200, `{"csrf":""}`},
		{"figures without session", "GET", "/admin/figures", nil, 401, "log in"},
		{"operation without session", "POST", path, csrf, 401, "log in"},
		{"made up cookie", "POST", path, append([]string{"Cookie", cookieName + "=x"}, csrf...), 401, "log in"},
		{"no CSRF token", "POST", path, cookie, 403, csrfHeader},
		{"empty CSRF token", "POST", path, append(cookie[:2:2], csrfHeader, ""), 403, csrfHeader},
		{"wrong CSRF token", "POST", path, append(cookie[:2:2], csrfHeader, csrf[1]+"x"), 403, csrfHeader},
		{"foreign origin", "POST", path, append(both[:4:4], "Origin", "http://evil.example"), 403, "origin"},
		{"foreign port", "POST", path, append(both[:4:4], "Origin", "http://roost.example:81"), 403, "origin"},
		{"opaque origin", "POST", path, append(both[:4:4], "Origin", "null"), 403, "origin"},
		{"no origin", "POST", path, append(both[:4:4], "Origin", ""), 403, "origin"},
		{"login from a foreign origin", "POST", "/admin/login", []string{"Origin", "http://evil.example"}, 403, "origin"},
		{"operation the page has not", "POST", "/admin/api/block_user", both, 404, "no such operation"},
		{"batch", "POST", "/admin/api/batch", both, 404, "no such operation"},
		{"GET of an operation", "GET", path, both, 405, ""},
		{"logout without CSRF token", "POST", "/admin/logout", cookie, 403, csrfHeader},
		{"logout", "POST", "/admin/logout", both, 200, "{}"},
		{"after it", "POST", path, both, 401, "log in"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want(t, p.ask(tt.method, tt.path, `{"channel":"a"}`, tt.headers...), tt.status, tt.text)
		})
	}
}

func TestTokenOfAnotherSession(t *testing.T) {
	p := newPage(t)
	cookie, _ := p.enter(t)
	_, csrf := p.enter(t)
	want(t, p.ask("POST", "/admin/api/info", `{}`, append(cookie, csrf...)...), http.StatusForbidden, csrfHeader)
}

func TestExpiry(t *testing.T) {
	p := newPage(t)
	cookie, _ := p.enter(t)
	p.clock = p.clock.Add(sessionTime - time.Second)
	want(t, p.ask("GET", "/admin/figures", "", cookie...), http.StatusOK, "")
	p.clock = p.clock.Add(time.Second)
	want(t, p.ask("GET", "/admin/figures", "", cookie...), http.StatusUnauthorized, "log in")
	if len(p.sessions.open) != 0 {
		t.Error("the session is still there")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	p := newPage(t)
	first, _ := p.enter(t)
	var last []string
	for range maxSessions {
		p.clock = p.clock.Add(time.Second)
		last, _ = p.enter(t)
	}
	if n := len(p.sessions.open); n != maxSessions {
		t.Errorf("%d sessions, want %d", n, maxSessions)
	}
	want(t, p.ask("GET", "/admin/figures", "", first...), http.StatusUnauthorized, "")
	want(t, p.ask("GET", "/admin/figures", "", last...), http.StatusOK, "")
}

func TestGuessing(t *testing.T) {
	p := newPage(t)
	from := []string{"From", "192.0.2.1:1000"}
	for range freeFailures + 1 {
		want(t, p.try("wrong", from...), http.StatusUnauthorized, "")
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		// The right password is no better while one has to wait, nor is another port.
		w := p.try(password, "From", "192.0.2.1:2000")
		want(t, w, http.StatusTooManyRequests, fmt.Sprintf("in %d s", wait))
		if got := w.Header().Get("Retry-After"); got != fmt.Sprint(int(wait)) {
			t.Errorf("Retry-After %s, want %d", got, wait)
		}
		p.clock = p.clock.Add(wait * time.Second)
		want(t, p.try("wrong", from...), http.StatusUnauthorized, "")
	}
	p.clock = p.clock.Add(longestWait)
	want(t, p.try(password, from...), http.StatusOK, "")
	want(t, p.try("wrong", from...), http.StatusUnauthorized, "") // its past is forgotten
	want(t, p.try("wrong", from...), http.StatusUnauthorized, "")
	if len(p.guard.slots) != guardSlots {
		t.Error("the guard grows")
	}
}

func TestGuessingIsForgotten(t *testing.T) {
	p := newPage(t)
	for range freeFailures + 1 {
		want(t, p.try("wrong"), http.StatusUnauthorized, "")
	}
	p.clock = p.clock.Add(forgetAfter + time.Second)
	for range freeFailures + 1 {
		want(t, p.try("wrong"), http.StatusUnauthorized, "")
	}
	want(t, p.try("wrong"), http.StatusTooManyRequests, "")
}

func TestGuardSlots(t *testing.T) {
	p := newPage(t)
	slot := func(address string) *attempts { return p.guard.slot(&http.Request{RemoteAddr: address}) }
	if slot("[2001:db8::1]:1") != slot("[2001:db8::ffff:2]:2") || slot("[::ffff:192.0.2.1]:1") != slot("[::ffff:192.0.2.1]:2") {
		t.Error("one customer has several slots")
	}
	different := map[*attempts]bool{}
	for i := range 200 {
		different[slot(fmt.Sprintf("[::ffff:192.0.2.%d]:1", i))] = true
	}
	if len(different) < 100 {
		t.Errorf("200 IPv4 addresses share %d slots", len(different))
	}
}

func TestHeaders(t *testing.T) {
	p := newPage(t)
	for path, status := range map[string]int{"/admin/": 200, "/admin/admin.js": 200, "/admin/admin.css": 200, "/admin/session": 200,
		"/admin/figures": 401, "/admin/session.go": 404, "/admin/index.html": 404} {
		w := p.ask("GET", path, "")
		want(t, w, status, "")
		for name, value := range map[string]string{"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%s: %s %q, want %q", path, name, got, value)
			}
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %s", policy)
	}
}

func TestLargeBody(t *testing.T) {
	p := newPage(t)
	cookie, csrf := p.enter(t)
	want(t, p.ask("POST", "/admin/api/publish", strings.Repeat("x", maxBody+1), append(cookie, csrf...)...), http.StatusRequestEntityTooLarge, "1 MiB")
	want(t, p.try(strings.Repeat("x", maxBody)), http.StatusBadRequest, "")
}
