// Command engine-game is a game on the engine alone: WebSockets with a protocol of their own, no
// channels, no NATS. Players send moves as text ("left", "right", "up", "down"); twenty times a
// second all of them get the state, which is encoded once and written to all in batches.
//
//	go run ./examples/engine-game
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"roost/conn"
	"roost/proto/ws"
)

// player is where somebody is.
type player struct {
	Name string `json:"name"`
	X    int    `json:"x"`
	Y    int    `json:"y"`
}

// game implements conn.Handler. Its methods never block for long, so the route may be Inline: they
// run on the event loops, of which there may be several.
type game struct {
	mu      sync.Mutex
	players map[*conn.Conn]*player
}

func (g *game) Open(c *conn.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.players[c] = &player{Name: c.Session().(string)}
}

func (g *game) Message(c *conn.Conn, _ ws.Opcode, payload []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.players[c]
	switch string(payload) {
	case "left":
		p.X--
	case "right":
		p.X++
	case "up":
		p.Y--
	case "down":
		p.Y++
	default:
		c.Close(4000, "moves are left, right, up and down")
	}
}

func (g *game) Close(c *conn.Conn, _ conn.Reason, _ ws.CloseCode) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.players, c)
}

// state is what all players get.
func (g *game) state() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, _ := json.Marshal(slices.Collect(maps.Values(g.players)))
	return b
}

// name takes the player's name from the address, before the upgrade is confirmed.
func name(r *http.Request) (session any, err error) {
	name := r.URL.Query().Get("name")
	if name == "" {
		return nil, &ws.HandshakeError{Status: http.StatusForbidden, Label: "name", Detail: "connect with ?name=NAME"}
	}
	return name, nil
}

func main() {
	g := &game{players: map[*conn.Conn]*player{}}
	route := &conn.Route{Path: "/play", Handler: g, Inline: true, Authorize: name}
	server, err := conn.New(conn.Options{Routes: []*conn.Route{route}})
	if err != nil {
		panic(err)
	}
	address, err := server.Listen("127.0.0.1:" + os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	fmt.Printf("ready ws://%s/play?name=NAME\n", address)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for tick := time.NewTicker(time.Second / 20); ctx.Err() == nil; {
		select {
		case <-tick.C:
			server.Broadcast(route, ws.NewPrepared(ws.OpText, g.state()), nil)
		case <-ctx.Done():
		}
	}
	_ = server.Shutdown(context.Background())
}
