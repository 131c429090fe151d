// Package conn is the WebSocket server on the event loops of package poller.
//
// A Server has routes; a route has a Handler. The calls for one connection
// (Open, Message, Message, …, Close) never overlap and keep their order. By
// default they run in a pool of workers and may block; a route whose handler
// never blocks may declare itself Inline and then runs on the loop, which saves
// the way to a worker and a copy of each message.
//
// A connection at rest is one object of 256 B. What a half-read frame, an
// unfinished message, a turn in the pool or pending output need exists only while
// it is needed.
package conn
