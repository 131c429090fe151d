#!/usr/bin/env bash
# Takes a CPU and a heap profile of a gateway under echo load and prints their tops.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go
start_gateway

seconds=${SECONDS_PROFILED:-10}
bin/roost-load echo --plain --url "ws://$gateway_address/echo" --connections "${CONNECTIONS:-1000}" \
	--duration "$((seconds + 5))s" --pid "$gateway_pid" --json out/profile-load.json &
load_pid=$!
sleep 2 # the connections open first; the profile is of the echo
go tool pprof -proto -output out/cpu.pprof "http://$gateway_internal/debug/pprof/profile?seconds=$seconds"
go tool pprof -proto -output out/heap.pprof "http://$gateway_internal/debug/pprof/heap"
wait "$load_pid"

echo
go tool pprof -top -nodecount 30 bin/roost out/cpu.pprof
echo
go tool pprof -top -nodecount 20 -sample_index inuse_space bin/roost out/heap.pprof
echo
echo "Look closer with: go tool pprof -http 127.0.0.1:0 bin/roost out/cpu.pprof"
