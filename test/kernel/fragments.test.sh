#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# Datagrams of many fragments, both ways, in any order, of IPv4 and IPv6: natively and accelerated.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

# The kernel gives a datagram up whose fragments have more than 64 of other datagrams by the same sender between
# them (ip_frag_too_far); several clients at once have that, natively too, when the director takes turns with them.
set_up() {
	local ns
	net_up
	for ns in client director rs1 rs2; do
		"in_$ns" sysctl -qw net.ipv4.ipfrag_max_dist=0
	done
	net_serve rs1 0.0.0.0:5300 --udp
	net_serve rs2 0.0.0.0:5300 --udp
	in_director ethtool -K srv1 tx off >/dev/null
}

virtual_servers() { virtual_server -u 53 rr "$rip1:5300" "$rip2:5300"; }

# datagrams COUNT OPTION…: both the request and the reply are compared byte by byte.
datagrams() {
	local answer count=$1
	shift
	answer=$(client_udp --to "$vip:53" --count "$count" "$@") || true
	answered "$answer" "$count"
}

both_ways_at_once() {
	local i pids=()
	for i in 1 2 3 4; do
		datagrams 3 --size 30000 --reply-size 30000 --order shuffle --reply-order reverse &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
}

# Nobody gets a datagram of which the first fragment is missing, or two say different things; the next one is whole.
lost() { # OPTION…
	local answer
	answer=$(client_udp --to "$vip:53" --count 1 --size 5000 --fragment-size 1400 --timeout-ms 500 --source-port 4010 "$@") || true
	equal "$(field answered "$answer")/$(field failed "$answer")" 0/1 "$answer answered/failed"
	datagrams 1 --size 5000 --source-port 4010
}

# Each fragment's bytes begin like a datagram of another connection of this client.
looks_like_another() {
	hold_open other --udp --to "$vip:53" --source-port 4020
	exchange other >/dev/null
	datagrams 2 --size 60000 --order shuffle --like 4020 --source-port 4021
	datagrams 2 --size 5000 --order forward --fragment-size 200 --like 4020 --source-port 4022
	exchange other >/dev/null
	hold_close other
}

small_behind_large() {
	datagrams 1 --size 60000 --source-port 4001
	datagrams 2 --size 100 --source-port 4001
	datagrams 1 --size 3000 --reply-size 3000 --source-port 4001
}

cases() {
	it "$1, $ip: a request of 60 KB" "${@:2}" datagrams 4 --size 60000
	it "$1, $ip: a reply of 60 KB" "${@:2}" datagrams 4 --reply-size 60000
	it "$1, $ip: 60 KB both ways" "${@:2}" datagrams 4 --size 60000 --reply-size 60000
	it "$1, $ip: two fragments both ways" "${@:2}" datagrams 4 --size 1500 --reply-size 1500
	it "$1, $ip: a request in reverse order" "${@:2}" datagrams 4 --size 60000 --order reverse
	it "$1, $ip: a request in no order" "${@:2}" datagrams 4 --size 60000 --order shuffle
	it "$1, $ip: a request of small fragments" "${@:2}" datagrams 4 --size 5000 --order reverse --fragment-size 200
	it "$1, $ip: a reply in reverse order" "${@:2}" datagrams 4 --reply-size 60000 --reply-order reverse
	it "$1, $ip: a reply in no order" "${@:2}" datagrams 4 --reply-size 60000 --reply-order shuffle
	it "$1, $ip: a request of which every fragment comes twice" "${@:2}" datagrams 4 --size 60000 --order twice
	it "$1, $ip: a reply of which every fragment comes twice" "${@:2}" datagrams 4 --reply-size 60000 --reply-order twice
	it "$1, $ip: a request without its first fragment" "${@:2}" lost --order headless
	it "$1, $ip: a reply without its first fragment" "${@:2}" lost --reply-size 5000 --order forward --reply-order headless
	it "$1, $ip: a request with fragments that overlap" "${@:2}" lost --order overlap
	it "$1, $ip: fragments that begin like another connection" "${@:2}" looks_like_another
	it "$1, $ip: several clients at once, both ways out of order" "${@:2}" both_ways_at_once
	it "$1, $ip: datagrams of all sizes from one port" "${@:2}" small_behind_large
	it "$1, $ip: small fragments that fit one packet" "${@:2}" datagrams 4 --size 1000 --order forward --fragment-size 200
	it "$1, $ip: one fragment that is all" "${@:2}" datagrams 4 --order forward --reply-order forward
}

is_empty_after_the_timeouts() {
	sleep 320
	equal "$(connections)/$(sessions)/$(replies)" 0/0/0 "connections/sessions/SNAT ends"
	equal "$("$MAPS" count "$PINS/ipvs_frags")" 0 "remembered fragments"
}

whitelist_all() { whitelist "$vip" 53 udp 1; }

# Both counters have risen for this family.
accelerated_cases() {
	local egress reassembled
	egress=$(counter FRAGMENT_EGRESS) reassembled=$(counter REPLY_REASSEMBLED)
	cases accelerated no_conntrack
	it "translated fragments at tc egress, $ip" at_least $(($(counter FRAGMENT_EGRESS) - egress)) 100
	it "translated reassembled replies, $ip" at_least $(($(counter REPLY_REASSEMBLED) - reassembled)) 10
}

set_up
insert_stock_module
masquerade
for_families virtual_servers
for_families cases native
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate
masquerade
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
it 'leaves nothing behind' is_empty_after_the_timeouts
finish
