//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// admin sends a request to the admin page as the page itself would.
func (g *instance) admin(path, body string, headers ...string) (*http.Response, string) {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+g.internal+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Origin", "http://"+g.internal)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := g.operator.Do(r)
	_, text := g.answer(res, err)
	return res, text
}

// TestAdmin logs in and asks the server API of a gateway whose API has no key.
func TestAdmin(t *testing.T) {
	g := configured(t, "allow-anonymous: true\nmemory: true\nadmin-password: correct horse\n")
	if out := g.Out.String(); strings.Contains(out, "admin") {
		t.Errorf("standard output tells the password: %s", out)
	}
	if res, body := g.admin("/admin/login", `{"password":"correct hors"}`); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("wrong password: %d %s", res.StatusCode, body)
	}
	res, body := g.admin("/admin/login", `{"password":"correct horse"}`)
	var session struct{ CSRF string }
	if err := json.Unmarshal([]byte(body), &session); err != nil || res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 {
		t.Fatalf("login: %d %s", res.StatusCode, body)
	}
	c := res.Cookies()[0]
	headers := []string{"Cookie", c.Name + "=" + c.Value, "X-CSRF-Token", session.CSRF}
	if res, body := g.admin("/admin/api/info", "{}", headers...); res.StatusCode != http.StatusOK || !strings.Contains(body, `{"result":{"nodes":[{"uid":`) {
		t.Errorf("info: %d %s", res.StatusCode, body)
	}
	if res, body := g.admin("/admin/api/history", `{"channel":"no:such"}`, headers...); !strings.Contains(body, `{"error":{"code":102,`) {
		t.Errorf("history: %d %s", res.StatusCode, body)
	}
	if status, _ := g.api("", "info", "{}"); status != http.StatusUnauthorized {
		t.Errorf("the API itself, without a key: %d", status)
	}
	have := g.metrics()
	for sample, want := range map[string]float64{"roost_admin_login_failures_total": 1, `roost_api_requests_total{code="0",method="info"}`: 1} {
		if have[sample] != want {
			t.Errorf("%s is %v, want %v", sample, have[sample], want)
		}
	}
}

func TestAdminOfDev(t *testing.T) {
	g := start(t)
	password := regexp.MustCompile(` admin_password=([A-Z2-7]{26}) `).FindStringSubmatch(g.Out.String())
	if password == nil {
		t.Fatalf("no password: %s", g.Out.String())
	}
	if res, body := g.admin("/admin/login", fmt.Sprintf(`{"password":%q}`, password[1])); res.StatusCode != http.StatusOK {
		t.Errorf("login: %d %s", res.StatusCode, body)
	}
	if status, body := g.get("/admin"); status != http.StatusOK || !strings.Contains(body, "<title>roost admin</title>") {
		t.Errorf("/admin: %d %.100s", status, body)
	}
}

func TestAdminIsOff(t *testing.T) {
	g := configured(t, "allow-anonymous: true\nmemory: true\n")
	for _, path := range []string{"/admin", "/admin/", "/admin/session", "/admin/admin.js"} {
		if status, body := g.get(path); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if res, _ := g.admin("/admin/login", `{"password":""}`); res.StatusCode != http.StatusNotFound {
		t.Errorf("login: %d", res.StatusCode)
	}
}
