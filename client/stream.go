package client

import "context"

// Stream is messages to whoever follows it at the moment.
type Stream struct{ *Object }

// Stream opens a stream, or creates it.
func (c *Client) Stream(ctx context.Context, name string, o Open) (*Stream, error) {
	x, err := c.open(ctx, "stream", name, &o)
	if err != nil {
		return nil, err
	}
	return &Stream{x}, nil
}

// Publish sends a message, at most once.
func (s *Stream) Publish(ctx context.Context, data any) error {
	return s.log.c.call(ctx, "stream.publish", map[string]any{"id": s.log.id, "data": data}, nil, true)
}
