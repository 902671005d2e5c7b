# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the suites of the agent share: a director with traffic, its config, and a listing of everything that
# `node down` must leave as it was.

. "$(dirname "${BASH_SOURCE[0]}")/../net/suite.sh"

CLI=${IPVS_BPF_CLI:-$NET_TREE/dist/ipvs-bpf}
CONFIG=$NET_RUN/node-config.yaml
STATE=/var/lib/ipvs-bpf

agent() { "$CLI" node "$@"; }
agent_up() { agent up --config "$CONFIG" "$@"; }
agent_status() { agent status --config "$CONFIG" "$@"; }

# agent_config [LINE…]: the director's TCP virtual server, and further lines.
agent_config() {
	{
		echo 'apiVersion: ipvs-bpf.io/v1alpha1'
		echo 'kind: NodeConfig'
		echo 'mode: Enabled'
		echo "services: {virtualServers: [{address: $vip, port: 80, protocol: TCP}]}"
		printf '%s\n' "$@"
	} >"$CONFIG"
}

agent_director() {
	net_up
	for ns in rs1 rs2; do
		net_serve $ns 0.0.0.0:8080
	done
	virtual_server -t 80 wrr "$rip1:8080" "$rip2:8080"
	virtual_server -u 53 sh "$rip1:5300"
	ipvsadm --set 800 100 200
	sysctl -qw net.ipv4.vs.sync_retries=3
	agent_config 'ipvs: {expireNodestConn: 1}' 'snat: {mode: External, clusterCIDRs: [10.244.0.0/16]}'
}

# Modules, IPVS, sysctls, interfaces, tc, eBPF and files. The kernel's taint says that a module of another
# tree was loaded once: nothing takes that back.
listing() {
	echo "== modules"
	awk '{ print $1, $3 }' /proc/modules | sort
	conn_tab_bits
	echo "== virtual servers"
	ipvsadm -Sn
	ipvsadm -Ln --timeout
	echo "== sysctls"
	sysctl -a 2>/dev/null | grep -E '^(net|kernel)\.' |
		grep -vE '^kernel\.(tainted|random\.|ns_last_pid|pty\.nr|sched_domain)|^net\.netfilter\.nf_conntrack_count'
	echo "== interfaces and tc"
	ip -o address show | sed 's/ valid_lft.*//'
	tc qdisc show
	for link in /sys/class/net/*; do
		tc filter show dev "${link##*/}" ingress
		tc filter show dev "${link##*/}" egress
	done
	ip netns list | sort
	echo "== eBPF"
	bpftool prog list | grep -c '^[0-9]'
	bpftool map list | grep -c '^[0-9]'
	find /sys/fs/bpf
	echo "== files"
	find /etc /run /var/lib -path /run/ipvs-bpf-net -prune -o -type f ! -path /run/listing.\* -print | sort
	find /etc/modprobe.d /etc/modules-load.d /run/modprobe.d "$STATE" 2>/dev/null
}

# waits_for COMMAND…: until it succeeds, for a minute.
waits_for() {
	local end=$((SECONDS + 60))
	until "$@"; do
		[ $SECONDS -lt $end ] || {
			echo "after a minute still not: $*"
			return 1
		}
		sleep 0.5
	done
}

# Commands in it may fail: what they say then is part of the listing.
listed() { (set +e; listing; true) >"/run/listing.$1" 2>&1; }
same_listing() { # the one now as the one before
	listed after
	diff -u /run/listing.before /run/listing.after
}

table() { ipvsadm -Sn; }
conn_tab_bits() { cat /sys/module/ip_vs/parameters/conn_tab_bits; }
srcversion() { cat /sys/module/ip_vs/srcversion; }
map_ids() { for map in /sys/fs/bpf/ipvs-bpf/ipvs_*; do bpftool -j map show pinned "$map" | jq -c '[.name, .id]'; done; }
program_ids() { bpftool -j prog list | jq -c '.[] | select(.name | startswith("ipvs_tc")) | [.name, .id]'; }
identity() {
	srcversion
	map_ids
	program_ids
}

requests() { answered "$(client_requests --to "$vip:80" --count "${1:-20}")" "${1:-20}"; }
