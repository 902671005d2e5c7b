#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.12
# How connections end, what the switch and the whitelist do to open ones, and reused client ports: IPv4 and IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

port=80

set_up() {
	net_up
	net_serve rs1 0.0.0.0:8080
	net_serve rs2 0.0.0.0:8080
}

virtual_servers() { virtual_server -t "$port" rr "$rip1:8080" "$rip2:8080"; }

requests() { answered "$(client_requests --to "$vip:$port" --count "$1")" "$1"; }

no_maps_left() {
	equal "$(sessions)" 0 sessions
	equal "$(replies)" 0 "reply entries"
}

# Conntrack entries of one request: none means accelerated.
made_by_a_request() {
	conntrack_count_start
	requests 1 >&2
	conntrack_count_stop
}

ends_by_timeout() {
	requests 10
	equal "$(sessions)" 10 sessions
	sleep 130
	equal "$(connections)" 0 connections
	no_maps_left
}

ends_with_its_real_server() {
	in_director sysctl -qw net.ipv4.vs.expire_nodest_conn=1
	requests 10
	in_director ipvsadm -d -t "$vip:$port" -r "$rip1:8080"
	in_director ipvsadm -d -t "$vip:$port" -r "$rip2:8080"
	sleep 2
	equal "$(connections)" 0 connections
	no_maps_left
	in_director ipvsadm -C
	virtual_servers
}

ends_by_flush() {
	requests 10
	in_director ipvsadm -C
	sleep 2
	equal "$(connections)" 0 connections
	no_maps_left
	in_director sysctl -qw net.ipv4.vs.expire_nodest_conn=0
	virtual_servers
}

ends_after_a_flush_by_timeout() {
	requests 10
	in_director ipvsadm -C
	equal "$(sessions)" 10 "sessions after the flush"
	sleep 130
	no_maps_left
	virtual_servers
}

open_connections_survive_the_switch() {
	hold_open accelerated --to "$vip:$port"
	equal "$(cat "$VS/bpf_conns")" 1 "accelerated connections"
	set_switch 0
	exchange accelerated
	at_least "$(made_by_a_request)" 1 "conntrack entries of a request while off"
	hold_open native --to "$vip:$port"
	equal "$(cat "$VS/bpf_conns")" 1 "accelerated connections"
	set_switch 1
	exchange native
	exchange accelerated
	equal "$(made_by_a_request)" 0 "conntrack entries of a request while on"
	exchange native
	exchange accelerated
}

stays_until_the_last_has_ended() {
	set_switch 0
	exchange accelerated
	hold_close accelerated
	hold_close native
	# As long as a closed connection needs to be forgotten.
	sleep 200
	no_maps_left
	equal "$(cat "$VS/bpf_conns")" 0 "accelerated connections"
	set_switch 1
}

open_connections_survive_the_whitelist() {
	hold_open listed --to "$vip:$port"
	unlist "$vip" "$port" tcp
	exchange listed
	at_least "$(made_by_a_request)" 1 "conntrack entries of a request while unlisted"
	hold_open unlisted --to "$vip:$port"
	whitelist "$vip" "$port" tcp 7
	exchange unlisted
	exchange listed
	equal "$(made_by_a_request)" 0 "conntrack entries of a request while listed"
	hold_close listed
	hold_close unlisted
	sleep 200
	no_maps_left
}

# 1,000 requests from one client port, with connections of the same ends still in TIME_WAIT.
reuse() {
	local answer median max
	answer=$(client_requests --to "$vip:$port" --count 1000 --source-port 33333 --latency)
	median=$(field medianUs "$answer") max=$(field maxUs "$answer")
	note "$1: 1,000 requests from one port, median $median us, longest $max us, the real server changed $(field alternations "$answer") times"
	answered "$answer" 1000
	[ "$1" = native ] || at_most $((max - median)) 20000 "longest above the median, us"
	[ "$1" = native ] || equal "$(field alternations "$answer")" 999 "changes of the real server"
	# Each of them accelerated, and what the one before had is gone.
	[ "$1" = native ] || equal "$(sessions)/$(replies)" 1/1 "sessions/reply entries"
}

# tc ingress forwards established connections while modules are exchanged.
outlives_the_module_and_ends_with_the_next() {
	for_families requests 10
	equal "$(sessions)" 20 sessions
	in_director ipvsadm -C
	detach srv1
	detach srv2
	remove_modules
	equal "$(sessions)" 20 "sessions without a module"
	insert_patched_module
	hand_over
	no_maps_left
	remove_modules
}

ends_with_its_namespace() {
	net_down
	NET_DIRECTOR=director
	set_up
	accelerate_director
	for_families requests 10
	equal "$(sessions)" 20 sessions
	# Programs on its links keep their maps, the pins do so anyway.
	ip netns del director
	sleep 3
	no_maps_left
	remove_modules
}

accelerate_director() {
	modprobe ip_vs_rr
	attach srv1
	attach srv2
	snat_addresses
	hand_over
	set_switch 1
	for_families virtual_servers
	for_families whitelist_one
}

whitelist_one() { whitelist "$vip" "$port" tcp 1; }

native_cases() {
	virtual_servers
	it "native, $ip: reuses a client port" reuse native
	sleep 200
	in_director ipvsadm -C
}

accelerated_cases() {
	whitelist "$vip" "$port" tcp 1
	virtual_servers
	it "accelerated, $ip: reuses a client port, at once and scheduled anew" reuse accelerated
	sleep 200
	it "ends by timeout, $ip" ends_by_timeout
	it "ends when its real server is deleted, $ip" ends_with_its_real_server
	it "ends by flush, $ip" ends_by_flush
	it "ends by timeout after a flush that leaves connections, $ip" ends_after_a_flush_by_timeout
	it "keeps open connections through off and on, $ip" open_connections_survive_the_switch
	it "carries connections to their end while off, $ip" stays_until_the_last_has_ended
	it "keeps open connections when the whitelist changes, $ip" open_connections_survive_the_whitelist
	in_director ipvsadm -C
}

set_up
insert_patched_module
masquerade
for_families native_cases
load_programs
attach srv1
attach srv2
snat_addresses
hand_over
set_switch 1
for_families accelerated_cases
for_families virtual_servers
it 'outlives the module, and ends with the next one' outlives_the_module_and_ends_with_the_next
rm -r "$PINS"
insert_patched_module
load_programs
it 'ends when its network namespace is deleted' ends_with_its_namespace
finish
