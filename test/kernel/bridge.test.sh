#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.12
# Pods on a bridge of the director, with bridge-nf-call-iptables as kube-proxy wants it: the only real
# PRE_ROUTING of their packets is the one inside the bridge. IPv4 and IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

gateway4=10.6.0.1 pods4=10.6.0.0

# use_pods: the addresses of the family, in brackets if it is IPv6.
use_pods() {
	gateway=$gateway4 pod1=10.6.0.11 pod2=10.6.0.12
	[ "$family" = 6 ] || return 0
	gateway="[$(ipv6_of "$gateway")]" pod1="[$(ipv6_of "$pod1")]" pod2="[$(ipv6_of "$pod2")]"
}

# Ports of the virtual servers, by where the real server is.
remote=1 on_pod1=2 on_pod2=3

add_pod() { # NS ADDRESS
	net_add_namespace "$1"
	net_link "$1" eth0 "$2" "$NET_DIRECTOR" "port-$1" 10.6.1.1
	in_director ip addr flush dev "port-$1"
	in_director ip link set "port-$1" master br0
	in_director bridge link set dev "port-$1" hairpin on
	net_route "$1" default $gateway4
	net_serve "$1" 0.0.0.0:8080
	net_serve "$1" 0.0.0.0:5300 --udp
}

set_up() {
	net_up
	net_routes
	serve_both rs1
	modprobe br_netfilter
	in_director ip link add br0 type bridge
	in_director ip addr add $gateway4/24 dev br0
	in_director ip addr add "$(ipv6_of $gateway4)/64" dev br0 nodad
	in_director ip link set br0 up
	add_pod pod1 10.6.0.11
	add_pod pod2 10.6.0.12
	in_director sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
}

# As kube-proxy with a clusterCIDR: clients from elsewhere are masqueraded, and pods that reach themselves.
virtual_servers() {
	in_director nft -f - <<-RULES
		table inet test {
			chain forward {
				type filter hook forward priority filter; policy accept;
				ct state invalid drop
			}
			chain postrouting {
				type nat hook postrouting priority srcnat;
				ip saddr 10.6.0.11 ip daddr 10.6.0.11 masquerade
				ip saddr != $pods4/24 oifname { "br0", "srv1" } masquerade
				ip6 saddr $(ipv6_of 10.6.0.11) ip6 daddr $(ipv6_of 10.6.0.11) masquerade
				ip6 saddr != $(ipv6_of $pods4)/64 oifname { "br0", "srv1" } masquerade
			}
		}
	RULES
	in_director sysctl -qw net.ipv4.vs.conntrack=1
	for_families virtual_servers_of_pods
}

virtual_servers_of_pods() {
	local port
	use_pods
	for port in "$remote $rip1" "$on_pod1 $pod1" "$on_pod2 $pod2"; do
		virtual_server -t "8${port% *}" rr "${port#* }:8080"
		virtual_server -u "5${port% *}" rr "${port#* }:5300"
	done
}

whitelist_all() { for_families whitelist_pods "$1"; } # FLAGS
whitelist_pods() {
	local port
	for port in $remote $on_pod1 $on_pod2; do
		whitelist "$vip" "8$port" tcp "$port" "$1"
		whitelist "$vip" "5$port" udp "1$port" "$1"
	done
}

accelerate_pods() {
	accelerate
	attach br0
	for_families snat_address_of_bridge
	"$MAPS" put "$PINS/ipvs_cluster" "$(hex_u32 120)$(hex_addr $pods4)" "$(hex_u32 0)"
	"$MAPS" put "$PINS/ipvs_cluster" "$(hex_u32 64)$(hex_addr "$(ipv6_of $pods4)")" "$(hex_u32 0)"
}
snat_address_of_bridge() {
	use_pods
	snat_address 3 "$gateway" br0
}

datagrams() { # NS PORT SIZE
	local answer
	answer=$(in_ns "$1" "$LOAD" udp --timeout-ms 5000 --deadline 900 --to "$vip:5$2" --count 5 \
		--size "$3" --reply-size "$3")
	answered "$answer" 5
}

