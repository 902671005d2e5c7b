#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# ICMP and ICMPv6 errors, with a router on each side of the director: the same cases natively and accelerated.
NET_HOPS=1 NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

set_up() {
	net_up
	net_serve rs1 0.0.0.0:8080
	net_serve rs1 0.0.0.0:5300 --udp
	in_director ethtool -K srv1 tx off >/dev/null
}

virtual_servers() {
	virtual_server -t 80 rr "$rip1:8080"
	virtual_server -u 53 rr "$rip1:5300"
	virtual_server -u 54 rr "$rip1:9"
}

# Path MTUs that earlier cases left behind.
forget_path_mtus() {
	local ns
	for ns in client hopc hops rs1 "$NET_DIRECTOR"; do
		in_ns "$ns" ip route flush cache
		in_ns "$ns" ip -6 route flush cache
	done
}

# Types and codes of the family: ICMP, ICMPv6.
by_family() { [ "$family" = 4 ] && echo "$1" || echo "$2"; }

# set_mtu NS PREFIX WHERE MTU|none: of the route to a /24, or its /64. A router of IPv6 minds only an
# MTU that is locked, and no one below 1280.
set_mtu() {
	local prefix=$2 where=$3
	if [ "$family" = 4 ]; then
		# shellcheck disable=SC2046,SC2086 # words
		in_ns "$1" ip route replace "$2" $where $([ "$4" = none ] || echo "mtu $4")
		return
	fi
	prefix=$(ipv6_of "${prefix%/24}")/64
	case $where in
	via*) where="via $(ipv6_of "${where#via }")" ;;
	*) where+=" metric 256" ;;
	esac
	# shellcheck disable=SC2046,SC2086
	in_ns "$1" ip -6 route replace "$prefix" $where $([ "$4" = none ] || echo "mtu lock $4")
}

# expect_error ANSWER ERRNO TYPE/CODE PORT: it comes from the virtual server.
expect_error() {
	equal "$(field errno "$1")" "$2" "$1 errno"
	equal "$(field type "$1")/$(field code "$1")" "$3" "$1 ICMP type and code"
	equal "$(field from "$1")" "$vip" "$1 sender"
	equal "$(field to "$1")" "$vip:$4" "$1 destination that the error quotes"
}

port_unreachable_comes_from_the_virtual_server() {
	local answer
	answer=$(client_probe --to "$vip:54")
	expect_error "$answer" ECONNREFUSED "$(by_family 3/3 1/4)" 54
}

# The real server quotes them, and the accelerated mode has left the datagram to the native path.
about_a_datagram_with_options() {
	local answer
	answer=$(client_probe --to "$vip:54" --ip-options)
	expect_error "$answer" ECONNREFUSED "$(by_family 3/3 1/4)" 54
}

time_exceeded_at_the_director() {
	local answer
	answer=$(client_probe --to "$vip:53" --ttl 2)
	expect_error "$answer" EHOSTUNREACH "$(by_family 11/0 3/0)" 53
}

time_exceeded_behind_the_director() {
	local answer
	answer=$(client_probe --to "$vip:53" --ttl 3)
	expect_error "$answer" EHOSTUNREACH "$(by_family 11/0 3/0)" 53
}

too_large_for_the_real_servers_side() {
	local answer
	forget_path_mtus
	set_mtu hops 10.5.0.0/24 "dev far" "$(by_family 1200 1400)"
	answer=$(client_probe --to "$vip:53" --df --size 1400)
	expect_error "$answer" EMSGSIZE "$(by_family 3/4 2/0)" 53
	equal "$(field info "$answer")" "$(by_family 1200 1400)" "MTU in the error"
	forget_path_mtus
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --deadline 200)
	set_mtu hops 10.5.0.0/24 "dev far" none
	equal "$(field ok "$answer")" true "$answer"
}

too_large_for_the_director() {
	local answer
	forget_path_mtus
	set_mtu "$NET_DIRECTOR" 10.5.0.0/24 "via 10.2.1.10" "$(by_family 1100 1350)"
	answer=$(client_probe --to "$vip:53" --df --size 1400)
	expect_error "$answer" EMSGSIZE "$(by_family 3/4 2/0)" 53
	equal "$(field info "$answer")" "$(by_family 1100 1350)" "MTU in the error"
	forget_path_mtus
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --deadline 200)
	set_mtu "$NET_DIRECTOR" 10.5.0.0/24 "via 10.2.1.10" none
	equal "$(field ok "$answer")" true "$answer"
}

reply_too_large_for_the_clients_side() {
	local answer
	forget_path_mtus
	set_mtu hopc 10.4.0.0/24 "dev near" "$(by_family 1000 1300)"
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --download --deadline 200)
	equal "$(field ok "$answer")" true "$answer"
	forget_path_mtus
	# The error costs the first reply; it tells the real server, whose next one is fragmented.
	answer=$(in_client "$LOAD" udp --to "$vip:53" --reply-size 1400 --count 2 --source-port 4000 --timeout-ms 2000 || true)
	set_mtu hopc 10.4.0.0/24 "dev near" none
	equal "$(field answered "$answer")/$(field failed "$answer")" 1/1 "$answer answered/failed"
}

cases() {
	it "$1, $ip: a real server's port unreachable comes from the virtual server" "${@:2}" port_unreachable_comes_from_the_virtual_server
	it "$1, $ip: a port unreachable about a datagram with options or an extension header" about_a_datagram_with_options
	it "$1, $ip: the director reports a TTL that ends there" "${@:2}" time_exceeded_at_the_director
	it "$1, $ip: a TTL that ends behind the director is reported to the client" "${@:2}" time_exceeded_behind_the_director
	it "$1, $ip: a request too large for a router behind the director" "${@:2}" too_large_for_the_real_servers_side
	it "$1, $ip: a request too large for the director's own link" "${@:2}" too_large_for_the_director
	it "$1, $ip: a reply too large for a router before the director" "${@:2}" reply_too_large_for_the_clients_side
}

snat_address_of_family() { snat_address 1 "$dip1" srv1; }

whitelist_all() {
	whitelist "$vip" 80 tcp 1
	whitelist "$vip" 53 udp 2
	whitelist "$vip" 54 udp 3
}

accelerated_cases() {
	local egress ingress
	egress=$(counter ICMP_EGRESS) ingress=$(counter ICMP_INGRESS)
	cases accelerated no_conntrack
	it "translated ICMP errors towards real servers, $ip" at_least $(($(counter ICMP_EGRESS) - egress)) 1
	it "translated ICMP errors from their side, $ip" at_least $(($(counter ICMP_INGRESS) - ingress)) 1
}

set_up
insert_stock_module
masquerade
for_families virtual_servers
for_families cases native
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

# rs2 has no part here, and its interface no programs.
insert_patched_module
load_programs
attach srv1
for_families snat_address_of_family
hand_over
set_switch 1
masquerade
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
finish
