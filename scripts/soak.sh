#!/usr/bin/env bash
# Loads a fresh gateway for long, with connections that come and go.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
start_gateway
bin/roost-load soak --url "ws://$gateway_address/echo" --pid "$gateway_pid" --connections "${CONNECTIONS:-5000}" \
	--rate "${RATE:-5000}" --duration "${DURATION:-10m}" --json out/soak.json --html out/soak.html
echo "report: out/soak.html"
