package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Connect is what a connection token says.
type Connect struct {
	User     string
	ExpireAt int64  // Unix seconds when the connection expires, 0 never
	IssuedAt int64  // Unix seconds, 0 unknown
	ID       string // the token's own
	Info     []byte // JSON shown to others, or bytes
	Meta     []byte // JSON for backends only
	Channels []string
	Subs     map[string]SubOptions
}

// SubOptions are those of a subscription that a token brings.
type SubOptions struct {
	Info, Data []byte
	Override   Override
}

// Override replaces options of the namespace; nil keeps them.
type Override struct {
	Presence, JoinLeave, ForcePushJoinLeave, ForceRecovery, ForcePositioning *bool
}

// Subscribe is what a subscription token says.
type Subscribe struct {
	User, Channel string
	ExpireAt      int64 // Unix seconds when the subscription expires, 0 never
	IssuedAt      int64
	ID            string
	Info          []byte
	Override      Override
}

type connectClaims struct {
	jwt.RegisteredClaims
	ExpireAt *int64               `json:"expire_at,omitempty"`
	Info     json.RawMessage      `json:"info,omitempty"`
	B64Info  string               `json:"b64info,omitempty"`
	Meta     json.RawMessage      `json:"meta,omitempty"`
	Channels []string             `json:"channels,omitempty"`
	Subs     map[string]subClaims `json:"subs,omitempty"`
}

type subClaims struct {
	Info     json.RawMessage    `json:"info,omitempty"`
	B64Info  string             `json:"b64info,omitempty"`
	Data     json.RawMessage    `json:"data,omitempty"`
	B64Data  string             `json:"b64data,omitempty"`
	Override *SubscribeOverride `json:"override,omitempty"`
}

// SubscribeOverride is an Override as tokens and the server API have it.
type SubscribeOverride struct {
	Presence           *BoolValue `json:"presence,omitempty"`
	JoinLeave          *BoolValue `json:"join_leave,omitempty"`
	ForcePushJoinLeave *BoolValue `json:"force_push_join_leave,omitempty"`
	ForceRecovery      *BoolValue `json:"force_recovery,omitempty"`
	ForcePositioning   *BoolValue `json:"force_positioning,omitempty"`
}

// BoolValue is a flag that may also not be there.
type BoolValue struct {
	Value bool `json:"value"`
}

type subscribeClaims struct {
	jwt.RegisteredClaims
	Channel  string             `json:"channel"`
	ExpireAt *int64             `json:"expire_at,omitempty"`
	Info     json.RawMessage    `json:"info,omitempty"`
	B64Info  string             `json:"b64info,omitempty"`
	Override *SubscribeOverride `json:"override,omitempty"`
}

// Connect verifies a connection token. Errors are ErrExpired, ErrKeys and *InvalidError.
// It may wait for a JWKS, five seconds for each fetch.
func (v *Verifier) Connect(ctx context.Context, token string) (Connect, error) {
	var c connectClaims
	if err := v.parse(ctx, token, &c); err != nil {
		return Connect{}, err
	}
	out := Connect{User: c.Subject, ID: c.ID, IssuedAt: unix(c.IssuedAt), ExpireAt: expiry(c.ExpireAt, c.ExpiresAt),
		Meta: null(c.Meta), Channels: c.Channels}
	var err error
	if out.Info, err = either("info", c.Info, c.B64Info); err != nil {
		return Connect{}, err
	}
	if out.ExpireAt < 0 || out.ExpireAt > maxTime {
		return Connect{}, &InvalidError{"claims", "expire_at is no time"}
	}
	if len(c.Subs) > 0 {
		out.Subs = make(map[string]SubOptions, len(c.Subs))
	}
	for ch, s := range c.Subs {
		o := SubOptions{Override: s.Override.Override()}
		if o.Info, err = either("info", s.Info, s.B64Info); err != nil {
			return Connect{}, err
		}
		if o.Data, err = either("data", s.Data, s.B64Data); err != nil {
			return Connect{}, err
		}
		out.Subs[ch] = o
	}
	return out, nil
}

// Subscribe verifies a subscription token as Connect does. That user and channel are the right ones is
// the caller's to check.
func (v *Verifier) Subscribe(ctx context.Context, token string) (Subscribe, error) {
	var c subscribeClaims
	if err := v.parse(ctx, token, &c); err != nil {
		return Subscribe{}, err
	}
	if c.Channel == "" {
		return Subscribe{}, &InvalidError{"claims", "channel is missing"}
	}
	out := Subscribe{User: c.Subject, Channel: c.Channel, ID: c.ID, IssuedAt: unix(c.IssuedAt),
		ExpireAt: expiry(c.ExpireAt, c.ExpiresAt), Override: c.Override.Override()}
	if out.ExpireAt < 0 || out.ExpireAt > maxTime {
		return Subscribe{}, &InvalidError{"claims", "expire_at is no time"}
	}
	var err error
	out.Info, err = either("info", c.Info, c.B64Info)
	return out, err
}

