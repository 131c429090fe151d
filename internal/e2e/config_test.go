//go:build linux

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"
)

// secret signs the tokens of the tests.
const secret = "secret of the tests, long enough for HS256"

// open is a namespace in which everyone may do everything.
const open = `{presence: true, join-leave: true, history-size: 1000, history-ttl: 300s, force-recovery: true, delta: true, tags-filter: true,
    allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true, allow-publish-for-client: true, allow-publish-for-anonymous: true,
    allow-presence-for-client: true, allow-presence-for-anonymous: true, allow-history-for-client: true, allow-history-for-anonymous: true,
    allow-user-limited-channels: true}`

// channels are those of all gateways under test.
const channels = `
channels:
  personal: true
  personal-namespace: personal
  default: ` + open + `
  namespaces:
    live: {presence: true, allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true, allow-publish-for-subscriber: true, allow-presence-for-client: true}
    positioned: {history-size: 10, history-ttl: 300s, force-positioning: true, allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true}
    cache: {history-size: 1, history-ttl: 300s, force-recovery: true, recovery-mode: cache, allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true}
    short: {history-size: 5, history-ttl: 300s, force-recovery: true, allow-subscribe-for-client: true, allow-subscribe-for-anonymous: true, allow-history-for-client: true}
    private: {presence: true, history-size: 10, history-ttl: 300s, allow-publish-for-subscriber: true}
    personal: {history-size: 10, history-ttl: 300s, force-recovery: true}
`

// configuration of a gateway whose clients may come with a token or without.
const configuration = `
hmac-secret-key: ` + secret + `
allow-anonymous: true
expiry-grace: 3s
` + channels

// claims of a token.
type claims = object

func encoded(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // tests encode what can be encoded
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// signed is a token as the tests want it, right or wrong.
func signed(key, algorithm string, c claims) string {
	head := encoded(object{"alg": algorithm, "typ": "JWT"}) + "." + encoded(c)
	if algorithm == "none" {
		return head + "."
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(head))
	return head + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// token is a right one that expires in an hour unless c says otherwise.
func token(c claims) string {
	full := claims{"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range c {
		full[k] = v
	}
	return signed(secret, "HS256", full)
}

func tokenOf(user string) string { return token(claims{"sub": user}) }

// eachEncoding runs a test with JSON and with Protobuf, in parallel.
func eachEncoding(t *testing.T, f func(t *testing.T, binary bool)) {
	t.Parallel()
	for name, binary := range map[string]bool{"json": false, "protobuf": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, binary)
		})
	}
}

// named makes a channel name that no other test uses.
func named(t testing.TB, prefix string) string {
	sum := sha256.Sum256([]byte(t.Name()))
	return prefix + base64.RawURLEncoding.EncodeToString(sum[:9])
}
