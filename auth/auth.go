// Package auth turns tokens into claims: JWTs signed with a shared secret, a public key
// or a key of a JWKS. It knows no connection.
package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

// Options of a Verifier. At least one key is required.
type Options struct {
	// HMACSecret verifies HS256, HS384 and HS512.
	HMACSecret string
	// Public keys in PEM verify RS256/384/512, ES256/384/512 and EdDSA.
	RSAPublicKey, ECDSAPublicKey, Ed25519PublicKey string
	// JWKSURL is where keys are fetched; a token names one by its kid. They are fetched
	// again after JWKSTTL (default 1 h), and for an unknown kid, but not more often than
	// every five seconds.
	JWKSURL string
	JWKSTTL time.Duration
	// Audience and Issuer, if set, must be in the token.
	Audience, Issuer string
	// Leeway forgives clocks that differ: for exp and nbf. When a token says it was issued
	// (iat) is not held against the clock, as issuers' run ahead.
	Leeway time.Duration
	Logger *slog.Logger
}

// Enabled tells whether o has a key.
func (o Options) Enabled() bool {
	return o.HMACSecret != "" || o.RSAPublicKey != "" || o.ECDSAPublicKey != "" || o.Ed25519PublicKey != "" || o.JWKSURL != ""
}

// Errors of verifying.
var (
	ErrExpired = errors.New("auth: token has expired")
	// ErrKeys: the JWKS cannot be fetched, so that a token may be right; try again.
	ErrKeys    = errors.New("auth: keys cannot be fetched")
	ErrBlocked = errors.New("auth: user is blocked")
	ErrRevoked = errors.New("auth: token is revoked")
)

// InvalidError refuses a token for good.
type InvalidError struct {
	Label  string // for metrics: malformed, algorithm, signature, unknown_key, audience, issuer, not_yet, claims
	Detail string
}

// Error implements error.
func (e *InvalidError) Error() string { return "auth: invalid token: " + e.Detail }

// Verifier verifies tokens. Any goroutine.
type Verifier struct {
	// Static after construction.
	keys   map[string]any  // by kind of algorithm: HS, RS, ES, Ed
	jwks   keyfunc.Keyfunc // keys fetched; nil without JWKS
	latest keyfunc.Keyfunc // the same, fetched anew where a key is unknown
	cancel context.CancelFunc
	parser *jwt.Parser

	failed   atomic.Bool // the last fetch for an unknown key, or the first of all
	fetching sync.Mutex
	fetched  *rate.Limiter // guarded by fetching
}

const (
	jwksWait  = 5 * time.Second // for one request, and between requests for unknown keys
	tokenSize = 16 << 10        // bytes at most
)

// New makes a verifier. It fetches the JWKS; where that fails, it is tried again later.
func New(o Options) (*Verifier, error) {
	if !o.Enabled() {
		return nil, errors.New("auth: no key: give an HMAC secret, a public key or a JWKS URL")
	}
	if o.Leeway < 0 {
		return nil, fmt.Errorf("auth: leeway is %v, must be 0 or more", o.Leeway)
	}
	v := &Verifier{keys: make(map[string]any), cancel: func() {}}
	if o.HMACSecret != "" {
		v.keys["HS"] = []byte(o.HMACSecret)
	}
	for _, k := range []struct {
		kind, name, pem string
		parse           func([]byte) (crypto.PublicKey, error)
	}{
		{"RS", "RSA", o.RSAPublicKey, func(b []byte) (crypto.PublicKey, error) { return jwt.ParseRSAPublicKeyFromPEM(b) }},
		{"ES", "ECDSA", o.ECDSAPublicKey, func(b []byte) (crypto.PublicKey, error) { return jwt.ParseECPublicKeyFromPEM(b) }},
		{"Ed", "Ed25519", o.Ed25519PublicKey, jwt.ParseEdPublicKeyFromPEM},
	} {
		if k.pem == "" {
			continue
		}
		key, err := k.parse([]byte(k.pem))
		if err != nil {
			return nil, fmt.Errorf("auth: %s public key: %w (it must be PEM)", k.name, err)
		}
		v.keys[k.kind] = key
	}
	if err := v.fetch(o); err != nil {
		return nil, err
	}
	opts := []jwt.ParserOption{jwt.WithLeeway(o.Leeway)}
	if o.Audience != "" {
		opts = append(opts, jwt.WithAudience(o.Audience))
	}
	if o.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(o.Issuer))
	}
	v.parser = jwt.NewParser(opts...)
	return v, nil
}

