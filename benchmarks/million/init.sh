# shellcheck shell=dash
# What the guest of run.sh does: raises every limit that stands between one machine and two million descriptors, and
# runs the measurement.
set_sysctl() { sysctl -q -w "$1" || echo "million: cannot set $1"; }
set_sysctl fs.nr_open=3000000
set_sysctl fs.file-max=6000000
set_sysctl net.ipv4.ip_local_port_range="1024 65535"
set_sysctl net.core.somaxconn=65535
set_sysctl net.ipv4.tcp_max_syn_backlog=65535
set_sysctl net.core.netdev_max_backlog=100000
set_sysctl net.ipv4.tcp_max_orphans=3000000
set_sysctl net.ipv4.tcp_max_tw_buckets=3000000
set_sysctl net.ipv4.tcp_mem="1000000 2000000 3000000"
set_sysctl net.ipv4.tcp_rmem="4096 4096 262144"
set_sysctl net.ipv4.tcp_wmem="4096 4096 262144"
# shellcheck disable=SC3045 # busybox has it
ulimit -n 2500000

# The second serial port takes the records as they are: no echo, no CR before LF.
stty -F /dev/ttyS1 raw -echo
set --
while IFS= read -r argument; do set -- "$@" "$argument"; done </arguments
guest measure --out /dev/ttyS1 "$@"
echo "million: measurement ended with code $?"
