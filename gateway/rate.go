package gateway

import (
	"strings"
	"sync"
	"time"
)

// publishRates holds what clients have published lately to channels with a limit:
// token buckets of one second's worth, forgotten when they are full again.
type publishRates struct {
	mu      sync.Mutex
	buckets map[bucketKey]bucket
	swept   time.Time
}

type bucketKey struct {
	s  *session
	ch string
}

type bucket struct {
	left float64
	at   time.Time
}

// mayPublish tells whether a client may publish to a channel now, at most rate per
// second.
func (n *Node) mayPublish(s *session, ch string, rate int) bool {
	r, now := &n.rates, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buckets == nil {
		r.buckets = make(map[bucketKey]bucket)
	}
	if now.Sub(r.swept) > time.Second {
		r.swept = now
		for k, b := range r.buckets {
			if now.Sub(b.at) > time.Second {
				delete(r.buckets, k)
			}
		}
	}
	k := bucketKey{s, strings.Clone(ch)} // ch may point into the client's message
	b, ok := r.buckets[k]
	if !ok {
		b = bucket{left: float64(rate)}
	} else {
		b.left = min(float64(rate), b.left+now.Sub(b.at).Seconds()*float64(rate))
	}
	b.at = now
	may := b.left >= 1
	if may {
		b.left--
	}
	r.buckets[k] = b
	return may
}
