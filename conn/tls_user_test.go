//go:build linux && !portable && !ktlsguest

package conn

import "crypto/tls"

const (
	kernelTLS      = false
	carriedBy      = outcomeFallback
	clearTextAlert = tls.AlertError(70) // protocol_version
)
