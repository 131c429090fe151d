#!/usr/bin/env bash
# Everything that shows roost is right, on a fresh machine. All steps run, also after a failure; the table at the end
# says how long each took. A step that cannot run here is named, and with CI=true it is a failure.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go

summary=()
failed=0

# step NAME COMMAND... runs one step and notes its outcome and duration.
step() {
	local name=$1 began=$SECONDS outcome=ok
	shift
	printf '\n==> %s: %s\n' "$name" "$*"
	"$@" || {
		outcome=FAILED
		failed=1
	}
	printf '<== %s: %s, %d s\n' "$name" "$outcome" $((SECONDS - began))
	summary+=("$(printf '%-22s %-7s %5d s' "$name" "$outcome" $((SECONDS - began)))")
}

# skip NAME REASON notes a step that cannot run here.
skip() {
	printf '\n==> %s: skipped, %s\n' "$1" "$2"
	summary+=("$(printf '%-22s %-7s %s' "$1" skipped "$2")")
	[[ ${CI:-} != true ]] || failed=1
}

cross_builds() {
	local system
	for system in darwin windows; do
		echo "GOOS=$system go build ./..."
		GOOS=$system CGO_ENABLED=0 go build ./... || return 1
	done
}

race_tests() {
	local packages
	packages=$(go list ./... | grep -v '/internal/e2e$') || return 1
	# shellcheck disable=SC2086
	go test -race -timeout 10m $packages
}

browser_tests() {
	npm --prefix web/test ci --no-audit --no-fund && npm --prefix web/test test
}

# What the examples and files of the documentation are for. Without one of them its tests say that they did not run, and
# fail in CI.
documentation_tools() {
	local each
	for each in python3:python3-minimal php:php-cli promtool:prometheus; do
		need_command "${each%:*}" "${each#*:}" || echo "${each%:*} is missing: its part of the documentation is not tested"
	done
}

step build scripts/build.sh
step tools documentation_tools
step lint scripts/lint.sh
# Four at a time on two cores: many of these tests wait for time to pass.
step unit go test -parallel 4 -timeout 15m ./...
step portable go test -tags portable -timeout 5m ./poller
if need_command gcc gcc libc6-dev; then
	# Not internal/e2e: what runs there is programs, of which those that need it are built with the race detector.
	step race race_tests
	step benchmarks go -C benchmarks test -timeout 5m ./...
else
	skip race "the race detector needs gcc"
	skip benchmarks "the C floor needs gcc"
fi
# Counted, not timed: with a deadline the fuzzer now and then fails a target for being stopped.
step fuzz env FUZZ_TIME=15000x scripts/fuzz.sh
step cross-build cross_builds
if ! command -v npm >/dev/null; then
	skip browser "node and npm are missing"
elif need_command chromium chromium && need_command openssl openssl; then
	step browser browser_tests
else
	skip browser "chromium or openssl is missing"
fi
if [[ $(uname -m) == x86_64 ]] && { command -v qemu-system-x86_64 >/dev/null || can_install; }; then
	step ktls env TIMEOUT=600 scripts/ktls-guest.sh
else
	skip ktls "the guest whose kernel carries TLS needs x86-64 and qemu-system-x86_64"
fi

printf '\nSummary\n'
printf '%s\n' "${summary[@]}" "total $SECONDS s"
exit $failed
