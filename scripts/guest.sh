# shellcheck shell=bash
# Sourced by scripts that run something in a QEMU guest: Debian's cloud kernel, a busybox initramfs, no disk, no network.
# Who sources it has a function fail. The guest's first process is guest-init.sh, which runs what the script gives it.

guest_scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

guest_accelerator() { if [[ -w /dev/kvm ]]; then echo kvm; else echo tcg,thread=multi; fi; }

cloud_kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-/ {print $2; exit}'; }

# fetch_guest WORK MODULE... leaves QEMU installed, and vmlinuz, busybox and the kernel's modules in the work folder.
fetch_guest() {
	local work=$1 kernel module missing='' packages=$1/packages
	shift
	if ! command -v qemu-system-x86_64 >/dev/null; then
		((EUID == 0)) || fail "qemu-system-x86_64 is missing: apt-get install --no-install-recommends qemu-system-x86"
		apt-get update -q
		apt-get install -q -y --no-install-recommends qemu-system-x86
	fi
	for module in "$@"; do [[ -s $work/modules/$module.ko ]] || missing=$module; done
	[[ -s $work/vmlinuz && -s $work/busybox && -z $missing ]] && return
	kernel=$(cloud_kernel)
	if [[ -z $kernel ]] && ((EUID == 0)); then # a fresh machine knows no packages
		apt-get update -q
		kernel=$(cloud_kernel)
	fi
	[[ -n $kernel ]] || fail "apt-cache names no linux-image-cloud-amd64: run apt-get update as root"
	rm -rf "$packages" && mkdir -p "$packages" "$work/modules"
	(cd "$packages" && apt-get download -q "$kernel" busybox-static && for deb in *.deb; do dpkg -x "$deb" .; done)
	for module in "$@"; do
		find "$packages/lib/modules" -name "$module.ko" -exec cp {} "$work/modules/" \;
		[[ -s $work/modules/$module.ko ]] || fail "$kernel has no $module.ko"
	done
	cp "$packages"/boot/vmlinuz-* "$work/vmlinuz"
	cp "$packages/bin/busybox" "$work/busybox"
	rm -rf "$packages"
}

# pack_guest WORK SCRIPT makes WORK/initramfs.cpio of the folder WORK/initramfs, in whose bin the programs are; the guest
# runs the script. Not compressed: an emulated processor takes longer to unpack it than QEMU to load it.
pack_guest() {
	local work tree
	work=$(cd "$1" && pwd)
	tree=$work/initramfs
	mkdir -p "$tree/bin"
	cp "$work/busybox" "$tree/bin/"
	cp "$guest_scripts/guest-init.sh" "$tree/init" && chmod 755 "$tree/init"
	cp "$2" "$tree/main"
	(cd "$tree" && find . -print | "$work/busybox" cpio -o -H newc) >"$work/initramfs.cpio" 2>/dev/null
	rm -rf "$tree"
}

# run_guest WORK PROCESSORS MEMORY FLAG... becomes QEMU. mitigations=off: page-table isolation flushes the emulated TLB at
# every system call. tsc=reliable: the other clocks are emulated devices behind a global lock.
run_guest() {
	local work=$1 processors=$2 memory=$3
	shift 3
	exec qemu-system-x86_64 -accel "$(guest_accelerator)" -cpu max -smp "$processors" -m "$memory" -nodefaults -no-reboot \
		-display none -kernel "$work/vmlinuz" -initrd "$work/initramfs.cpio" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable random.trust_cpu=on" "$@" </dev/null
}
