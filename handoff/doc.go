// Package handoff moves all that a process serves to the next one on the same machine, over a
// Unix socket: listening sockets, live connections, and what is known of them.
//
// The old process serves until the new one is prepared. Then it comes to rest, describes
// everything, and sends the descriptors; it keeps them, too. The new one makes everything of
// that but touches no connection. When it is ready the old one says go, and from that moment
// everything is the new one's. Whatever goes wrong before leaves it with the old one, which
// goes on as if nothing had happened:
//
//	old                              new
//	                                 hello    who I am, and what I understand
//	offer    what there is (or refuse)
//	                                 prepared everything but what you have
//	early …  (in a cluster) what to follow
//	follow   …
//	                                 follow   I hear what you hear
//	early …  the same for what is new, at rest
//	listener …
//	store    the data folder is free
//	will     what is known
//	conns    …
//	end
//	                                 ready
//	go       (or abort, at any time before)
//	                                 took     from here on everything is mine
//	                                 up
//
// An end of the stream before took means that the new process died without having touched
// anything, so nothing has changed. An end of the stream after end, without an abort, means that
// the old process died: then the new one goes on without being told, as nobody else is left. So
// each connection has one owner at every moment. If the new process dies between took and up,
// its connections die with it, and the old process serves those who come back.
package handoff
