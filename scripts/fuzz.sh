#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_TIME (a duration, or a count of executions such as 50000x; targets that start clients
# against a whole gateway get a hundredth of a count).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go

targets=$(grep -roE --include='*_test.go' --exclude-dir=node_modules --exclude-dir=benchmarks '^func Fuzz[A-Za-z0-9_]+' . |
	sed -E 's|/[^/]+_test\.go:func | |' | sort)
[[ -n $targets ]] || fail "no fuzz target found"
while read -r directory target; do
	time=${FUZZ_TIME:-30s}
	[[ $directory == ./internal/e2e && $time == *x ]] && time=$((${time%x} / 100))x
	echo "--- $target in $directory, $time"
	go test "$directory" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x
done <<<"$targets"
