package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"hash/maphash"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	sessionTime = 12 * time.Hour
	maxSessions = 64 // at a time; a login beyond ends the oldest

	guardSlots   = 1024
	freeFailures = 4 // before one has to wait
	longestWait  = 5 * time.Minute
	forgetAfter  = time.Hour
)

// digest stands for a secret where it is compared or kept, so that neither its bytes nor
// its length show in the time a comparison takes.
type digest [sha256.Size]byte

func sum(secret string) digest { return sha256.Sum256([]byte(secret)) }

func (d digest) is(other digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// secret is a random word of 256 bits or more.
type secret string

func newSecret() secret { return secret(rand.Text() + rand.Text()) }

func (s secret) matches(given string) bool { return sum(string(s)).is(sum(given)) }

// session is one login.
type session struct {
	csrf    secret
	expires time.Time
}

// sessions are those of this process, by the digest of their token.
type sessions struct {
	mu   sync.Mutex
	open map[digest]session
}

func (s *sessions) find(token string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sum(token)
	found, ok := s.open[key]
	if ok && !now.Before(found.expires) {
		delete(s.open, key)
		return session{}, false
	}
	return found, ok
}

func (s *sessions) create(now time.Time) (token secret, made session) {
	token, made = newSecret(), session{newSecret(), now.Add(sessionTime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxSessions {
		var oldest digest
		least := made.expires
		for key, other := range s.open {
			if !other.expires.After(least) {
				oldest, least = key, other.expires
			}
		}
		delete(s.open, oldest)
	}
	s.open[sum(string(token))] = made
	return token, made
}

func (s *sessions) end(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sum(token))
}

// guard slows the guessing of passwords: from the fifth failure on an address has to wait
// 1 s, then twice that each time, up to 5 min. Addresses share a fixed number of slots, so
// that no number of them takes memory.
type guard struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots [guardSlots]attempts
}

type attempts struct {
	failures uint8
	last     time.Time // the latest failure
}

func (g *guard) init() { g.seed = maphash.MakeSeed() }

// slot is that of the request's address; an IPv6 customer's whole /64 is one.
func (g *guard) slot(r *http.Request) *attempts {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().Is6() {
		p, _ := a.WithZone("").Prefix(64)
		host = p.String()
	}
	return &g.slots[maphash.String(g.seed, host)%guardSlots]
}

func (a *attempts) wait() time.Duration {
	if a.failures <= freeFailures {
		return 0
	}
	return min(time.Second<<min(a.failures-freeFailures-1, 20), longestWait)
}

// begin counts an attempt as failed before its password is looked at, so that attempts at
// the same time do not pass together. Otherwise it tells how long to wait.
func (g *guard) begin(a *attempts, now time.Time) (wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(a.last) > forgetAfter {
		a.failures = 0
	}
	if wait = a.wait() - now.Sub(a.last); wait > 0 {
		return wait
	}
	a.failures = min(a.failures, math.MaxUint8-1) + 1
	a.last = now
	return 0
}

func (g *guard) succeeded(a *attempts) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*a = attempts{}
}

// login opens a session for who knows the password.
func (h *handler) login(w http.ResponseWriter, r *http.Request) {
	var given struct {
		Password string `json:"password"`
	}
	if err := json.NewDecoder(r.Body).Decode(&given); err != nil {
		refuse(w, http.StatusBadRequest, "send {\"password\":…}")
		return
	}
	from := h.guard.slot(r)
	if wait := h.guard.begin(from, h.now()); wait > 0 {
		h.FailedLogin()
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		w.Header().Set("Retry-After", seconds)
		refuse(w, http.StatusTooManyRequests, "too many failed logins, try again in "+seconds+" s")
		return
	}
	if !h.password.is(sum(given.Password)) {
		h.FailedLogin()
		refuse(w, http.StatusUnauthorized, "the password is wrong")
		return
	}
	h.guard.succeeded(from)
	token, s := h.sessions.create(h.now())
	setCookie(w, r, string(token), int(sessionTime.Seconds()))
	answer(w, http.StatusOK, map[string]secret{"csrf": s.csrf})
}

// session tells the page its token, an empty one if it has to log in.
func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	s, _ := h.sessions.find(token(r), h.now())
	answer(w, http.StatusOK, map[string]secret{"csrf": s.csrf})
}

func (h *handler) logout(w http.ResponseWriter, r *http.Request) {
	h.sessions.end(token(r))
	setCookie(w, r, "", -1)
	answer(w, http.StatusOK, struct{}{})
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/admin", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	})
}
