#!/usr/bin/env bash
# Measures roost and its peers side by side and writes benchmarks/results.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go
need_command gcc gcc libc6-dev || fail "the C floor needs gcc"
cd benchmarks # with no arguments: all peers, all scenarios
exec go run ./cmd/compare "$@"
