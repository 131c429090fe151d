#!/usr/bin/env bash
# Loads a fresh gateway for long, with connections that come and go, after many random operations on sync over restarts,
# kills and moves of ownership (SYNC_OPERATIONS).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
operations=${SYNC_OPERATIONS:-400000}
ROOST_SYNC_OPERATIONS=$operations go test ./service/sync -run '^TestModel$' -count=1 -v -timeout 60m
ROOST_E2E_SYNC_OPERATIONS=$((operations / 10)) go test ./internal/e2e -run '^TestSync(Killed|Owners|Takeover)' -count=1 -v -timeout 60m
start_gateway
bin/roost-load soak --url "ws://$gateway_address/echo" --pid "$gateway_pid" --connections "${CONNECTIONS:-5000}" \
	--rate "${RATE:-5000}" --duration "${DURATION:-10m}" --json out/soak.json --html out/soak.html
echo "report: out/soak.html"
