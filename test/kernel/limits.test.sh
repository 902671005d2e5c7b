#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.1
# What happens when something is used up (SNAT ports, sessions, conntrack entries), and that nothing is left of
# many short connections, however they end. IPv4 and IPv6. For a million of them instead of some thousand:
#   IPVS_BPF_CONNECTIONS=1000000 npm run vm -- --icount --timeout 36000 test/kernel/limits.test.sh
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

# Of both families together, in rounds that fit the session map and the pool of ports.
connections_to_make=${IPVS_BPF_CONNECTIONS:-3000}
a_round=480

SNAT_FIRST=20000 SNAT_LAST=20999 SESSIONS=2048
pool=$((SNAT_LAST - SNAT_FIRST + 1))

virtual_servers() {
	virtual_server -t 80 rr "$rip1:8080" "$rip2:8080"
	virtual_server -t 81 rr "$rip1:8080"
	virtual_server -t 82 rr "$rip1:8080"
	virtual_server -u 53 rr "$rip1:5300"
	virtual_server -u 54 rr "$rip1:5300" "$rip2:5300"
	virtual_server -u 56 rr "$rip1:5300"
	in_director ipvsadm -A -u "$vip:55" -s rr -o
	in_director ipvsadm -a -u "$vip:55" -r "$rip1:5300" -m
}

# 82 and 56 are native.
whitelist_all() {
	whitelist "$vip" 80 tcp 1
	whitelist "$vip" 81 tcp 2 $((SNAT_ALWAYS | DROP_ON_FULL))
	whitelist "$vip" 53 udp 3
	whitelist "$vip" 54 udp 4
	whitelist "$vip" 55 udp 5
}

# Of conntrack, while one side has sent and when both have.
udp_timeouts() { # SECONDS SECONDS
	in_director sysctl -qw net.netfilter.nf_conntrack_udp_timeout="$1" net.netfilter.nf_conntrack_udp_timeout_stream="$2"
}

# Datagrams of one client that each begin a connection, and that no server answers.
datagrams_from() { # PORT COUNT
	in_client "$LOAD" spoof --udp --from "$cip:$1" --to "$vip:53" --count "$2"
}

# With expire_nodest_conn, which ends connections at once.
end_all() {
	in_director ipvsadm -C
	sleep 2
	equal "$(connections)/$(sessions)/$(replies)" 0/0/0 "connections/sessions/SNAT ends"
	for_families virtual_servers
}

# Ports in the reply entries: a line each.
snat_ports() { "$MAPS" dump "$PINS/ipvs_replies" | cut -c37-40 | while read -r port; do echo $((0x$port)); done; }

uses_up_the_pool() {
	local before normal refused ports
	before=$(counter DROP_NO_PORT)
	normal=$(field nsPerPacket "$(datagrams_from 10000 "$pool")")
	equal $(($(counter DROP_NO_PORT) - before)) 0 "packets without a port"
	ports=$(snat_ports | sort -un)
	equal "$(wc -l <<<"$ports")" "$pool" "ports in use"
	equal "$(head -1 <<<"$ports")-$(tail -1 <<<"$ports")" "$SNAT_FIRST-$SNAT_LAST" "lowest and highest"
	refused=$(field nsPerPacket "$(datagrams_from 20000 1000)")
	note "$ip: $normal instructions for a connection's first packet, $refused for one without a port"
	equal $(($(counter DROP_NO_PORT) - before)) 1000 "packets without a port"
	equal "$(replies)" "$pool" "ports in use"
	at_most "$refused" $((5 * normal)) "instructions for a packet without a port"
}

# After the second for which the pool is known to be exhausted.
frees_the_ports() {
	end_all
	sleep 1.1
	answered "$(client_udp --to "$vip:53" --count 10)" 10
	end_all
}

# Flows that are natively masqueraded have four ports of the pool.
leaves_the_ports_of_native_flows() {
	local name
	masquerade_to "$SNAT_FIRST-$((SNAT_FIRST + 3))"
	for name in 1 2 3 4; do
		hold_open "native$name" --udp --to "$vip:56"
		exchange "native$name" >/dev/null
	done
	datagrams_from 10000 "$pool" >/dev/null
	equal "$(replies)" $((pool - 4)) "ports in use"
	for name in 1 2 3 4; do
		exchange "native$name" >/dev/null
		hold_close "native$name"
	done
	in_director nft delete table inet ports
	end_all
}

