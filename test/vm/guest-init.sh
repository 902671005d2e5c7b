#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the virtual machine once the host's root is mounted: the file systems and devices that a
# script expects, then the script, then its exit status and the kernel's log back to the host.
#
# The host put into /run/vm (this run's folder, over 9p): guest-init.sh, settings.sh with RELEASE,
# MODULES, END, OUT and STDIN, and command.sh. Virtio ports 1 to 4 carry standard output, standard error,
# the kernel's log and the exit status; each stream ends with the line END. Port 5, if there is one, is the
# script's standard input.
# shellcheck source=/dev/null
. /run/vm/settings.sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/lib/modules/$RELEASE"
mount --bind "$MODULES" "/lib/modules/$RELEASE"
if [ -n "$OUT" ]; then
	mkdir -p "$OUT"
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap out "$OUT"
fi
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
hostname ipvs-bpf-vm
ip link set lo up

# The device number depends on the order of probing; ports appear a moment after their driver.
ports=
last=${STDIN:+5}
last=${last:-4}
while [ -z "$ports" ]; do
	for port in /dev/vport*p"$last"; do [ ! -c "$port" ] || ports=${port%p"$last"}; done
done
input=/dev/null
[ -z "$STDIN" ] || input=${ports}p5

# A port can be opened only once, a pipe as often as a script likes (echo >/dev/stderr).
mkfifo /run/stdout /run/stderr
cat /run/stdout >"$ports"p1 &
stdout_pid=$!
cat /run/stderr >"$ports"p2 &
stderr_pid=$!
printf 'start\n' >"$ports"p4
/bin/sh /run/vm/command.sh <"$input" >/run/stdout 2>/run/stderr
status=$?

# Something that the script left running may hold its output open: wait a little, not for ever.
tries=20
while [ $tries -gt 0 ] && { kill -0 $stdout_pid || kill -0 $stderr_pid; } 2>/dev/null; do
	sleep 0.05
	tries=$((tries - 1))
done
kill $stdout_pid $stderr_pid 2>/dev/null
wait $stdout_pid $stderr_pid
printf '%s\n' "$END" >"$ports"p1
printf '%s\n' "$END" >"$ports"p2
{
	dmesg
	printf '%s\n' "$END"
} >"$ports"p3
printf '%s\n%s\n' "$status" "$END" >"$ports"p4
sleep 60
