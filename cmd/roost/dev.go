package main

import (
	"net/http"

	"roost/conn"
	"roost/proto/ws"
	"roost/web"
)

// dev is what --dev serves.
type dev struct {
	broadcast *conn.Route
	files     map[string]web.File
}

func newDev() *dev { return &dev{files: web.Files()} }

func (d *dev) routes() []*conn.Route {
	d.broadcast = &conn.Route{Path: "/broadcast", Handler: broadcaster{d}, Inline: true}
	return []*conn.Route{
		{Path: "/echo", Handler: echo{}, Inline: true},
		{Path: "/echo-pool", Handler: echo{}},
		d.broadcast,
	}
}

// page serves the page that shows the routes working.
func (d *dev) page(r *http.Request) *conn.Response {
	f, ok := d.files[r.URL.Path]
	switch {
	case !ok:
		return nil
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return &conn.Response{Status: http.StatusMethodNotAllowed, ContentType: "text/plain",
			Header: http.Header{"Allow": {"GET, HEAD"}}, Body: []byte("405: use GET\n")}
	}
	return &conn.Response{Status: http.StatusOK, ContentType: f.ContentType, Body: f.Body}
}

// echo returns each message.
type echo struct{}

func (echo) Open(*conn.Conn) {}

func (echo) Message(c *conn.Conn, op ws.Opcode, payload []byte) { _ = c.Reply(op, payload) }

func (echo) Close(*conn.Conn, conn.Reason, ws.CloseCode) {}

// broadcaster sends each message to every connection of its route.
type broadcaster struct{ *dev }

func (broadcaster) Open(*conn.Conn) {}

// Message holds the sender back until its message has been sent to all, so that a
// fast sender cannot fill everybody's queues.
func (b broadcaster) Message(c *conn.Conn, op ws.Opcode, payload []byte) {
	c.Pause()
	c.Server().Broadcast(b.broadcast, ws.NewPrepared(op, payload), c.Resume)
}

func (broadcaster) Close(*conn.Conn, conn.Reason, ws.CloseCode) {}
