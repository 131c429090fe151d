package web

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// Everything that a page refers to is served, and nothing comes from elsewhere.
func TestFiles(t *testing.T) {
	all := Files()
	reference := regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`)
	for at, f := range all {
		if f.ContentType == "" || len(f.Body) == 0 {
			t.Errorf("%s: type %q, %d bytes", at, f.ContentType, len(f.Body))
		}
		if !strings.HasPrefix(f.ContentType, "text/html") {
			continue
		}
		if !bytes.Contains(f.Body, []byte(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self';`)) {
			t.Errorf("%s has no policy that keeps inline scripts out", at)
		}
		for _, m := range reference.FindAllSubmatch(f.Body, -1) {
			to := string(m[1])
			if _, ok := all[to]; !ok && !strings.HasPrefix(to, "data:image/svg+xml,") {
				t.Errorf("%s refers to %s, which is not served", at, to)
			}
		}
	}
}
