# shellcheck shell=bash
# Sourced by the scripts beside it: strict mode, the project's root as working directory, shared helpers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly GO_NEEDED=1.26
readonly STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.7.0

# The version is set by build.sh; Go's own stamp fails where the checkout belongs to another user.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# need_go ends the script unless a Go that can build this module is on the PATH.
need_go() {
	command -v go >/dev/null || fail "Go $GO_NEEDED or newer is needed and no 'go' is on the PATH: https://go.dev/dl/"
	local have
	have=$(go env GOVERSION 2>&1) || fail "Go $GO_NEEDED or newer is needed; go env says: $have"
	have=${have#go}
	[[ $(printf '%s\n' "$GO_NEEDED" "${have%%[-a-z ]*}" | sort -V | head -n 1) == "$GO_NEEDED" ]] ||
		fail "Go $GO_NEEDED or newer is needed, this is $have: https://go.dev/dl/"
}

# can_install says whether Debian packages can be installed here without asking anyone.
can_install() {
	[[ $(id -u) == 0 ]] && command -v apt-get >/dev/null
}

# need_command COMMAND PACKAGE... installs the Debian packages when COMMAND is missing; fails when it cannot.
need_command() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	can_install || return 1
	apt-get update -qq &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
	command -v "$command" >/dev/null
}

# start_gateway FLAG... starts bin/roost on free ports and waits until it accepts. Sets gateway_pid, gateway_address and
# gateway_internal; the gateway is stopped when the script ends. Its log goes to out/gateway.log.
start_gateway() {
	local line field
	mkdir -p out
	coproc GATEWAY { exec bin/roost serve --dev --address 127.0.0.1:0 --internal-address 127.0.0.1:0 "$@" 2>out/gateway.log; }
	gateway_pid=$GATEWAY_PID
	trap stop_gateway EXIT
	IFS= read -r -t 20 line <&"${GATEWAY[0]}" || line=
	[[ $line == ready\ * ]] || {
		tail -n 20 out/gateway.log >&2
		fail "the gateway did not become ready (it has 20 s)"
	}
	for field in $line; do
		case $field in
		address=*) gateway_address=${field#address=} ;;
		internal=*) gateway_internal=${field#internal=} ;;
		esac
	done
	echo "gateway: pid $gateway_pid, clients $gateway_address, internal $gateway_internal, log out/gateway.log"
}

stop_gateway() {
	kill -TERM "$gateway_pid" 2>/dev/null || return 0
	wait "$gateway_pid" 2>/dev/null || true
}
