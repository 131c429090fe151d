// Package ktls lets the kernel carry TLS records, so that a TLS client costs the process what a plain one does.
//
// A [Handshaker] takes a connection and what was already read from it, makes the handshake with crypto/tls on one of a
// bounded number of goroutines, puts the keys into the socket and gives back a plain descriptor for poller.Loop.Adopt.
// Where the kernel cannot, it gives back a [net.Conn] of crypto/tls, up to a number.
//
// # What the owner of such a descriptor must know
//
// Data is read and written as on any socket. Three things differ.
//
// A record that is not data makes read(2), and an io_uring RECV, fail with EIO, again and again until [Control] takes it
// and says what it means. EBADMSG, EINVAL and EMSGSIZE mean that the peer sent what is no record of this session: the
// connection cannot go on.
//
// A socket with half a record is readable for epoll while read(2) says EAGAIN: a level-triggered loop would spin. Read
// edge-triggered and to EAGAIN; a short read does not prove that the socket is empty.
//
// The kernel sends no close_notify (RFC 8446, 6.1): call [Alert] with [CloseNotify] before shutdown(2).
package ktls
