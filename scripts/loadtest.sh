#!/usr/bin/env bash
# Loads a fresh gateway with echoes and a fan-out and writes the report out/loadtest.html.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
start_gateway
common=(--pid "$gateway_pid" --duration "${DURATION:-10s}" --connections "${CONNECTIONS:-1000}")
bin/roost-load echo --url "ws://$gateway_address/echo" "${common[@]}" --json out/loadtest-echo.json --html out/loadtest-echo.html
bin/roost-load fanout --url "ws://$gateway_address/broadcast" "${common[@]}" --json out/loadtest-fanout.json --html out/loadtest.html