const maxTime = 1<<32 - 1 // Unix seconds

func unix(t *jwt.NumericDate) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

// expiry is when what the token is for expires: expire_at, 0 there for never, or else
// with the token.
func expiry(at *int64, exp *jwt.NumericDate) int64 {
	if at != nil {
		return *at
	}
	return unix(exp)
}

func null(b json.RawMessage) []byte {
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	return b
}

func either(name string, raw json.RawMessage, b64 string) ([]byte, error) {
	if b64 == "" {
		return null(raw), nil
	}
	b, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return nil, &InvalidError{"claims", "b64" + name + " is not base64"}
	}
	return b, nil
}

// Override returns what o says; nil says nothing.
func (o *SubscribeOverride) Override() (p Override) {
	if o == nil {
		return p
	}
	v := func(b *BoolValue) *bool {
		if b == nil {
			return nil
		}
		return &b.Value
	}
	return Override{Presence: v(o.Presence), JoinLeave: v(o.JoinLeave), ForcePushJoinLeave: v(o.ForcePushJoinLeave),
		ForceRecovery: v(o.ForceRecovery), ForcePositioning: v(o.ForcePositioning)}
}

func (o Override) claims() *SubscribeOverride {
	if o == (Override{}) {
		return nil
	}
	v := func(b *bool) *BoolValue {
		if b == nil {
			return nil
		}
		return &BoolValue{*b}
	}
	return &SubscribeOverride{Presence: v(o.Presence), JoinLeave: v(o.JoinLeave), ForcePushJoinLeave: v(o.ForcePushJoinLeave),
		ForceRecovery: v(o.ForceRecovery), ForcePositioning: v(o.ForcePositioning)}
}

// SignConnect makes a connection token with a shared secret (HS256); ttl 0 is for ever.
func SignConnect(secret string, c Connect, ttl time.Duration) (string, error) {
	return Options{HMACSecret: secret}.SignConnect(c, ttl)
}

// SignSubscribe makes a subscription token with a shared secret.
func SignSubscribe(secret string, s Subscribe, ttl time.Duration) (string, error) {
	return Options{HMACSecret: secret}.SignSubscribe(s, ttl)
}

// SignConnect makes a connection token that o's verifier accepts; ttl 0 is for ever.
// IssuedAt is now.
func (o Options) SignConnect(c Connect, ttl time.Duration) (string, error) {
	claims := connectClaims{RegisteredClaims: o.registered(c.User, c.ID, ttl), ExpireAt: at(c.ExpireAt), Meta: c.Meta, Channels: c.Channels}
	claims.Info, claims.B64Info = split(c.Info)
	if len(c.Subs) > 0 {
		claims.Subs = make(map[string]subClaims, len(c.Subs))
	}
	for ch, s := range c.Subs {
		sub := subClaims{Override: s.Override.claims()}
		sub.Info, sub.B64Info = split(s.Info)
		sub.Data, sub.B64Data = split(s.Data)
		claims.Subs[ch] = sub
	}
	return o.sign(claims)
}

// SignSubscribe makes a subscription token that o's verifier accepts.
func (o Options) SignSubscribe(s Subscribe, ttl time.Duration) (string, error) {
	claims := subscribeClaims{RegisteredClaims: o.registered(s.User, s.ID, ttl), Channel: s.Channel, ExpireAt: at(s.ExpireAt),
		Override: s.Override.claims()}
	claims.Info, claims.B64Info = split(s.Info)
	return o.sign(claims)
}

func (o Options) sign(c jwt.Claims) (string, error) {
	if o.HMACSecret == "" {
		return "", errors.New("auth: sign: no HMAC secret")
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(o.HMACSecret))
}

func at(t int64) *int64 {
	if t == 0 {
		return nil
	}
	return &t
}

// split is the reverse of either.
func split(b []byte) (raw json.RawMessage, b64 string) {
	if len(b) == 0 || json.Valid(b) {
		return b, ""
	}
	return nil, base64.StdEncoding.EncodeToString(b)
}

func (o Options) registered(user, id string, ttl time.Duration) jwt.RegisteredClaims {
	now := time.Now()
	c := jwt.RegisteredClaims{Subject: user, ID: id, Issuer: o.Issuer, IssuedAt: jwt.NewNumericDate(now)}
	if o.Audience != "" {
		c.Audience = jwt.ClaimStrings{o.Audience}
	}
	if ttl > 0 {
		c.ExpiresAt = jwt.NewNumericDate(now.Add(ttl))
	}
	return c
}
