#!/usr/bin/env bash
# Runs the tests of poller/ktls that need a kernel with TLS, in a QEMU guest: Debian's cloud kernel, its modules, a
# busybox initramfs and the static test binary. No disk, no network. TESTS= chooses by name, TIMEOUT= is in seconds.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_go

# In the order of their dependencies.
readonly MODULES="cryptd crypto_simd gf128mul ghash-generic ctr gcm aesni-intel libchacha chacha-x86_64 poly1305-x86_64 chacha20poly1305 tls"
tests=${TESTS:-^TestGuest}
timeout=${TIMEOUT:-180}
work=out/ktls-guest
mkdir -p "$work"

# fetch_guest leaves vmlinuz, busybox and the modules in the work folder.
fetch_guest() {
	need_command qemu-system-x86_64 qemu-system-x86 || fail "qemu-system-x86_64 is missing"
	[[ -s $work/vmlinuz && -s $work/busybox && -s $work/modules/tls.ko ]] && return
	local kernel module packages=$work/packages
	kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
	[[ -n $kernel ]] || fail "apt-cache names no linux-image-cloud-amd64: run apt-get update as root"
	rm -rf "$packages" && mkdir -p "$packages" "$work/modules"
	(cd "$packages" && apt-get download -q "$kernel" busybox-static && for deb in *.deb; do dpkg -x "$deb" .; done)
	for module in $MODULES; do
		find "$packages/lib/modules" -name "$module.ko" -exec cp {} "$work/modules/" \;
		[[ -s $work/modules/$module.ko ]] || fail "$kernel has no $module.ko"
	done
	cp "$packages/bin/busybox" "$work/busybox"
	cp "$packages"/boot/vmlinuz-* "$work/vmlinuz"
	rm -rf "$packages"
}

make_initramfs() {
	local tree=$work/initramfs
	rm -rf "$tree" && mkdir -p "$tree/bin" "$tree/modules"
	CGO_ENABLED=0 go test -c -tags ktlsguest -o "$tree/ktls.test" ./poller/ktls
	cp "$work/busybox" "$tree/bin/"
	cp "$work"/modules/*.ko "$tree/modules/"
	tr ' ' '\n' <<<"$MODULES" >"$tree/modules/order"
	echo "$tests" >"$tree/tests"
	cp scripts/ktls-init.sh "$tree/init" && chmod 755 "$tree/init"
	(cd "$tree" && find . -print | "../busybox" cpio -o -H newc) >"$work/initramfs.cpio" 2>/dev/null
	rm -rf "$tree"
}

fetch_guest
make_initramfs
accelerator=tcg,thread=multi
[[ -w /dev/kvm ]] && accelerator=kvm
timeout "$timeout" qemu-system-x86_64 -accel "$accelerator" -cpu max -smp 2 -m 1024 -nodefaults -no-reboot -display none \
	-kernel "$work/vmlinuz" -initrd "$work/initramfs.cpio" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable random.trust_cpu=on" \
	-serial stdio </dev/null | tee "$work/console.log" || fail "the guest did not end within $timeout s (TIMEOUT=)"
grep -q '^--- PASS' "$work/console.log" || fail "no test ran"
grep -q 'tests ended with code 0' "$work/console.log" || fail "tests failed in the guest"