// fetch begins to keep the JWKS.
func (v *Verifier) fetch(o Options) error {
	if o.JWKSURL == "" {
		return nil
	}
	u, err := url.Parse(o.JWKSURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("auth: JWKS URL %q: must be http or https", o.JWKSURL)
	}
	log := o.Logger
	if log == nil {
		log = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ttl := o.JWKSTTL
	if ttl == 0 {
		ttl = time.Hour
	}
	store, err := jwkset.NewStorageFromHTTP(o.JWKSURL, jwkset.HTTPClientStorageOptions{
		Ctx:                       ctx,
		HTTPTimeout:               jwksWait,
		NoErrorReturnFirstHTTPReq: true,
		RefreshInterval:           ttl,
		RefreshErrorHandler: func(_ context.Context, err error) {
			v.failed.Store(true)
			log.Warn("the JWKS could not be fetched", "url", o.JWKSURL, "error", err)
		},
	})
	var client jwkset.Storage
	if err == nil {
		client, err = jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
			HTTPURLs:          map[string]jwkset.Storage{o.JWKSURL: store},
			RateLimitWaitMax:  jwksWait,                     // and for the fetch, which is its use here
			RefreshUnknownKID: rate.NewLimiter(rate.Inf, 1), // v.fetched limits without waiting
		})
	}
	if err == nil {
		v.jwks, err = keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: store})
	}
	if err == nil {
		v.latest, err = keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: client})
	}
	if err != nil {
		cancel()
		return fmt.Errorf("auth: JWKS: %w", err)
	}
	v.fetched = rate.NewLimiter(rate.Every(jwksWait), 1)
	v.cancel = cancel
	return nil
}

// Close ends the refreshing of keys.
func (v *Verifier) Close() { v.cancel() }

var (
	errUnknownKey = errors.New("no key for this token")
	errAlgorithm  = errors.New("the algorithm is not one of the key's")
)

// key returns the key a token must be signed with. The algorithm must be one of the
// key's own kind, so that a public key never serves as a shared secret.
func (v *Verifier) key(ctx context.Context) jwt.Keyfunc {
	return func(t *jwt.Token) (any, error) {
		switch t.Method.Alg()[:2] {
		case "HS", "RS", "ES", "Ed":
		default: // none, and PSS
			return nil, errAlgorithm
		}
		key, err := v.find(ctx, t)
		if err == nil && !fits(t.Method, key) {
			err = errAlgorithm
		}
		return key, err
	}
}

func fits(method jwt.SigningMethod, key any) bool {
	switch k := key.(type) {
	case []byte:
		_, ok := method.(*jwt.SigningMethodHMAC)
		return ok
	case *rsa.PublicKey:
		_, ok := method.(*jwt.SigningMethodRSA)
		return ok
	case *ecdsa.PublicKey:
		m, ok := method.(*jwt.SigningMethodECDSA)
		return ok && m.CurveBits == k.Curve.Params().BitSize
	case ed25519.PublicKey:
		_, ok := method.(*jwt.SigningMethodEd25519)
		return ok
	}
	return false
}

// find looks for a token's key: by its name in the JWKS, and then by its algorithm.
func (v *Verifier) find(ctx context.Context, t *jwt.Token) (any, error) {
	err := errUnknownKey
	if name, _ := t.Header["kid"].(string); name != "" && v.jwks != nil {
		var key any
		if key, err = v.fetchedKey(ctx, t); err == nil {
			return key, nil
		}
	}
	switch kind := t.Method.Alg()[:2]; {
	case v.keys[kind] != nil:
		return v.keys[kind], nil
	case v.jwks == nil: // whose keys could be of any kind
		return nil, errAlgorithm
	}
	return nil, err
}

// fetchedKey finds a key by its name, fetching all keys once where it is unknown. All
// who do not know theirs wait for that, five seconds at most.
func (v *Verifier) fetchedKey(ctx context.Context, t *jwt.Token) (any, error) {
	key, err := v.jwks.KeyfuncCtx(ctx)(t)
	if errors.Is(err, jwkset.ErrKeyNotFound) {
		v.fetching.Lock()
		defer v.fetching.Unlock()
		if key, err = v.jwks.KeyfuncCtx(ctx)(t); errors.Is(err, jwkset.ErrKeyNotFound) && v.fetched.Allow() {
			v.failed.Store(false)
			key, err = v.latest.KeyfuncCtx(context.WithoutCancel(ctx))(t) // also for the others
		}
	}
	switch {
	case err == nil:
		return key, nil
	case !errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, errAlgorithm // all else keyfunc refuses: the key names another
	case v.failed.Load():
		return nil, ErrKeys
	}
	return nil, errUnknownKey
}

func (v *Verifier) parse(ctx context.Context, token string, c jwt.Claims) error {
	if len(token) > tokenSize {
		return &InvalidError{"malformed", fmt.Sprintf("it is %d bytes long, at most %d are allowed", len(token), tokenSize)}
	}
	t, err := v.parser.ParseWithClaims(token, c, v.key(ctx))
	label := "claims"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrKeys):
		return ErrKeys
	case errors.Is(err, jwt.ErrTokenMalformed):
		label = "malformed"
	case t == nil || t.Method == nil || errors.Is(err, errAlgorithm):
		label = "algorithm"
	case errors.Is(err, errUnknownKey):
		label = "unknown_key"
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		label = "signature"
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		label = "audience"
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		label = "issuer"
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		label = "not_yet"
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing): // audience or issuer
	case errors.Is(err, jwt.ErrTokenExpired): // last: a token that is wrong besides is wrong
		return ErrExpired
	}
	return &InvalidError{label, err.Error()}
}
