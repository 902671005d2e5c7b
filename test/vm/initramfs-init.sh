#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of the virtual machine, run by busybox from the initramfs: puts the host's root, read-only
# over 9p, under a tmpfs overlay and goes on there with test/vm/guest-init.sh.
set -e
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do insmod "/modules/$module"; done </modules/order

mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro" root /lower
mount -t tmpfs -o size=75%,mode=755 tmpfs /writable
mkdir /writable/upper /writable/work
mount -t overlay -o lowerdir=/lower,upperdir=/writable/upper,workdir=/writable/work overlay /root

mount -t tmpfs -o mode=755 tmpfs /root/run
mkdir /root/run/vm
mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,cache=none" job /root/run/vm
umount /proc
umount /sys
mount --move /dev /root/dev
exec switch_root /root /run/vm/guest-init.sh
