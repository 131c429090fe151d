#!/usr/bin/env bash
# Runs the gateway for development on fixed ports, in the foreground.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# announce passes the gateway's standard output on and says what to do once it accepts.
announce() {
	local line
	while IFS= read -r line; do
		printf '%s\n' "$line"
		[[ $line != ready\ * ]] ||
			printf '\n  Open %s in two windows. Ctrl-C stops the gateway.\n\n' "${line##*page=}"
	done
}

exec bin/roost serve --dev --address "${ADDRESS:-127.0.0.1:8000}" \
	--internal-address "${INTERNAL_ADDRESS:-127.0.0.1:8001}" > >(trap '' INT; announce)
