# shellcheck shell=dash
# What the guest of ktls-guest.sh does: loads the kernel's TLS and runs the tests.
while read -r module; do insmod "/modules/$module.ko" || echo "ktls: cannot load $module"; done </modules/order
# shellcheck disable=SC3045 # busybox has it
ulimit -n 16384
read -r tests </tests
for program in ktls conn gateway; do
	"$program.test" -test.v -test.timeout 4m -test.run "$tests"
	echo "$program: tests ended with code $?"
done
