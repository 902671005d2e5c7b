#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=120
# The virtual machine offers what the other suites rely on.
set -u
number=0

# check NAME COMMAND...: one case, that the command succeeds
check() {
	number=$((number + 1))
	name=$1
	shift
	if "$@" >/dev/null; then echo "ok $number - $name"; else echo "not ok $number - $name"; fi
}

mounted() { grep -q " $2 $1 rw" /proc/mounts; }

check 'runs as root' [ "$(id -u)" = 0 ]
check 'has bpffs' mounted bpf /sys/fs/bpf
check 'has debugfs' mounted debugfs /sys/kernel/debug
check 'has tracefs' mounted tracefs /sys/kernel/tracing
check 'has cgroup2' mounted cgroup2 /sys/fs/cgroup
check 'has the loopback interface up' ping -c 1 -W 5 127.0.0.1
check 'sees the checkout in the working directory' [ -f test/kernel/boot.test.sh ]
check 'writes without touching the host' touch test/kernel/written-in-the-guest
check 'loads modules of the running kernel' modprobe ip_vs
check 'has the BTF of the running kernel' [ -r /sys/kernel/btf/vmlinux ]
check 'has the build results for the running kernel' [ -f "build/$(uname -r)/ip_vs.ko" ]
check 'has the eBPF programs' [ -f build/bpf/ipvs_tc.bpf.o ]
check 'runs the command line on the pinned Node' dist/ipvs-bpf --help
echo "1..$number"
