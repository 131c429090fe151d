#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of a guest, see guest.sh: makes a system of the bare kernel, runs what the guest is for, powers off.
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ip link set lo up
# shellcheck source=/dev/null
. /main
sync
poweroff -f
