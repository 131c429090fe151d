// Package auth turns tokens into claims.
package auth

import (
	"log/slog"
	"time"
)

// Options of a Verifier.
type Options struct {
	HMACSecret                                     string
	RSAPublicKey, ECDSAPublicKey, Ed25519PublicKey string // PEM
	JWKSURL                                        string
	JWKSTTL                                        time.Duration
	Audience, Issuer                               string
	Leeway                                         time.Duration
	Logger                                         *slog.Logger
}

// Verifier verifies tokens.
type Verifier struct{}
