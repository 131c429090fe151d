#!/usr/bin/env bash
# Loads a fresh gateway with echoes and a fan-out and writes both into one report, out/loadtest.html.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
start_gateway
for step in echo:echo fanout:broadcast; do
	echo "- scenario: ${step%:*}"
	echo "  url: ws://$gateway_address/${step#*:}"
	echo "  pid: $gateway_pid"
	echo "  connections: ${CONNECTIONS:-1000}"
	echo "  duration: ${DURATION:-10s}"
done >out/loadtest.yaml
bin/roost-load run out/loadtest.yaml --json out/loadtest.json --html out/loadtest.html
echo "report: out/loadtest.html"
