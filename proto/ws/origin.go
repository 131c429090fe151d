package ws

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// CheckOrigin decides whether a page of the request's Origin may connect (RFC 6455 section 10.2). A request without
// Origin comes from no browser and passes. With no allowed patterns, the origin's host must be the request's. Else
// one pattern must match:
//
//	"*"                    any origin
//	"app.example.com"      this host, at the default port of http or https
//	"app.example.com:8443" this host and port
//	"*.example.com"        all hosts below example.com, not itself
//	"https://…"            any of the above, for this scheme only
//	"null"                 the origin of sandboxed pages and files
//
// Case does not count. The error is a *HandshakeError with status 403.
func CheckOrigin(r *http.Request, allowed []string) error {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return nil
	}
	if len(origins) > 1 {
		return forbidden("the request has several Origin headers")
	}
	origin := origins[0]
	var scheme, host string
	if u, err := url.Parse(origin); err == nil && u.Host != "" && u.User == nil {
		scheme, host = u.Scheme, trimPort(u.Scheme, u.Host)
	}
	if len(allowed) == 0 {
		if host != "" && strings.EqualFold(host, trimPort(scheme, r.Host)) {
			return nil
		}
		return forbidden(fmt.Sprintf("origin %.200q is not this host, %.200q", origin, r.Host))
	}
	for _, pattern := range allowed {
		if matchOrigin(pattern, origin, scheme, host) {
			return nil
		}
	}
	return forbidden(fmt.Sprintf("origin %.200q is not among the allowed ones", origin))
}

// matchOrigin holds one pattern against an origin; scheme and host are empty where it has none.
func matchOrigin(pattern, origin, scheme, host string) bool {
	if strings.EqualFold(pattern, origin) {
		return true
	}
	if s, rest, ok := strings.Cut(pattern, "://"); ok {
		if !strings.EqualFold(s, scheme) {
			return false
		}
		pattern = rest
	}
	if pattern == "*" {
		return true
	}
	pattern = trimPort(scheme, pattern)
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok && strings.HasPrefix(suffix, ".") {
		at := len(host) - len(suffix)
		return at > 0 && strings.EqualFold(host[at:], suffix)
	}
	return host != "" && strings.EqualFold(pattern, host)
}

// trimPort takes the default port of scheme off host.
func trimPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

func forbidden(detail string) error {
	return &HandshakeError{Status: http.StatusForbidden, Label: LabelOrigin, Detail: detail}
}
