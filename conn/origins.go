package conn

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CheckOrigin says why p, one of Options.AllowedOrigins, can match no origin, or not the
// one that is meant; see ws.CheckOrigin for what it may look like.
func CheckOrigin(p string) error {
	if p == "*" || strings.EqualFold(p, "null") || strings.EqualFold(p, "file://") {
		return nil
	}
	if p == "" {
		return errors.New("it is empty")
	}
	for i := range len(p) {
		if p[i] <= ' ' || p[i] >= 0x7f {
			return errors.New("it may hold no spaces, controls or characters beyond ASCII: browsers send names in Punycode (xn--…)")
		}
	}
	scheme, host, found := strings.Cut(p, "://")
	switch {
	case !found:
		host = p
	case strings.EqualFold(scheme, "ws") || strings.EqualFold(scheme, "wss"):
		return errors.New("the origin is that of the page: its scheme is http or https")
	default:
		if u, err := url.Parse(scheme + "://host"); err != nil || !strings.EqualFold(u.Scheme, scheme) {
			return errors.New("the scheme is none")
		}
		if host == "*" {
			return nil
		}
	}
	if strings.ContainsAny(host, "/?#@,;\"'\\") {
		return errors.New("it must be [scheme://]host[:port], without path, user or list")
	}
	return checkHost(host)
}

// checkHost checks host[:port], where host may begin with "*.".
func checkHost(host string) error {
	if strings.HasPrefix(host, "[") {
		if _, err := netip.ParseAddrPort(host); err == nil {
			return nil
		}
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && a.Is6() && strings.HasSuffix(host, "]") {
			return nil
		}
		return errors.New("it is no IPv6 address in brackets, with or without a port")
	}
	name, port, found := strings.Cut(host, ":")
	if n, err := strconv.ParseUint(port, 10, 16); found && (err != nil || n == 0) {
		return errors.New("the port must be 1 to 65535, and an IPv6 address stands in brackets")
	}
	name = strings.TrimPrefix(name, "*.")
	if strings.Contains(name, "*") {
		return errors.New(`"*" stands for all origins, or as "*." at the beginning of a host`)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return errors.New("the host is empty, or has an empty part between dots")
		}
	}
	return nil
}
