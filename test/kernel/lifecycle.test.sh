#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.1
# TCP, UDP and fragmented connections live as long as their timers say, and leave nothing behind.
# IPv4 and IPv6. Other ways to end: connections.test.sh.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

# Under -icount the clock leaps while the guest waits for its host, by minutes when that is busy: what has been
# made since is counted by counters, which no timer takes back, and timeouts are long where sessions are counted.

# TCP connections that end, and UDP ones.
some_traffic() {
	local added answer
	added=$(counter SESSION_ADDED)
	answer=$(client_requests --to "$vip:80" --count 20)
	answered "$answer" 20
	answer=$(client_udp --to "$vip:53" --count 20 --size 3000 --reply-size 3000)
	answered "$answer" 20
	equal $(($(counter SESSION_ADDED) - added)) 40 "sessions made"
}

maps_are_empty() {
	equal "$(sessions)/$(replies)/$("$MAPS" count "$PINS/ipvs_frags")" 0/0/0 "sessions/SNAT ends/fragments"
}

ends_by_timer() {
	some_traffic
	sleep 320
	equal "$(connections)" 0 connections
	maps_are_empty
}

ends_by_short_timeouts() {
	in_director ipvsadm --set 2000 5 20
	hold_open short --to "$vip:80"
	exchange short >/dev/null
	client_udp --to "$vip:53" --count 5 >/dev/null
	sleep 60
	# The UDP connections are gone, the open TCP one is not.
	equal "$(connections)/$(sessions)/$(replies)" 1/1/1 "connections/sessions/SNAT ends"
	sleep 2200
	equal "$(connections)" 0 connections
	in_director ipvsadm --set 900 120 300
	hold_close short
	maps_are_empty
}

lives_while_there_is_traffic() {
	in_director ipvsadm --set 2000 5 2000
	hold_open alive --to "$vip:80"
	hold_open alive-udp --udp --to "$vip:53"
	for _ in 1 2 3 4 5 6 7 8; do
		sleep 300
		exchange alive >/dev/null
		exchange alive-udp >/dev/null
	done
	equal "$(sessions)/$(replies)" 2/2 "sessions/SNAT ends"
	equal "$(counter SESSION_REMOVED)" "$1" "sessions removed in the meantime"
	hold_close alive
	hold_close alive-udp
	sleep 2200
	in_director ipvsadm --set 900 120 300
	equal "$(connections)" 0 connections
	maps_are_empty
}

# A session ends by being removed, or by being replaced by that of the same port.
ended() { echo $(($(counter SESSION_REMOVED) + $(counter SESSION_REPLACED))); }

ends_when_the_port_is_used_again() {
	local before
	before=$(ended)
	in_director sysctl -qw net.ipv4.vs.conn_reuse_mode=1
	client_requests --to "$vip:80" --count 50 --source-port 4200 >/dev/null
	at_most "$(connections)" 1 connections
	at_most "$(sessions)" 1 sessions
	at_most "$(replies)" 1 "SNAT ends"
	at_least $(($(ended) - before)) 49 "sessions that ended"
	sleep 130
	maps_are_empty
}

refused_connections_end() {
	local added
	added=$(counter SESSION_ADDED)
	in_director ipvsadm -a -u "$vip:53" -r "$rip1:9" -m
	in_director ipvsadm -e -u "$vip:53" -r "$rip1:5300" -m -w 0
	in_director ipvsadm -e -u "$vip:53" -r "$rip2:5300" -m -w 0
	client_probe --to "$vip:53" >/dev/null
	at_least $(($(counter SESSION_ADDED) - added)) 1 "sessions made"
	sleep 320
	in_director ipvsadm -d -u "$vip:53" -r "$rip1:9"
	in_director ipvsadm -e -u "$vip:53" -r "$rip1:5300" -m -w 1
	in_director ipvsadm -e -u "$vip:53" -r "$rip2:5300" -m -w 1
	maps_are_empty
}

works_in_two_namespaces_apart() {
	# The root namespace has the module and no maps.
	equal "$(cat "$VS/bpf_mode")/$(cat "$VS/bpf_maps")" 0/none "switch and maps of the root namespace"
	equal "$(in_director cat "$VS/bpf_mode")" 1 "switch of the director's namespace"
	for_families some_traffic
}

cases() {
	it "timers that run out, $ip" ends_by_timer
	it "shortened timeouts, $ip" ends_by_short_timeouts
	it "no end while there is traffic, $ip" lives_while_there_is_traffic "$(counter SESSION_REMOVED)"
	it "a client port used again, $ip" ends_when_the_port_is_used_again
	it "a real server that refuses, $ip" refused_connections_end
}

net_up
serve_both rs1 rs2
accelerate
virtual_servers_of_both
whitelist_both
for_families cases
detach srv1
detach srv2
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules
rm -r "$PINS"
net_down

NET_DIRECTOR=director
net_up
serve_both rs1 rs2
accelerate
virtual_servers_of_both
whitelist_both
it 'a namespace with a switch of its own' works_in_two_namespaces_apart
finish