# reaches NS PORT SERVER SEEN: requests from there, and the client's address that the real server sees.
reaches() {
	local answer to="$vip:8$2"
	answer=$(in_ns "$1" "$LOAD" requests --timeout-ms 5000 --deadline 900 --who --to "$to" --count 10)
	answered "$answer" 10
	equal "$(field servers "$answer")" "{\"$3\":10}" "$answer servers"
	equal "$(field peers "$answer")" "{\"$4\":10}" "$answer clients that the real server sees"
	datagrams "$1" "$2" 1000
	answer=$(in_ns "$1" "$LOAD" transfer --to "$to" --bytes 200000 --deadline 300)
	equal "$(field ok "$answer")" true "$answer"
	answer=$(in_ns "$1" "$LOAD" transfer --to "$to" --bytes 200000 --deadline 300 --download)
	equal "$(field ok "$answer")" true "$answer"
}

# cases TITLE SEEN [COMMAND…]: each through that command. SEEN: pods are seen by others as "pod" or "gateway".
cases() { for_families cases_of_family "$@"; }
cases_of_family() {
	local title="$1, $ip" remotely locally
	use_pods
	remotely=$pod1 locally=$pod1
	[ "$2" = pod ] || remotely=$dip1 locally=$gateway
	shift 2
	it "$title: a pod reaches a remote real server" "$@" reaches pod1 "$remote" rs1 "$remotely"
	it "$title: a pod reaches another pod of the bridge" "$@" reaches pod1 "$on_pod2" pod2 "$locally"
	it "$title: a pod reaches itself" "$@" reaches pod1 "$on_pod1" pod1 "$gateway"
	it "$title: a remote client reaches a pod" "$@" reaches client "$on_pod1" pod1 "$gateway"
	it "$title: a remote client reaches a remote real server" "$@" reaches client "$remote" rs1 "$dip1"
	it "$title: fragments of a remote client and a pod" "$@" datagrams client "$on_pod1" 4000
	# Of IPv6, those that a pod sends are lost in the bridge natively, too.
	[ "$family" = 4 ] || return 0
	it "$title: fragments of a pod and a remote real server" "$@" datagrams pod1 "$remote" 4000
	it "$title: fragments of a pod and itself" "$@" datagrams pod1 "$on_pod1" 4000
	it "$title: fragments of two pods" datagrams pod1 "$on_pod2" 4000
}

# Of a whitelisted address and port there is no virtual server: what is not taken is tracked.
is_tracked_if_not_taken() {
	local answer made
	conntrack_count_start
	answer=$(in_ns pod1 "$LOAD" requests --timeout-ms 5000 --deadline 900 --to "$vip:8080" --count 10) || true
	made=$(conntrack_count_stop)
	answered "$answer" 10
	at_least "$made" 10 "conntrack entries made"
}

is_empty_after_the_timeouts() {
	sleep 320
	equal "$(connections)" 0 connections
	equal "$(sessions)" 0 sessions
	equal "$(replies)" 0 replies
}

set_up
insert_stock_module
virtual_servers
cases native pod
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate_pods
virtual_servers
whitelist_all $SNAT_EXTERNAL
cases accelerated pod no_conntrack
net_serve "$NET_DIRECTOR" "$vip:8080"
whitelist "$vip" 8080 tcp 20
it 'has packets tracked that it does not take after all' is_tracked_if_not_taken
it 'has no session left when all timers have run out' is_empty_after_the_timeouts
whitelist_all $SNAT_ALWAYS
cases 'SNAT of all' gateway no_conntrack
it 'has no session left after SNAT of all' is_empty_after_the_timeouts
it 'opens a connection' hold_open kept --to "$vip:8$on_pod1"
set_switch 0
cases 'switched off' pod
it 'keeps the open connection from conntrack when switched off' no_conntrack exchange kept
it 'makes no other session when switched off' equal "$(sessions)" 1 sessions
finish
