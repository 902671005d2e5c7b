#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# Connections that tc ingress begins and ends: it has IPVS schedule them, tells it what it sees, and forwards all of it.
# IPVS says of them what it says natively. IPv4 and IPv6.
NET_IPV6=1 KFUNCS=yes
. "$(dirname "$0")/../net/suite.sh"
. bench/awake.sh

# Packets of requests and replies that went through the IP stack.
slow_packets() { echo $(($(counter SNAT) + $(counter SNAT_KEPT) + $(counter SNAT_REVERSED))); }

requests() { answered "$(client_requests --to "$vip:80" --count "$1")" "$1"; }

# The first connection of a real server goes through IPVS, which learns the routes.
warm_up() { requests 4; }

# begins COUNT COMMAND…: so many connections are begun by tc ingress meanwhile.
begins() {
	local count=$1 before
	before=$(counter BEGUN)
	shift
	"$@"
	equal $(($(counter BEGUN) - before)) "$count" "connections begun"
}

# Of each connection, the acknowledgement of the SYN-ACK and both FINs.
takes_whole_connections() {
	local slow told
	warm_up
	slow=$(slow_packets) told=$(counter TOLD)
	begins 20 no_conntrack requests 20
	equal $(($(slow_packets) - slow)) 0 "packets through the IP stack"
	at_least $(($(counter TOLD) - told)) 60 "segments told"
	at_most $(($(counter TOLD) - told)) 70 "segments told"
}

# Of a connection's ten packets all; two connections may have one place, where the later one is known.
knows_connections_by_sight() {
	local known
	known=$(by_sight requests 10)
	at_least "$known" 95 "packets forwarded by sight"
}

# State of the connection from a port.
conn_of() { in_director ipvsadm -Lcn | awk -v port=":$1" '/^TCP/ && index($4, port) { print $3; exit }'; }
active_and_inactive() { in_director ipvsadm -Ln -t "$vip:80" | awk '/->/ && $NF ~ /[0-9]/ { a += $5; i += $6 } END { print a "/" i }'; }

# A client that says nothing more: SYNs of one port, one after the other.
half_open() { # PORT COUNT
	local _
	for _ in $(seq "$2"); do
		in_client "$LOAD" spoof --from "$cip:$1" --to "$vip:80" --count 1 >/dev/null
		sleep 0.2
	done
}
silence_client() { in_client nft -f - <<<'table inet silent { chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }; }'; }
unsilence_client() { in_client nft delete table inet silent; }

# What IPVS shows of a half-open connection, one that the client resets, and one that it closes.
half_open_one() {
	half_open "$1" 1
	echo "half-open:$(conn_of "$1"):$(active_and_inactive)"
}
reset_one() {
	client_requests --to "$vip:80" --count 1 --reset --source-port "$1" >/dev/null
	echo "reset:$(conn_of "$1")"
}
closed_one() {
	client_requests --to "$vip:80" --count 1 --source-port "$1" >/dev/null
	echo "closed:$(conn_of "$1"):$(active_and_inactive)"
}
shown() {
	sleep 150
	silence_client
	awake half_open_one "$1"
	sleep 150
	unsilence_client
	awake reset_one $(($1 + 1))
	sleep 20
	awake closed_one $(($1 + 2))
}

shows_the_same() { equal "$(shown 4500 | paste -sd' ')" "$1" "states, timers, active and inactive connections"; }
shows_what_it_shows_natively() { begins 3 shows_the_same "$1"; }

# The same connection and real server, whatever is chosen for others meanwhile.
takes_a_syn_that_comes_again() {
	local before
	silence_client
	half_open 4600 1
	before=$(real_server_of 4600)
	half_open 4601 1
	begins 0 half_open 4600 2
	equal "$(real_server_of 4600)" "$before" "connection of the port"
	unsilence_client
	equal "$(replies)" "$(sessions)" "SNAT ends"
}
real_server_of() { in_director ipvsadm -Lcn | awk -v port=":$1" '/^TCP/ && index($4, port) { print $6 }'; }

reuses_a_port() {
	answered "$(client_requests --to "$vip:80" --count 30 --source-port 4700)" 30
}

# By a port whose last connection is in TIME_WAIT, past the IP stack as by any other; unless IPVS is to keep that one.
begins_by_a_used_port() {
	begins 10 no_conntrack reuses_a_port_times 10
	in_director sysctl -qw net.ipv4.vs.conn_reuse_mode=0
	begins 0 reuses_a_port_times 5
	in_director sysctl -qw net.ipv4.vs.conn_reuse_mode=1
	equal "$(in_director ipvsadm -Lcn | grep -c ":4800 ")" 1 "connections of the port"
}
reuses_a_port_times() { answered "$(client_requests --to "$vip:80" --count "$1" --source-port 4800)" "$1"; }

# All of short connections, as an interface has them, and their number.
counts_like_a_capture() {
	local of=ip
	[ "$family" = 4 ] || of=ip6
	# All that was before has been counted.
	sleep 150
	in_director ipvsadm -Z
	in_client nft -f - <<-RULES
		table inet capture {
			counter out {}
			counter in {}
			chain output { type filter hook output priority 0; $of daddr $(bare "$vip") counter name out; }
			chain input { type filter hook input priority 0; $of saddr $(bare "$vip") counter name in; }
		}
	RULES
	begins 25 requests 25
	sleep 135
	set -- "$(in_client nft list counters table inet capture | awk '/packets/ { printf "%s %s ", $2, $4 }')"
	in_client nft delete table inet capture
	set -- "$(awk '{ print 25, $1, $3, $2, $4 }' <<<"$1")"
	equal "$(in_director ipvsadm -Ln --stats --exact -t "$vip:80" | awk '/^TCP/ { print $3, $4, $5, $6, $7; exit }')" "$1" \
		"connections, packets and bytes in and out"
}

