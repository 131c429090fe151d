// Package poller runs the event loops: it accepts, reads, writes and closes
// sockets, and knows nothing of what the bytes mean.
//
// A loop is one goroutine on one epoll instance of nbio's core. Everything that
// touches a descriptor happens on that goroutine: accept, read, send, close.
// Other goroutines reach a loop through one door only (Conn.Write, Conn.Finish,
// Conn.Cut, Conn.Resume, Loop.Post): they queue under a lock and ring the loop's
// eventfd if it is not rung already. So a descriptor number is never used by
// anyone after its loop closed it, and writes need no lock while they run.
//
// The bell is also what batches writes: it is rung at the first write of a batch
// of events, epoll delivers it with the next batch, and the loop then sends for
// all connections that have something pending, up to 128 of them with one
// io_uring enter.
//
// An idle connection costs its Conn (256 B with package conn's part) and 24 B of
// tables; no goroutine, timer or buffer.
package poller
