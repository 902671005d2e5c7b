# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything of a director, or of a node, that `ipvs-bpf node up` or an agent may change, as text: compare before and
# after. Labels, taints and annotations of a node are the API server's (test/cluster/object-listing.ts).

listing() {
	echo "# modules"
	awk '$1 ~ /^ip_?vs/ { print $1 }' /proc/modules | sort
	grep -H . /sys/module/ip_vs/{taint,srcversion} 2>/dev/null || true
	echo "# sysctls"
	{ sysctl -a --pattern "^net\\.ipv4\\.(vs|ip_local|conf\\.[^.]*\\.(rp_filter|accept_local))" 2>/dev/null || true; } | sort
	echo "# virtual servers and timeouts"
	ipvsadm -Sn
	ipvsadm -L --timeout
	echo "# links and addresses"
	ip -br address show
	echo "# tc"
	tc qdisc show
	for link in /sys/class/net/*; do
		for direction in ingress egress; do
			tc filter show dev "${link##*/}" "$direction"
		done
	done
	echo "# eBPF file system, programs"
	find /sys/fs/bpf -mindepth 1 | sort
	{ bpftool prog show 2>/dev/null | grep -o "name [^ ]*" || true; } | sort
	echo "# files"
	{ find /var/lib/ipvs-bpf /run/ipvs-bpf /etc/modprobe.d /etc/modules-load.d 2>/dev/null || true; } | sort
	# The directory is the kubelet's, which makes it for the mount.
	{ find /run/modprobe.d -type f 2>/dev/null || true; } | sort
	echo "# network namespaces"
	{ ip netns list | grep ipvs || true; } | sort
}
