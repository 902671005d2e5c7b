#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# Requests over TCP and UDP, IPv4 and IPv6: the same cases on the native path and accelerated.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

tcp_port=80 udp_port=53 native_port=81

set_up() {
	net_up
	for ns in rs1 rs2; do
		net_serve $ns 0.0.0.0:8080
		net_serve $ns 0.0.0.0:5300 --udp
	done
	# Checksums are real work on the director, and offloaded by the hosts, as with most NICs.
	in_director ethtool -K srv1 tx off >/dev/null
	in_director ethtool -K srv2 tx off >/dev/null
}

virtual_servers() {
	virtual_server -t "$tcp_port" rr "$rip1:8080" "$rip2:8080"
	virtual_server -u "$udp_port" rr "$rip1:5300" "$rip2:5300"
	virtual_server -t "$native_port" rr "$rip1:8080" "$rip2:8080"
	in_director ipvsadm -A -t "$vip:82" -s rr
	in_director ipvsadm -A -t "$vip:83" -s rr
}

spreads_requests() {
	local answer
	answer=$(client_requests --to "$vip:$tcp_port" --count 50)
	answered "$answer" 50
	equal "$(field alternations "$answer")" 49 "changes of the real server"
	equal "$(field servers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)" rs1:25,rs2:25 servers
	equal "$(field peers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)" \
		"$dip1:25,$dip2:25" "clients that the real servers see"
	echo "$answer"
}

spreads_requests_from_the_pool() {
	local answer ports
	answer=$(spreads_requests) || {
		echo "$answer"
		return 1
	}
	ports=$(field ports "$answer" | tr -d '[]')
	at_least "${ports%,*}" "$SNAT_FIRST" "lowest port that the real servers see"
	at_most "${ports#*,}" "$SNAT_LAST" "highest port"
}

answers_datagrams() {
	local answer
	answer=$(client_udp --to "$vip:$udp_port" --count 20 --size 100 --reply-size 1000)
	answered "$answer" 20
	case $(field peer "$answer") in
	"$dip1" | "$dip2") ;;
	*) equal "$answer" "$dip1 or $dip2" "client that the real server sees" ;;
	esac
}

# Sent as one packet, which is cut up behind the director.
answers_a_burst() {
	local answer
	answer=$(in_client "$LOAD" burst --to "$vip:$udp_port" --count 30 --size 1000 --timeout-ms 3000) || true
	answered "$answer" 30
}

transfers() {
	local answer
	answer=$(in_client "$LOAD" transfer --to "$vip:$tcp_port" --bytes 3000000 --deadline 300 "$@")
	equal "$(field ok "$answer")" true "$answer"
}

native_virtual_server_stays_native() {
	local answer made
	conntrack_count_start
	answer=$(client_requests --to "$vip:$native_port" --count 10)
	made=$(conntrack_count_stop)
	answered "$answer" 10
	at_least "$made" 10 "conntrack entries made"
	equal $(($(counter SESSION_ADDED) - $1)) 0 "sessions made"
}

is_empty_after_the_timeouts() {
	# TIME_WAIT lasts 120 s, a UDP connection 300 s.
	sleep 320
	equal "$(connections)" 0 connections
	equal "$(sessions)" 0 sessions
	equal "$(replies)" 0 replies
	equal "$("$MAPS" count "$PINS/ipvs_frags")" 0 fragments
}

has_a_session_per_connection() {
	equal "$(connections) $(sessions) $(replies)" "0 0 0" "connections, sessions and SNAT ends before"
	client_requests --to "$vip:$tcp_port" --count 10 >/dev/null
	equal "$(connections)" 10 connections
	equal "$(sessions)" 10 sessions
	equal "$(replies)" 10 "SNAT ends"
}

closed_port_is_refused() {
	local answer
	in_director ipvsadm -a -t "$vip:82" -r "$rip1:9999" -m
	answer=$(client_requests --to "$vip:82" --count 1) || true
	equal "$(field errors "$answer")" '{"ECONNREFUSED":1}' "$answer"
}

no_real_server_is_refused() {
	local answer
	answer=$(client_requests --to "$vip:83" --count 1) || true
	equal "$(field errors "$answer")" '{"ECONNREFUSED":1}' "$answer"
}

common_cases() {
	it "$1, $ip: spreads TCP requests over the real servers" "$2"
	it "$1, $ip: answers datagrams" answers_datagrams
	it "$1, $ip: answers datagrams that come as one packet" answers_a_burst
	it "$1, $ip: uploads" transfers
	it "$1, $ip: downloads" transfers --download
	it "$1, $ip: passes on that a real server refuses" closed_port_is_refused
	it "$1, $ip: refuses when there is no real server" no_real_server_is_refused
}

whitelist_all() {
	whitelist "$vip" "$tcp_port" tcp 1
	whitelist "$vip" "$udp_port" udp 2
	whitelist "$vip" 82 tcp 3
	whitelist "$vip" 83 tcp 4
}

accelerated_cases() {
	it "leaves virtual servers native that are not on the whitelist, $ip" \
		native_virtual_server_stays_native "$(counter SESSION_ADDED)"
	common_cases accelerated spreads_requests_from_the_pool
	it "makes no conntrack entry for TCP, $ip" no_conntrack spreads_requests
	it "makes no conntrack entry for UDP, $ip" no_conntrack answers_datagrams
	it "makes no conntrack entry for datagrams that come as one packet, $ip" no_conntrack answers_a_burst
	it "makes no conntrack entry for a transfer, $ip" no_conntrack transfers
}

set_up
insert_stock_module
masquerade
for_families virtual_servers
for_families common_cases native spreads_requests
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate
masquerade
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
it 'has no session left when all timers have run out' is_empty_after_the_timeouts
# Not before: a connection of an earlier case that ends meanwhile would be missing in the difference.
it 'has a session and a SNAT end for every connection' has_a_session_per_connection
finish