# Whoever is to be told of each connection by another director, or to decide by mark, is IPVS itself.
leaves_to_ipvs() { # COMMAND…
	"$@"
	begins 0 requests 5
}
master() { in_director ipvsadm --start-daemon master --mcast-interface cli; }
no_master() { in_director ipvsadm --stop-daemon master; }
mark() { in_director tc filter add dev cli ingress pref 1 matchall action skbedit mark 7 pipe; }
no_mark() { in_director tc filter del dev cli ingress pref 1; }

# A firewall of somebody's own sees what begins a connection.
firewall() {
	in_director nft -f - <<-RULES
		table inet firewall {
			chain pre {
				type filter hook prerouting priority -450
				tcp dport 80 tcp flags syn counter $1
			}
		}
	RULES
}
no_firewall() { in_director nft delete table inet firewall; }
lets_a_firewall_see_it() {
	firewall ''
	begins 0 requests 5
	at_least "$(in_director nft list chain inet firewall pre | grep -o 'packets [0-9]*' | cut -d' ' -f2)" 5 "packets that the firewall saw"
	no_firewall
	firewall drop
	equal "$(field answered "$(in_client "$LOAD" requests --to "$vip:80" --count 2 --timeout-ms 300 --deadline 10 || true)")" 0 answered
	no_firewall
	begins 5 requests 5
}

# As on a node with a bridge: br_netfilter has a hook before all others.
begins_beside_a_bridge() {
	modprobe br_netfilter
	in_director ip link add bridge0 type bridge
	begins 5 requests 5
	in_director ip link del bridge0
}

refused_requests() { client_requests --to "$vip:80" --count 2 || true; }
refuses_without_a_real_server() {
	local answer
	in_director ipvsadm -e -t "$vip:80" -r "$rip1:8080" -m -w 0
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 0
	answer=$(begins 0 refused_requests)
	in_director ipvsadm -e -t "$vip:80" -r "$rip1:8080" -m -w 1
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 1
	equal "$(field answered "$answer")" 0 answered
	equal "$(in_director ipvsadm -Lcn | grep -c SYN_RECV)" 0 "half-open connections"
}

# A persistent client stays with its real server.
keeps_persistence() {
	local answer
	in_director ipvsadm -E -t "$vip:80" -s rr -p 100
	answer=$(client_requests --to "$vip:80" --count 6)
	in_director ipvsadm -E -t "$vip:80" -s rr
	answered "$answer" 6
	equal "$(field servers "$answer" | tr ',' '\n' | grep -c :)" 1 "real servers of $answer"
}

follows_the_switch() {
	set_switch 0
	begins 0 requests 5
	set_switch 1
	begins 5 requests 5
}

# Nobody but the kernel's own probes finds out that the real server has another link address: it does not say so. Of all
# these connections tc ingress sends every packet.
probes_a_neighbour() {
	local before of=net.ipv4.neigh.srv1 request answered=no
	[ "$family" = 4 ] || of=net.ipv6.neigh.srv1
	in_director sysctl -qw "$of.base_reachable_time_ms=2000" "$of.delay_first_probe_time=1"
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 0
	requests 4
	before=$(in_rs1 ip -br link show dev eth0 | awk '{ print $3 }')
	in_rs1 ip link set eth0 address 02:00:00:00:07:08
	for request in {1..20}; do
		client_requests --to "$vip:80" --count 1 --timeout-ms 2000 >/dev/null || continue
		answered=yes
		break
	done
	note "$ip: answered after $request requests"
	in_rs1 ip link set eth0 address "$before"
	in_director ip neigh flush dev srv1
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 1
	in_director sysctl -qw "$of.base_reachable_time_ms=30000" "$of.delay_first_probe_time=5"
	requests 4
	equal "$answered" yes "answered at last"
}

cases() {
	it "takes whole connections past the IP stack, $ip" takes_whole_connections
	it "knows connections by sight, $ip" knows_connections_by_sight
	it "shows states, timers and numbers of connections as natively, $ip" shows_what_it_shows_natively "${native[$family]}"
	it "takes a SYN that comes again, $ip" awake takes_a_syn_that_comes_again
	it "reuses a client port, $ip" reuses_a_port
	it "begins connections by a client port in TIME_WAIT, $ip" awake begins_by_a_used_port
	it "counts short connections like a capture, $ip" counts_like_a_capture
	it "leaves connections to IPVS that it synchronises, $ip" leaves_to_ipvs master
	no_master
	it "leaves packets with a mark to IPVS, $ip" leaves_to_ipvs mark
	no_mark
	it "lets a firewall before it see what begins a connection, $ip" lets_a_firewall_see_it
	it "begins connections beside a bridge, $ip" begins_beside_a_bridge
	it "refuses connections without a real server, $ip" refuses_without_a_real_server
	it "keeps a persistent client's real server, $ip" keeps_persistence
	it "finds out that a neighbour has another address, $ip" probes_a_neighbour
	it "follows the switch, $ip" follows_the_switch
}

holds_the_module() {
	in_director ipvsadm -C
	fails rmmod ip_vs_rr ip_vs
	detach cli
	detach srv1
	detach srv2
	remove_modules
}

declare -A native
native_of_family() {
	native[$family]=$(shown 4500 | paste -sd' ')
	note "$ip natively: ${native[$family]}"
}

net_up
serve_both rs1 rs2
insert_stock_module
virtual_servers_of_both
for_families native_of_family
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate
attach cli
virtual_servers_of_both
whitelist_both
for_families cases
sleep 1000
it 'leaves nothing behind' equal "$(connections)/$(sessions)/$(replies)" 0/0/0
it 'holds the module as long as its programs are there' holds_the_module
finish
