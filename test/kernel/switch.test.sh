#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: smp=2 timeout=900 kernels=6.1
# The switch and the whitelist change while connections are open and requests come in, and clients ask twice at once on
# two processors: IPv4 and IPv6. As many pairs of questions as a resolver's day may have:
#   VM_THREADS=multi IPVS_BPF_PAIRS=100000 npm run vm -- --timeout 3600 test/kernel/switch.test.sh
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

open_both() { # NAME
	hold_open "$1" --to "$vip:80"
	hold_open "$1-udp" --udp --to "$vip:53"
	exchange "$1" >/dev/null
	exchange "$1-udp" >/dev/null
}

# Both connections of that name still work, in both directions, to the same real server.
still_open() {
	local name before
	for name in "$1" "$1-udp"; do
		before=$(exchange "$name")
		equal "$(exchange "$name")" "$before" "what the real server of $name sees"
	done
	equal "$(field ok "$(exchange "$1" "u 200000")")" true "upload over $1"
}

new_ones_are() { # native|accelerated
	local made
	conntrack_count_start
	answered "$(client_requests --to "$vip:80" --count 5)" 5
	made=$(conntrack_count_stop)
	if [ "$1" = native ]; then
		at_least "$made" 5 "conntrack entries made"
	else
		equal "$made" 0 "conntrack entries made"
	fi
}

switch_on_under_native_connections() {
	open_both native
	set_switch 1
	still_open native
	new_ones_are accelerated
	still_open native
}

switch_off_under_accelerated_connections() {
	open_both fast
	at_least "$(sessions)" 2 sessions
	set_switch 0
	still_open fast
	still_open native
	new_ones_are native
	still_open fast
}

switch_on_again() {
	set_switch 1
	still_open fast
	still_open native
	new_ones_are accelerated
}

unlist_under_accelerated_connections() {
	unlist "$vip" 80 tcp
	unlist "$vip" 53 udp
	still_open fast
	still_open native
	new_ones_are native
}

list_again() {
	# An id is never given to another virtual server; the same one may have its own again.
	whitelist_both
	still_open fast
	still_open native
	new_ones_are accelerated
}

# As clients do that make many connections: natively the port's old connection is over, and so is it here.
accelerates_a_port_that_a_native_connection_had() {
	local before
	before=$(in_client sysctl -n net.ipv4.ip_local_port_range)
	set_switch 0
	in_client sysctl -qw net.ipv4.ip_local_port_range="20000 20001"
	new_ones_are native
	set_switch 1
	new_ones_are accelerated
	in_client sysctl -qw net.ipv4.ip_local_port_range="$before"
}

pairs_of_questions() { # COUNT TIMEOUT_MS
	in_client "$LOAD" pairs --to "$vip:53" --count "$1" --timeout-ms "$2" --deadline 1800 || true
}

# As a resolver that asks for A and AAAA: none is lost, and one server answers both. Beside it, what stock IPVS with
# conntrack makes of it. Unless VM_THREADS is multi, the processors take turns, and only now and then in between.
answers_questions_at_once() {
	local answer count=${IPVS_BPF_PAIRS:-2000}
	set_switch 0
	note "$ip, natively: $(pairs_of_questions 300 300)"
	set_switch 1
	# So that there are ports for all of them.
	in_director ipvsadm --set 0 0 10
	answer=$(pairs_of_questions "$count" 2000)
	in_director ipvsadm --set 0 0 300
	note "$ip, accelerated: $answer"
	equal "$(field whole "$answer")" "$count" "$answer pairs that one server answered"
	[ "${VM_THREADS:-}" != multi ] || at_least "$(field atOnce "$answer")" $((count / 10)) "pairs within 10 us"
}

close_all() {
	local name
	for name in native native-udp fast fast-udp; do
		hold_close "$name"
	done
}

no_request_fails_while() { # COMMAND…
	local i pids=() answers=() rc=0
	for i in 1 2; do
		client_requests --to "$vip:80" --count 400 >"$NET_RUN/answer$i" &
		pids+=($!)
	done
	client_udp --to "$vip:53" --count 400 --size 2000 >"$NET_RUN/answer3" &
	pids+=($!)
	"$@"
	for i in "${pids[@]}"; do wait "$i" || rc=1; done
	for i in 1 2 3; do answers+=("$(cat "$NET_RUN/answer$i")"); done
	equal "$rc" 0 "${answers[*]}"
}

turn_the_switch() {
	local i
	for i in $(seq 20); do
		set_switch $((i % 2))
		sleep 0.2
	done
	set_switch 1
}

change_the_whitelist() {
	local i
	for i in $(seq 20); do
		unlist "$vip" 80 tcp
		unlist "$vip" 53 udp
		sleep 0.1
		whitelist_both
		sleep 0.1
	done
}

hooks_go_with_the_last_connection() {
	set_switch 0
	at_least "$(cat "$VS/bpf_conns")" 100 "accelerated connections after off"
	equal "$("$MAPS" write "$VS/bpf_maps" none)" EBUSY "taking the maps back under them"
	# Their ends, without waiting for TIME_WAIT.
	in_director sysctl -qw net.ipv4.vs.expire_nodest_conn=1
	in_director ipvsadm -C
	sleep 2
	equal "$(sessions)/$(replies)" 0/0 "sessions/SNAT ends"
	equal "$(cat "$VS/bpf_conns")" 0 "accelerated connections"
	equal "$("$MAPS" write "$VS/bpf_maps" none)" 0 "taking the maps back, which needs the hooks gone"
}

cases() {
	set_switch 0
	it "is switched on under native connections, $ip" switch_on_under_native_connections
	it "is switched off under accelerated connections, $ip" switch_off_under_accelerated_connections
	it "is switched on again, $ip" switch_on_again
	it "loses whitelist entries under accelerated connections, $ip" unlist_under_accelerated_connections
	it "gets them back, $ip" list_again
	close_all
	it "takes a port that a native connection had, $ip" accelerates_a_port_that_a_native_connection_had
	it "answers two questions at once, from one server, $ip" answers_questions_at_once
	it "loses no request while the switch turns, $ip" no_request_fails_while turn_the_switch
	it "loses no request while the whitelist changes, $ip" no_request_fails_while change_the_whitelist
}

net_up
serve_both rs1 rs2
accelerate
virtual_servers_of_both
whitelist_both
for_families cases
it 'keeps its hooks until the last accelerated connection ends' hooks_go_with_the_last_connection
finish
