#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the guest of ktls-guest.sh: loads the kernel's TLS, runs the tests, powers off.
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ip link set lo up
while read -r module; do insmod "/modules/$module.ko" || echo "ktls: cannot load $module"; done </modules/order
# shellcheck disable=SC3045 # busybox has it
ulimit -n 16384
read -r tests </tests
/ktls.test -test.v -test.run "$tests"
echo "ktls: tests ended with code $?"
poweroff -f
