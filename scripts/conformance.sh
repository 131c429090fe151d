#!/usr/bin/env bash
# Both conformance suites against the gateway, with as many messages as the Autobahn suite sends (minutes).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go
exec go test ./cmd/roost -run '^Test(Autobahn|Hostile)$' -count=1 -v -timeout 30m -messages "${MESSAGES:-1000}"
