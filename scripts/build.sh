#!/usr/bin/env bash
# Builds the two static binaries into bin/.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go
version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$version" -o bin/ ./cmd/roost ./cmd/roost-load
