#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# ICMP errors, with a router on each side of the director: the same cases natively and accelerated.
NET_HOPS=1
. "$(dirname "$0")/../net/suite.sh"

set_up() {
	net_up
	net_serve rs1 0.0.0.0:8080
	net_serve rs1 0.0.0.0:5300 --udp
	in_director ethtool -K srv1 tx off >/dev/null
}

virtual_servers() {
	masquerade
	virtual_server -t 80 rr "$rip1:8080"
	virtual_server -u 53 rr "$rip1:5300"
	virtual_server -u 54 rr "$rip1:9"
}

# Path MTUs that earlier cases left behind.
forget_path_mtus() {
	local ns
	for ns in client hopc hops rs1 "$NET_DIRECTOR"; do
		in_ns "$ns" ip route flush cache
	done
}

# expect_error ANSWER ERRNO TYPE CODE FROM PORT
expect_error() {
	equal "$(field errno "$1")" "$2" "$1 errno"
	equal "$(field type "$1")/$(field code "$1")" "$3/$4" "$1 ICMP type and code"
	equal "$(field from "$1")" "$5" "$1 sender"
	equal "$(field to "$1")" "$vip:$6" "$1 destination that the error quotes"
}

port_unreachable_comes_from_the_virtual_server() {
	local answer
	answer=$(client_probe --to "$vip:54")
	expect_error "$answer" ECONNREFUSED 3 3 "$vip" 54
}

time_exceeded_at_the_director() {
	local answer
	answer=$(client_probe --to "$vip:53" --ttl 2)
	expect_error "$answer" EHOSTUNREACH 11 0 "$vip" 53
}

time_exceeded_behind_the_director() {
	local answer
	answer=$(client_probe --to "$vip:53" --ttl 3)
	expect_error "$answer" EHOSTUNREACH 11 0 "$vip" 53
}

too_large_for_the_real_servers_side() {
	local answer
	forget_path_mtus
	in_ns hops ip route replace 10.5.0.0/24 dev far mtu 1200
	answer=$(client_probe --to "$vip:53" --df --size 1400)
	expect_error "$answer" EMSGSIZE 3 4 "$vip" 53
	equal "$(field info "$answer")" 1200 "MTU in the error"
	forget_path_mtus
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --deadline 200)
	in_ns hops ip route replace 10.5.0.0/24 dev far
	equal "$(field ok "$answer")" true "$answer"
}

too_large_for_the_director() {
	local answer
	forget_path_mtus
	in_director ip route replace 10.5.0.0/24 via 10.2.1.10 mtu 1100
	answer=$(client_probe --to "$vip:53" --df --size 1400)
	expect_error "$answer" EMSGSIZE 3 4 "$vip" 53
	equal "$(field info "$answer")" 1100 "MTU in the error"
	forget_path_mtus
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --deadline 200)
	in_director ip route replace 10.5.0.0/24 via 10.2.1.10
	equal "$(field ok "$answer")" true "$answer"
}

reply_too_large_for_the_clients_side() {
	local answer
	forget_path_mtus
	in_ns hopc ip route replace 10.4.0.0/24 dev near mtu 1000
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 500000 --download --deadline 200)
	equal "$(field ok "$answer")" true "$answer"
	forget_path_mtus
	# The error costs the first reply; it tells the real server, whose next one is fragmented.
	answer=$(in_client "$LOAD" udp --to "$vip:53" --reply-size 1400 --count 2 --source-port 4000 --timeout-ms 2000 || true)
	in_ns hopc ip route replace 10.4.0.0/24 dev near
	equal "$(field answered "$answer")/$(field failed "$answer")" 1/1 "$answer answered/failed"
}

cases() {
	it "$1: a real server's port unreachable comes from the virtual server" "${@:2}" port_unreachable_comes_from_the_virtual_server
	it "$1: the director reports a TTL that ends there" "${@:2}" time_exceeded_at_the_director
	it "$1: a TTL that ends behind the director is reported to the client" "${@:2}" time_exceeded_behind_the_director
	it "$1: a request too large for a router behind the director" "${@:2}" too_large_for_the_real_servers_side
	it "$1: a request too large for the director's own link" "${@:2}" too_large_for_the_director
	it "$1: a reply too large for a router before the director" "${@:2}" reply_too_large_for_the_clients_side
}

set_up
insert_stock_module
virtual_servers
cases native
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

# rs2 has no part here, and its interface no programs.
insert_patched_module
load_programs
attach srv1
snat_address 1 "$dip1" srv1
hand_over
set_switch 1
virtual_servers
whitelist "$vip" 80 tcp 1
whitelist "$vip" 53 udp 2
whitelist "$vip" 54 udp 3
cases accelerated no_conntrack
it 'translated ICMP errors both ways' at_least "$(($(counter ICMP_EGRESS) > 0 ? $(counter ICMP_INGRESS) : 0))" 1
finish
