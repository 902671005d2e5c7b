#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of a node once the host's root is mounted: file systems, network, containerd, kubelet and
# kube-proxy, and the command channel. Everything it needs lies in /run/vm, this node's folder on the host.
# shellcheck source=/dev/null
. /run/vm/settings.sh
export PATH="$SERVERS/usr/sbin:$SERVERS/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Kubernetes' programs as one group beside that of the pods, as init systems have it: each process of the root
# group would weigh more than all pods together.
mkdir /sys/fs/cgroup/system
echo $$ >/sys/fs/cgroup/system/cgroup.procs
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
echo 40 >/sys/fs/cgroup/system/cpu.weight
mkdir -p "/lib/modules/$RELEASE"
mount --bind "$MODULES" "/lib/modules/$RELEASE"
# What the host builds while this machine runs is seen here: the root's own cache would hide it.
mkdir -p "$BUILD"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none,ro build "$BUILD"
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr

hostname "$NODE_NAME"
# shellcheck disable=SC2153 # all of settings.sh
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NODE_NAME" >/etc/hosts
printf '%s\n' "$MACHINE_ID" >/etc/machine-id
ip link set lo up
ip addr add "$ADDRESS/$PREFIX_LENGTH" dev eth0
ip link set eth0 up
ip route add default via "$CONTROL_PLANE"
if [ -n "${ADDRESS6:-}" ]; then
	sysctl -q -w net.ipv6.conf.all.forwarding=1
	ip addr add "$ADDRESS6/$PREFIX_LENGTH6" dev eth0 nodad
	ip route add ::/0 via "$CONTROL_PLANE6"
	printf '%s %s\n' "$ADDRESS6" "$NODE_NAME" >>/etc/hosts
fi

# What runs now answers at once, also when the rest fails.
"$CHANNEL" serve "$COMMAND_PORT" &

# overlayfs does not stack on an overlay; what a reboot has to find again lies on the host
mkdir -p /var/lib/containerd /var/lib/kubelet /var/lib/cni /run/vm/kept /var/lib/ipvs-bpf
mount -t tmpfs tmpfs /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/kubelet
mount --bind /run/vm/kept /var/lib/ipvs-bpf
# where the chart expects the kernel modules by default
mkdir -p /var/lib/ipvs-bpf/modules
mount --bind "$BUILD" /var/lib/ipvs-bpf/modules
for settings in modules-load.d modprobe.d; do
	mkdir -p "/run/vm/etc/$settings" "/etc/$settings"
	mount --bind "/run/vm/etc/$settings" "/etc/$settings"
done
mount --make-rshared /

# The images, as containerd on the host has unpacked them: its databases, and links to the files.
snapshots=io.containerd.snapshotter.v1.overlayfs
blobs=io.containerd.content.v1.content/blobs/sha256
(
	cd /var/lib/containerd || exit
	mkdir -p io.containerd.metadata.v1.bolt "$blobs" io.containerd.content.v1.content/ingest
	cp "$IMAGE_STORE/io.containerd.metadata.v1.bolt/meta.db" io.containerd.metadata.v1.bolt/
	ln -s "$IMAGE_STORE/$blobs"/* "$blobs"
	for snapshot in "$IMAGE_STORE/$snapshots"/snapshots/*; do
		mkdir -p "$snapshots/snapshots/${snapshot##*/}/work"
		ln -s "$snapshot/fs" "$snapshots/snapshots/${snapshot##*/}/fs"
	done
	cp "$IMAGE_STORE/$snapshots/metadata.db" "$snapshots/"
)

# As systemd does long before a container runs: what a node was prepared to load.
/lib/systemd/systemd-modules-load
modprobe -a overlay br_netfilter ip_vs ip_vs_rr nf_conntrack xt_comment xt_mark xt_nat xt_MASQUERADE \
	xt_set xt_conntrack xt_statistic ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip \
	ip_set_hash_ipportnet ip_set_bitmap_port dummy veth bridge nft_compat
sysctl -q -w net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 \
	net.netfilter.nf_conntrack_max=131072 fs.inotify.max_user_instances=1024
ip6_programs=
if [ -n "${ADDRESS6:-}" ]; then
	sysctl -q -w net.bridge.bridge-nf-call-ip6tables=1
	ip6_programs='ip6tables ip6tables-save ip6tables-restore'
fi

mkdir -p /etc/containerd /etc/cni/net.d
cp /run/vm/containerd.toml /etc/containerd/config.toml
rm -rf /etc/cni/net.d/*
cp /run/vm/cni.conflist /etc/cni/net.d/10-bridge.conflist
# shellcheck disable=SC2086 # pairs of words
set -- $POD_ROUTES
while [ $# -gt 1 ]; do
	ip route add "$1" via "$2"
	shift 2
done

# keep NAME COMMAND…: starts it again whenever it ends, but not while there is /run/stopped/NAME.
keep() {
	name=$1
	shift
	(
		while :; do
			while [ -e "/run/stopped/$name" ]; do sleep 1; done
			("$@") >>"/run/vm/log/$name.log" 2>&1
			printf '%s ended with status %s\n' "$name" $? >>"/run/vm/log/$name.log"
			sleep 1
		done
	) &
}

keep containerd containerd
keep kubelet "$KUBELET" --config /run/vm/kubelet.json --kubeconfig /run/vm/kubelet.kubeconfig \
	--hostname-override "$NODE_NAME" --node-ip "$NODE_IPS" --housekeeping-interval 1m

# kube-proxy starts some sixty programs a look, and each opens a dozen files: those that are touched are copied from
# the 9p mount to memory, which makes a look three times as fast. Links on the way are files of their own.
in_memory() {
	for file; do
		while :; do
			touch -ch -r "$file" "$file"
			target=$(readlink "$file") || break
			case $target in
				/*) file=$target ;;
				*) file=${file%/*}/$target ;;
			esac
		done
	done
}

proxy_programs() {
	in_memory /bin /sbin /lib /lib64 /etc/ld.so.cache /usr/lib/*/xtables/lib*t_comment.so \
		/usr/lib/*/xtables/lib*t_set.so /usr/lib/*/xtables/lib*t_MARK.so /usr/lib/*/xtables/lib*t_MASQUERADE.so \
		/usr/lib/*/xtables/lib*t_mark.so /usr/lib/*/xtables/lib*t_conntrack.so
	# shellcheck disable=SC2086 # names
	for program in iptables iptables-save iptables-restore ipset $ip6_programs; do
		path=$(command -v "$program")
		# shellcheck disable=SC2046 # paths without spaces
		in_memory "$path" $(ldd "$path" | grep -o '/[^ ]*')
	done
}

# A full look at the rules takes an emulated machine ten seconds: not every thirty. It starts some forty programs, and
# each waits for its turn: without precedence a Service whose pods start is written a minute later.
proxy() {
	proxy_programs
	exec nice -n -10 "$KUBE_PROXY" --kubeconfig /run/vm/kube-proxy.kubeconfig --hostname-override "$NODE_NAME" \
		--proxy-mode "$(cat /run/vm/proxy-mode)" --cluster-cidr "$PODS" --conntrack-max-per-core 0 \
		--ipvs-sync-period 5m --iptables-sync-period 5m
}
keep kube-proxy proxy

# processes whose parent ended belong to this one now
while :; do
	wait
	sleep 1
done
