#!/usr/bin/env bash
# Shows a million idle WebSocket connections on one gateway process, with pings on, then an echo sample and one
# broadcast to all of them, and writes benchmarks/results/<date>-million.{md,json,svg}.
#
# It runs natively where the descriptor limit and the memory allow, otherwise in a QEMU guest: Debian's cloud kernel,
# a busybox initramfs and the static binaries. The guest has no disk and no network; what it measures leaves through
# its second serial port, line by line, so that a guest that dies has still told what it saw.
set -euo pipefail

usage() {
	cat <<'USAGE'
usage: benchmarks/million/run.sh [options]
  --connections N      idle connections to open                        (1000000)
  --native | --guest   where to run                                    (native if the limits allow)
  --ping-interval D    the gateway's ping interval                     (25s native, 10m emulated)
  --idle D             how long to look at the idle gateway            (2 ping intervals native, 1.1 emulated)
  --timeout SECONDS    ends everything after that long                 (7200)
  --memory MIB         memory of the guest                             (1536 + 19 per thousand connections, less
                                                                       where less is available, 13 at least)
  --name NAME          results/<date>-NAME.*                           (million; count-connections if not a million)
  --binaries DIR       take roost and roost-load from DIR, do not build
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/benchmarks/.work/million
connections=1000000 timeout=7200
place='' ping='' idle='' memory='' name='' binaries='' runner=''

while (($#)); do
	case $1 in
	--native | --guest) place=${1#--} && shift && continue ;;
	-h | --help) usage && exit 0 ;;
	--connections | --ping-interval | --idle | --timeout | --memory | --name | --binaries)
		(($# >= 2)) || { echo "million: $1 needs a value" >&2 && exit 2; } ;;
	*) echo "million: unknown option $1" >&2 && usage >&2 && exit 2 ;;
	esac
	case $1 in
	--connections) connections=$2 ;;
	--ping-interval) ping=$2 ;;
	--idle) idle=$2 ;;
	--timeout) timeout=$2 ;;
	--memory) memory=$2 ;;
	--name) name=$2 ;;
	--binaries) binaries=$(cd "$2" && pwd) ;;
	esac
	shift 2
done
[[ $connections =~ ^[1-9][0-9]*$ ]] || { echo "million: --connections must be a positive number" >&2 && exit 2; }
((connections == 1000000)) || name=${name:-$connections-connections}
name=${name:-million}

# Idle, a connection takes some 10 KB of the machine, both ends; when all are told to close at once, their close
# frames and FINs wait in the sockets and it is 17 KB for a moment.
available=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
least=$((1536 + connections * 13 / 1000)) most=$((1536 + connections * 19 / 1000))
memory=${memory:-$((most < available - 1024 ? most : available - 1024))}

fail() { echo "million: $*" >&2 && exit 1; }
source "$root/scripts/guest.sh"

# native_obstacle prints why this machine cannot hold the connections itself, or nothing.
native_obstacle() {
	local limit
	limit=$(ulimit -Hn)
	[[ $limit == unlimited ]] && limit=$(</proc/sys/fs/nr_open)
	if ((limit < connections + 1000)); then
		echo "ulimit -Hn is $limit"
	elif (($(</proc/sys/fs/file-max) < 2 * connections + 10000)); then
		echo "fs.file-max is $(</proc/sys/fs/file-max)"
	elif ((available < least)); then
		echo "$available MiB are available, $least MiB needed"
	fi
}

build() {
	mkdir -p "$work" "$root/benchmarks/results"
	export CGO_ENABLED=0
	if [[ -z $binaries ]]; then
		binaries=$root/bin
		(cd "$root" && go build -o bin/roost ./cmd/roost && go build -o bin/roost-load ./cmd/roost-load)
	fi
	(cd "$root/benchmarks" && go build -o "$work/guest" ./million/guest)
}

# make_initramfs packs the binaries and the arguments.
make_initramfs() {
	local tree=$work/initramfs
	rm -rf "$tree" && mkdir -p "$tree/bin"
	cp "$work/guest" "$binaries/roost" "$binaries/roost-load" "$tree/bin/"
	printf '%s\n' "$@" >"$tree/arguments"
	pack_guest "$work" "$here/init.sh"
}

# stop ends what this script started, by its pid: QEMU, or natively the guest program, which ends its own children.
stop() {
	[[ -n $runner ]] && kill "$runner" 2>/dev/null && wait "$runner" 2>/dev/null
	runner=
	return 0
}

# await waits for the runner; it says so and ends it when the time is over.
await() {
	local deadline=$((SECONDS + timeout)) status=0
	while kill -0 "$runner" 2>/dev/null; do
		if ((SECONDS >= deadline)); then
			echo "million: ended after $timeout s (--timeout)" >&2
			stop
			return 1
		fi
		sleep 1
	done
	wait "$runner" || status=$?
	runner=
	return "$status"
}

in_guest() {
	local processors
	((memory >= least)) || fail "$connections connections need a guest of $least MiB; $available MiB are available here"
	processors=$(($(nproc) < 4 ? $(nproc) : 4))
	fetch_guest "$work"
	make_initramfs "${arguments[@]}" --environment \
		"QEMU guest, -accel $(guest_accelerator), $processors virtual CPUs, $memory MiB, mitigations off"
	run_guest "$work" "$processors" "$memory" -serial "file:$work/console.log" -serial "file:$work/records" &
	runner=$!
	tail -n +1 -F --pid="$runner" "$work/console.log" 2>/dev/null &
}

natively() {
	PATH=$binaries:$PATH "$work/guest" measure --out "$work/records" "${arguments[@]}" \
		--environment "native" </dev/null &
	runner=$!
}

if [[ -z $place ]]; then
	mkdir -p "$work"
	obstacle=$(native_obstacle)
	place=native
	[[ -n $obstacle ]] && place=guest && echo "million: in a QEMU guest, because here $obstacle"
fi
# An emulated processor is some fifteen times slower: a million pings in 25 s would be all it does.
emulated=
[[ $place == guest && ! -w /dev/kvm ]] && emulated=1
ping=${ping:-${emulated:+10m}} && ping=${ping:-25s}
idle=${idle:-${emulated:+11m}} && idle=${idle:-50s}
interval=${emulated:+5s}
arguments=(--connections "$connections" --ping-interval "$ping" --idle "$idle" --interval "${interval:-1s}")

build
rm -f "$work/records" "$work/console.log"
trap stop EXIT
trap 'stop; exit 130' INT TERM
if [[ $place == guest ]]; then in_guest; else natively; fi
status=0
await || status=$?
[[ -s $work/records ]] || fail "nothing was measured (the guest's console: $work/console.log)"
"$work/guest" report --records "$work/records" --to "$root/benchmarks/results/$(date +%F)-$name" \
	--command "benchmarks/million/run.sh --$place --connections $connections --ping-interval $ping --idle $idle" ||
	status=1
exit "$status"
