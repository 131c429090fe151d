# shellcheck shell=dash
# What the guest of ktls-guest.sh does: loads the kernel's TLS and runs the tests.
while read -r module; do insmod "/modules/$module.ko" || echo "ktls: cannot load $module"; done </modules/order
# shellcheck disable=SC3045 # busybox has it
ulimit -n 16384
read -r tests </tests
export ROOST_TEST_BINARY=/bin/roost
for program in ktls conn gateway roost; do
	skip=none
	[ $program != roost ] || skip=^TestTLS # these run anywhere
	"$program.test" -test.v -test.timeout 4m -test.run "$tests" -test.skip "$skip"
	echo "$program: tests ended with code $?"
done
