#!/usr/bin/env bash
# Runs the tests of poller/ktls, conn, gateway and cmd/roost that need a kernel with TLS, in a QEMU guest: Debian's cloud
# kernel with its modules and the static test binaries. TESTS= chooses by name, TIMEOUT= is in seconds.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source scripts/guest.sh
need_go

# In the order of their dependencies.
readonly MODULES=(cryptd crypto_simd gf128mul ghash-generic ctr gcm aesni-intel libchacha chacha-x86_64 poly1305-x86_64 chacha20poly1305 tls)
tests=${TESTS:-^Test(Guest|TLS)}
timeout=${TIMEOUT:-300}
work=out/ktls-guest
tree=$work/initramfs

fetch_guest "$work" "${MODULES[@]}"
rm -rf "$tree" && mkdir -p "$tree/bin" "$tree/modules"
CGO_ENABLED=0 go test -c -tags ktlsguest -o "$tree/bin/ktls.test" ./poller/ktls
CGO_ENABLED=0 go test -c -tags ktlsguest -o "$tree/bin/conn.test" ./conn
CGO_ENABLED=0 go test -c -tags ktlsguest -ldflags=-w -o "$tree/bin/gateway.test" ./gateway
CGO_ENABLED=0 go test -c -tags ktlsguest -ldflags=-w -o "$tree/bin/roost.test" ./cmd/roost
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags=-w -o "$tree/bin/roost" ./cmd/roost
cp "$work"/modules/*.ko "$tree/modules/"
printf '%s\n' "${MODULES[@]}" >"$tree/modules/order"
echo "$tests" >"$tree/tests"
pack_guest "$work" scripts/ktls-init.sh

export -f run_guest guest_accelerator
timeout "$timeout" bash -c 'run_guest "$@"' - "$work" 2 2048 -serial stdio | tee "$work/console.log" ||
	fail "the guest did not end within $timeout s (TIMEOUT=)"
grep -q '^--- PASS' "$work/console.log" || fail "no test ran"
(($(grep -c 'tests ended with code 0' "$work/console.log") == 4)) || fail "tests failed in the guest"
