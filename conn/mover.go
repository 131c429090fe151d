package conn

// Parked returns how many connections wait for Unpark.
func (s *Server) Parked() int { return int(s.parked.Load()) }

// Mover is implemented by handlers whose connections have a session and may be carried
// nevertheless. Those of other handlers are carried if Session is nil.
type Mover interface {
	// Leave appends what the other process needs of the session of c. It reports false for a
	// connection that has to stay. On the loop, which does not block meanwhile; nothing else
	// is going on for c.
	Leave(dst []byte, c *Conn) (state []byte, ok bool)
	// Arrive makes the session again. On the loop, before anything is read. Handler.Open is
	// not called. After an error the connection is closed with 1012.
	Arrive(c *Conn, state []byte) error
}
