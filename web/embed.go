// Package web holds the page that `roost serve --dev` shows at its client address: it opens WebSockets to the
// built-in routes /echo and /broadcast of the gateway it came from. No build step, nothing loaded from elsewhere.
package web

import _ "embed"

//go:embed index.html
var page []byte

//go:embed app.js
var script []byte

//go:embed style.css
var style []byte

// File is one file of the page, ready to be served.
type File struct {
	ContentType string // value of the Content-Type header
	Body        []byte // shared: must not be changed
}

// Files returns the page's files by request path. Each call returns a new map; any goroutine may call it. The page
// brings its own Content-Security-Policy, so that no further header is needed.
func Files() map[string]File {
	return map[string]File{
		"/":          {"text/html; charset=utf-8", page},
		"/app.js":    {"text/javascript; charset=utf-8", script},
		"/style.css": {"text/css; charset=utf-8", style},
	}
}
