package backend

import (
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	good := func(url string) Config { return one(Endpoint{URL: url}) }
	with := func(e Endpoint) Config { e.URL = "http://localhost:3000/roost"; return one(e) }
	rules := func(methods ...string) Config {
		c := good("http://localhost")
		c.RPC = nil
		for _, m := range methods {
			c.RPC = append(c.RPC, Rule{m, "b"})
		}
		return c
	}
	for name, c := range map[string]struct {
		config Config
		want   string // part of the text; "" is no error
	}{
		"nothing":            {Config{}, ""},
		"http":               {good("http://127.0.0.1:3000/a/b?c=d"), ""},
		"https":              {good("https://example.com"), ""},
		"IPv6":               {good("http://[::1]:80"), ""},
		"nats":               {good("nats:roost.rpc"), ""},
		"all set":            {with(Endpoint{Timeout: time.Minute, Concurrency: 1, Retries: 10, RetryRPC: true, MaxAnswer: 1, Headers: map[string]string{"X-A": "ü\t"}}), ""},
		"rules":              {rules("a", "a.b", "a.*", "b*", "*"), ""},
		"no url":             {good(""), `backend "b": url has scheme ""`},
		"ftp":                {good("ftp://x"), `url has scheme "ftp", must be http, https or nats`},
		"host and port":      {good("localhost:3000"), `must be http, https or nats`},
		"no host":            {good("http:///x"), `has no host`},
		"only a port":        {good("http://:80"), `has no host`},
		"port":               {good("http://x:99999"), `port 99999, must be 1 to 65535`},
		"port 0":             {good("http://x:0"), `port 0, must be`},
		"not a url":          {good("http://a b:hunter2@x\x7f"), `url cannot be read`},
		"user":               {good("http://ann:hunter2@x"), `a user or password in it: send such as a header`},
		"fragment":           {good("http://x/#top"), `leave out #top`},
		"nats server":        {good("nats://ann:hunter2@localhost:4222"), `url must be nats: and the beginning of subjects`},
		"nats nothing":       {good("nats:"), `url must be nats:`},
		"nats wildcard":      {good("nats:roost.*"), `url must be nats:`},
		"nats everything":    {good("nats:roost.>"), `url must be nats:`},
		"nats empty token":   {good("nats:roost..rpc"), `url must be nats:`},
		"nats system":        {good("nats:$SYS"), `url must be nats:`},
		"nats query":         {good("nats:roost?x"), `url must be nats:`},
		"nats escaped":       {good("nats:roost%2a"), `url must be nats:`},
		"nats headers":       {one(Endpoint{URL: "nats:a", Headers: map[string]string{"X": "y"}}), `are for http and https`},
		"nats retries":       {one(Endpoint{URL: "nats:a", Retries: 1}), `are for http and https`},
		"timeout":            {with(Endpoint{Timeout: -time.Second}), `timeout is -1s, must be 0 (1s) to 1m`},
		"long timeout":       {with(Endpoint{Timeout: time.Hour}), `timeout is 1h0m0s`},
		"concurrency":        {with(Endpoint{Concurrency: -1}), `concurrency is -1, must be`},
		"retries":            {with(Endpoint{Retries: 11}), `retries is 11, must be`},
		"max-answer":         {with(Endpoint{MaxAnswer: -1}), `max-answer is -1, must be`},
		"header name":        {with(Endpoint{Headers: map[string]string{"X Y": "hunter2"}}), `header "X Y": that is no name`},
		"header value":       {with(Endpoint{Headers: map[string]string{"X": "hunter2\r\nY: z"}}), `header "X": its value has a line break`},
		"header taken":       {with(Endpoint{Headers: map[string]string{"Content-Length": "1"}}), `the gateway's to set`},
		"header twice":       {with(Endpoint{Headers: map[string]string{"X-A": "1", "x-a": "2"}}), `is there twice`},
		"name":               {Config{Backends: map[string]Endpoint{"a b": {URL: "http://x"}}}, `backend "a b": a name is`},
		"no backend":         {Config{Message: "x"}, `message: backend "x" is not configured, of which there are: none`},
		"no refresh":         {Config{Refresh: "x"}, `refresh: backend "x" is not configured`},
		"no connect":         {Config{Connect: "x"}, `connect: backend "x" is not configured`},
		"no disconnect":      {Config{Disconnect: "x"}, `disconnect: backend "x" is not configured`},
		"no unsubscribe":     {Config{Unsubscribe: "x"}, `unsubscribe: backend "x" is not configured`},
		"other backend":      {Config{Backends: map[string]Endpoint{"a": {URL: "http://x"}}, RPC: []Rule{{"*", "c"}}}, `rpc rule 1: backend "c" is not configured, of which there are: a`},
		"empty method":       {rules(""), `rpc rule 1: method "" must be`},
		"star in the middle": {rules("a*b"), `method "a*b" must be`},
		"two stars":          {rules("**"), `method "**" must be`},
		"after all":          {rules("*", "a"), `rpc rule 2: method "a" never gets here, since rule 1 ("*")`},
		"after prefix":       {rules("a*", "ab*"), `never gets here`},
		"twice":              {rules("a", "a"), `never gets here`},
	} {
		err := c.config.Validate()
		switch {
		case (err == nil) != (c.want == ""), err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the text repeats a secret: %v", name, err)
		}
		if _, err := New(Options{Config: c.config, Ask: asks(nil)}); (err == nil) != (c.want == "") {
			t.Errorf("%s: New: %v", name, err)
		}
	}
	both := Config{Backends: map[string]Endpoint{"a": {}, "b": {URL: "x:"}}, Message: "c"}
	if n := strings.Count(both.Validate().Error(), "\n") + 1; n != 3 {
		t.Errorf("%d problems, want all 3: %v", n, both.Validate())
	}
	if _, err := New(Options{Config: good("nats:a")}); err == nil {
		t.Error("a NATS backend needs no Asker")
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		pattern, method string
		want            bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"a*", "a", true}, {"a*", "b", false}, {"*", "", true}, {"*", "x", true}, {"a.*", "a", false},
	} {
		if got := (Rule{Method: c.pattern}).matches(c.method); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.method, got)
		}
	}
}
