// Package web holds the pages that `roost serve --dev` shows at its client address: a chat room on the gateway
// through the centrifuge SDK, a board of shared state through the SDK in sdk/js, and a page for the built-in routes
// /echo and /broadcast. No build step, nothing loaded from elsewhere.
package web

import (
	"embed"
	"path"
)

//go:embed *.html *.js *.css vendor
var files embed.FS

// File is one file of the pages, ready to be served.
type File struct {
	ContentType string // value of the Content-Type header
	Body        []byte // shared: must not be changed
}

// served lists what is served and from which file.
var served = map[string]string{
	"/":                     "index.html",
	"/chat.js":              "chat.js",
	"/board.html":           "board.html",
	"/board.js":             "board.js",
	"/board.css":            "board.css",
	"/engine.html":          "engine.html",
	"/engine.js":            "engine.js",
	"/style.css":            "style.css",
	"/vendor/centrifuge.js": "vendor/centrifuge.js",
	"/vendor/LICENSES.txt":  "vendor/LICENSES.txt",
}

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".txt":  "text/plain; charset=utf-8",
}

// Files returns the pages' files by request path. Each call returns a new map; any goroutine may call it. The pages
// bring their own Content-Security-Policy, so that no further header is needed.
func Files() map[string]File {
	all := make(map[string]File, len(served))
	for at, name := range served {
		all[at] = read(name)
	}
	sdk, err := files.ReadDir("vendor/roost")
	if err != nil { // cannot happen: it is embedded
		panic(err)
	}
	for _, f := range sdk {
		all["/vendor/roost/"+f.Name()] = read("vendor/roost/" + f.Name())
	}
	return all
}

func read(name string) File {
	body, err := files.ReadFile(name)
	if err != nil { // cannot happen: a test reads them all
		panic(err)
	}
	return File{contentTypes[path.Ext(name)], body}
}
