package hub

import "sync"

// Members calls f on the loops, one at a time, for each live subscriber of the channel
// on this node, and returns when all have been seen. Any goroutine but a loop's.
func (c *Channel) Members(f func(cl *Client, flags Flags)) {
	c.mu.Lock()
	var lists []*list
	for x := c.first; x != nil; x = x.next {
		lists = append(lists, x)
	}
	c.mu.Unlock()
	for _, x := range lists {
		var wg sync.WaitGroup
		wg.Add(1)
		ok := x.loop.Post(func() {
			defer wg.Done()
			for _, m := range x.members {
				if cl := x.client(m.conn); cl != nil {
					f(cl, m.flags)
				}
			}
		})
		if ok {
			wg.Wait()
		}
	}
}

// Len returns the number of subscribers on this node, those about to come included.
func (c *Channel) Len() int {
	sh := c.hub.shard(c.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return int(c.refs)
}