# masquerade_to FIRST-LAST: before what masquerades otherwise.
masquerade_to() {
	in_director nft -f - <<-RULES
		table inet ports {
			chain postrouting {
				type nat hook postrouting priority 90
				meta l4proto { tcp, udp } oifname "srv1" masquerade to :$1
			}
		}
	RULES
}

# hold_ports_in_a_row COUNT: of as many sessions, unless the pool's last port was among them. Sets `range`.
hold_ports_in_a_row() {
	local ports
	HOLD_AS=crowd hold_open sessions --to "$vip:81" --count "$1"
	exchange sessions >/dev/null
	ports=$(snat_ports | sort -n)
	range=$(head -1 <<<"$ports")-$(tail -1 <<<"$ports")
	[ $((${range#*-} - ${range%-*} + 1)) = "$1" ]
}

# Ports that sessions have, and no others, are what native connections are given. The host's own are masqueraded, too.
gives_native_flows_other_ports() {
	local before name range
	before=$(counter NATIVE_MOVED)
	hold_ports_in_a_row 20 || {
		hold_close sessions
		end_all
		hold_ports_in_a_row 20
	}
	masquerade_to "$range"
	answered "$(client_requests --to "$vip:82" --count 30)" 30
	answered "$(in_director "$LOAD" requests --to "$vip:82" --count 5)" 5
	equal $(($(counter NATIVE_MOVED) - before)) 35 "native connections that were moved"
	exchange sessions >/dev/null
	hold_close sessions
	in_director nft delete table inet ports
	datagrams_from 10000 "$pool" >/dev/null
	masquerade_to "$SNAT_FIRST-$SNAT_LAST"
	for name in 1 2; do
		hold_open "native$name" --udp --to "$vip:56"
		exchange "native$name" >/dev/null
		exchange "native$name" >/dev/null
		hold_close "native$name"
	done
	equal $(($(counter NATIVE_MOVED) - before)) 37 "native connections that were moved, with UDP"
	# Wherever the search for a port begins, also where all that follow are taken.
	answered "$(client_udp --to "$vip:56" --count 400)" 400
	# The case before may have left the pool ports that native flows had.
	at_least $(($(counter NATIVE_MOVED) - before)) 430 "native connections that were moved, with many"
	in_director nft delete table inet ports
	end_all
}

fill_the_sessions() {
	datagrams_from 10000 $((SESSIONS + 100)) >/dev/null
	at_least "$(sessions)" "$SESSIONS" sessions
}

leaves_to_the_native_path_when_full() {
	local answer before full
	hold_open kept --to "$vip:80"
	exchange kept >/dev/null
	fill_the_sessions
	full=$(sessions) before=$(counter BYPASS_MAP_FULL)
	answer=$(client_requests --to "$vip:80" --count 20 --latency)
	answered "$answer" 20
	at_most "$(field maxUs "$answer")" 100000 "longest request, us"
	equal $(($(counter BYPASS_MAP_FULL) - before)) 20 "connections left to the native path"
	equal "$(sessions)" "$full" sessions
	exchange kept >/dev/null
}

refuses_when_full() {
	local answer before full
	full=$(sessions) before=$(counter DROP_MAP_FULL)
	answer=$(client_requests --to "$vip:81" --count 3 --timeout-ms 500) || true
	equal "$(field answered "$answer")/$(field failed "$answer")" 0/3 "$answer answered/failed"
	at_least $(($(counter DROP_MAP_FULL) - before)) 3 "packets refused"
	equal "$(sessions)" "$full" sessions
	equal "$(in_director ipvsadm -Lcn | grep -cF "$(bare "$vip"):81")" 0 "connections of what was refused"
	exchange kept >/dev/null
	hold_close kept
	end_all
	answered "$(client_requests --to "$vip:81" --count 5)" 5
}

# A native connection is what there is room for.
conntrack_is_full() {
	local answer most
	most=$(in_director sysctl -n net.netfilter.nf_conntrack_max)
	hold_open native --to "$vip:82"
	in_director sysctl -qw net.netfilter.nf_conntrack_max=1
	answer=$(client_requests --to "$vip:82" --count 1 --timeout-ms 500) || true
	equal "$(field answered "$answer")" 0 "native requests answered"
	answer=$(client_requests --to "$vip:80" --count 20) || true
	in_director sysctl -qw net.netfilter.nf_conntrack_max="$most"
	hold_close native
	answered "$answer" 20
	end_all
}

# An address on the client's link that nobody has.
nobody() { by_family 10.1.0.77 '[fd00:1::77]'; }
by_family() { [ "$family" = 4 ] && echo "$1" || echo "$2"; }

# The six ways that a connection ends, by as many of each; a round's last is a flush, or timers.
every_way() { # COUNT
	answered "$(client_requests --to "$vip:80" --count "$1")" "$1"
	answered "$(client_requests --to "$vip:80" --count "$1" --reset)" "$1"
	# Nobody answers the real server there.
	in_client "$LOAD" spoof --from "$(nobody):1024" --to "$vip:80" --count "$1" >/dev/null
	answered "$(client_udp --to "$vip:54" --count "$1")" "$1"
	in_client "$LOAD" spoof --udp --from "$cip:30000" --to "$vip:55" --count "$1" >/dev/null
	datagrams_from 40000 "$1" >/dev/null
}

rounds() { # COUNT
	local number
	for number in $(seq "$1"); do
		for_families every_way $((a_round / 12))
		if [ $((number % 2)) = 0 ]; then end_all; else sleep 400; fi
	done
}

calls_of() { awk -v name="$1" '$1 == name { print $2 }' "$tracing/kprobe_profile"; }
unreclaimable_kb() { awk '/^SUnreclaim/ { print $2 }' /proc/meminfo; }

nothing_is_left_of_many() {
	local before count made freed one_packet
	in_director ipvsadm --set 900 120 300
	udp_timeouts 30 120
	# What grows once: caches, tables of neighbours.
	rounds 2
	count=$(((connections_to_make + a_round - 1) / a_round / 2 * 2))
	before=$(unreclaimable_kb)
	echo 'p:ipvs_bpf_test/made ip_vs_conn_new' >>"$tracing/kprobe_events"
	echo 'p:ipvs_bpf_test/freed ip_vs_conn_rcu_free' >>"$tracing/kprobe_events"
	echo 1 >"$tracing/events/ipvs_bpf_test/enable"
	rounds "$count"
	sleep 400
	made=$(calls_of made) freed=$(calls_of freed)
	echo 0 >"$tracing/events/ipvs_bpf_test/enable"
	echo '-:ipvs_bpf_test/made' >>"$tracing/kprobe_events"
	echo '-:ipvs_bpf_test/freed' >>"$tracing/kprobe_events"
	note "$made connections made, $freed freed; $(($(unreclaimable_kb) - before)) KB of slabs more"
	at_least "$made" $((count * a_round)) "connections made"
	# Those of one packet are freed at once, and not by that function. They are made twice: PRE_ROUTING schedules the
	# packet and finds that it does not take such connections, and then the native path does.
	one_packet=$((count * a_round / 3))
	equal $((freed + one_packet)) "$made" "connections freed"
	equal "$(connections)/$(sessions)/$(replies)" 0/0/0 "connections/sessions/SNAT ends"
	equal "$("$MAPS" count "$PINS/ipvs_frags")" 0 "remembered fragments"
	equal "$(cat "$VS/bpf_conns")" 0 "connections that the module counts"
	at_most $(($(unreclaimable_kb) - before)) 1024 "KB of slabs more"
}

cases() {
	it "uses every port of the pool, and refuses the rest cheaply, $ip" uses_up_the_pool
	it "has ports again when connections have ended, $ip" frees_the_ports
	it "leaves the ports of native flows to them, $ip" leaves_the_ports_of_native_flows
	it "gives native flows no port of a session, $ip" gives_native_flows_other_ports
	it "leaves connections to the native path when the session map is full, $ip" leaves_to_the_native_path_when_full
	it "refuses them at once if that is wanted, and keeps nothing of them, $ip" refuses_when_full
	it "does not need a conntrack entry, $ip" conntrack_is_full
}

net_up
serve_both rs1 rs2
accelerate
attach cli
masquerade
in_director sysctl -qw net.ipv4.vs.expire_nodest_conn=1
# The clock may leap: none of the sessions and native flows that are counted ends by itself.
in_director ipvsadm --set 2000 2000 2000
udp_timeouts 2000 2000
for_families virtual_servers
for_families whitelist_all
for_families cases
it 'ends all before many are made' end_all
it 'keeps nothing of many connections, however they end' nothing_is_left_of_many
finish
