#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.1
# What else happens to a packet of a virtual server, and must go on to happen: natively and accelerated, IPv4 and
# IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

set_up() {
	net_up
	serve_both rs1 rs2 "$NET_DIRECTOR"
	in_director sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.cli.rp_filter=1
}

schedulers=(rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh)
load_schedulers() { modprobe -a "${schedulers[@]/#/ip_vs_}"; }

virtual_servers() {
	local port=9000 scheduler
	virtual_servers_of_family
	virtual_server -t 85 rr "$rip1:8080"
	virtual_server -t 86 rr "$rip1:8080"
	virtual_server -t 87 rr "$rip1:8080"
	virtual_server -u 87 rr "$rip1:5300"
	for scheduler in "${schedulers[@]}"; do
		port=$((port + 1))
		virtual_server -t "$port" "$scheduler" "$rip1:8080"
		in_director ipvsadm -a -t "$vip:$port" -r "$rip2:8080" -m -w 3
	done
	virtual_server -t 81 rr "$local_rip:8080"
	virtual_server -u 54 rr "$local_rip:5300"
	in_director ipvsadm -A -t "$vip:82" -s rr -p 300
	in_director ipvsadm -a -t "$vip:82" -r "$rip1:8080" -m
	in_director ipvsadm -a -t "$vip:82" -r "$rip2:8080" -m
}

# Sources that the stack refuses: by rp_filter, which only IPv4 has, as its own address, and those that no packet may
# have.
foreign_sources() {
	if [ "$family" = 4 ]; then
		echo 10.2.1.77 "$vip" 127.0.0.5
	else
		echo '[::1]' '[ff0e::1]'
	fi
}

# Those of others end meanwhile.
spoofed_source_makes_no_connection() {
	local source
	for source in $(foreign_sources); do
		in_client "$LOAD" spoof --from "$source:7000" --to "$vip:80" --count 5 >/dev/null
		in_client "$LOAD" spoof --from "$source:7000" --to "$vip:53" --count 5 --udp >/dev/null
	done
	equal "$(in_director ipvsadm -Lcn | grep -c ':7000 ')" 0 "connections of these sources"
}

# IP options or an extension header, in some packets of a connection and from its first on.
options_change_nothing() {
	local before
	hold_open options --udp --to "$vip:53"
	before=$(exchange options)
	equal "$(exchange options o)" "$before" "what the real server sees with options"
	hold_close options
	hold_open options --to "$vip:80"
	before=$(exchange options)
	equal "$(exchange options o)" "$before" "what the real server sees with options"
	hold_close options
	hold_open options --udp --to "$vip:53"
	before=$(exchange options o)
	equal "$(exchange options)" "$before" "what the real server sees with options"
	hold_close options
}

local_real_server() {
	local answer
	answer=$(client_requests --to "$vip:81" --count 5)
	answered "$answer" 5
	equal "$(field servers "$answer")" "{\"$NET_DIRECTOR\":5}" "$answer servers"
	answer=$(client_udp --to "$vip:54" --count 5 --size 3000 --reply-size 3000)
	answered "$answer" 5
}

weight_zero_takes_no_new_connections() {
	local answer
	hold_open weight --to "$vip:80"
	answer=$(exchange weight)
	in_director ipvsadm -e -t "$vip:80" -r "$rip1:8080" -m -w 0
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 0
	equal "$(field server "$(exchange weight)")" "$(field server "$answer")" "real server of the open connection"
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 1
	answer=$(client_requests --to "$vip:80" --count 6)
	in_director ipvsadm -e -t "$vip:80" -r "$rip1:8080" -m -w 1
	equal "$(field servers "$answer")" '{"rs2":6}' "$answer servers"
	hold_close weight
}

expire_nodest_conn_ends_connections() {
	local first other
	in_director sysctl -qw net.ipv4.vs.expire_nodest_conn=1
	hold_open nodest --udp --to "$vip:53" --source-port 4100
	first=$(field server "$(exchange nodest)")
	[ "$first" = rs1 ] && other=rs2 || other=rs1
	in_director ipvsadm -d -u "$vip:53" -r "$([ "$first" = rs1 ] && echo "$rip1" || echo "$rip2"):5300"
	# The packet that finds the real server gone is lost; the next is scheduled anew.
	exchange nodest >/dev/null || true
	equal "$(field server "$(exchange nodest)")" "$other" "real server after the first was deleted"
	in_director ipvsadm -a -u "$vip:53" -r "$([ "$first" = rs1 ] && echo "$rip1" || echo "$rip2"):5300" -m
	hold_close nodest
}

# A real server gets no connection any more from a second after its weight became 0 on; no request fails or waits for
# that, and what is open stays.
is_taken_out_under_load() {
	local answer arrived load name rip
	hold_open stays --to "$vip:80"
	name=$(field server "$(exchange stays)")
	rip=$([ "$name" = rs1 ] && echo "$rip1" || echo "$rip2")
	client_requests --to "$vip:80" --count 300 --gap-ms 10 --latency >"$NET_RUN/load" &
	load=$!
	sleep 0.5
	in_director ipvsadm -e -t "$vip:80" -r "$rip:8080" -m -w 0
	sleep 1
	in_ns "$name" nft -f - <<-RULES
		table inet begun {
			chain input {
				type filter hook input priority 0
				tcp flags & (syn | ack) == syn counter
			}
		}
	RULES
	wait "$load"
	answer=$(cat "$NET_RUN/load")
	arrived=$(in_ns "$name" nft list table inet begun | awk '/packets/ { for (i = 1; i < NF; i++) if ($i == "packets") print $(i + 1) }')
	in_ns "$name" nft delete table inet begun
	equal "$(field server "$(exchange stays)")" "$name" "real server of the open connection"
	in_director ipvsadm -e -t "$vip:80" -r "$rip:8080" -m -w 1
	hold_close stays
	answered "$answer" 300
	at_most "$(field maxUs "$answer")" 200000 "longest request, us"
	equal "$arrived" 0 "connections begun with $name after a second"
}

# As soon as the last real server is gone, over TCP and UDP.
refuses_without_real_servers() {
	local answer
	answered "$(client_requests --to "$vip:87" --count 2)" 2
	answered "$(client_udp --to "$vip:87" --count 2)" 2
	in_director ipvsadm -d -t "$vip:87" -r "$rip1:8080"
	in_director ipvsadm -d -u "$vip:87" -r "$rip1:5300"
	# Of errors there are only so many in a while.
	sleep 20
	answer=$(client_requests --to "$vip:87" --count 1 --latency) || true
	equal "$(field errors "$answer")" '{"ECONNREFUSED":1}' "$answer errors"
	# On one processor the error comes while connect() has the socket locked, and counts with the next SYN.
	at_most "$(field maxUs "$answer")" 1500000 "refusal, us"
	sleep 20
	answer=$(client_probe --to "$vip:87")
	equal "$(field errno "$answer")/$(field from "$answer")" "ECONNREFUSED/$vip" "$answer errno/sender"
	in_director ipvsadm -a -t "$vip:87" -r "$rip1:8080" -m
	in_director ipvsadm -a -u "$vip:87" -r "$rip1:5300" -m
	answered "$(client_requests --to "$vip:87" --count 2)" 2
}

# Connections to each scheduler's virtual server, one after the other: a line of who got how many.
spread() {
	local answer port=9000 scheduler
	for scheduler in "${schedulers[@]}"; do
		port=$((port + 1))
		answer=$(client_requests --to "$vip:$port" --count 8)
		answered "$answer" 8
		echo "$scheduler $(field servers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)"
	done
}

declare -A native_spread
schedules_as_natively() {
	local now
	now=$(spread)
	note "$ip: $(tr '\n' ' ' <<<"$now")"
	equal "$now" "${native_spread[$family]}" "real servers by scheduler"
}

# One client port, two virtual servers, one real server. Stock IPVS takes the answers of one for the other's.
one_port_for_two_virtual_servers() {
	local first second
	hold_open first --to "$vip:85" --source-port 4700
	hold_open second --to "$vip:86" --source-port 4700
	# No path is as old as that: IPVS sees the next request of each, and must not see the answers, which it could not
	# tell from each other.
	sleep 3
	for _ in 1 2; do
		first=$(exchange first)
		second=$(exchange second)
	done
	equal "$(field server "$first")/$(field server "$second")" rs1/rs1 "real servers"
	fails equal "$(field port "$first")" "$(field port "$second")" "ports that it sees: the first"
	hold_close first
	exchange second >/dev/null
	hold_close second
}

# The client is the real server.
reaches_itself() {
	local answer
	in_rs1 ip "-$family" route add "$(bare "$vip")" via "$(bare "$dip1")"
	answer=$(in_rs1 "$LOAD" requests --timeout-ms 5000 --deadline 100 --who --to "$vip:85" --count 10) || true
	answered "$answer" 10
	equal "$(field peers "$answer")" "{\"$dip1\":10}" "clients that it sees"
	answer=$(in_rs1 "$LOAD" transfer --to "$vip:85" --bytes 200000 --deadline 100)
	equal "$(field ok "$answer")" true "$answer"
	in_rs1 ip "-$family" route del "$(bare "$vip")" via "$(bare "$dip1")"
}

client_on_the_director() {
	answered "$(in_director "$LOAD" requests --timeout-ms 5000 --deadline 100 --who --to "$vip:80" --count 10)" 10
}

# The mark is set behind where accelerated requests are taken, and so they are not: the native path has them.
firewall_mark() {
	local of=ip ipv6=() answer
	[ "$family" = 4 ] || of=ip6 ipv6=(-6)
	in_director nft -f - <<-RULES
		table inet marks {
			chain prerouting {
				type filter hook prerouting priority mangle
				$of daddr $(bare "$vip") tcp dport 8088 meta mark set 9
			}
		}
	RULES
	in_director ipvsadm -A -f 9 "${ipv6[@]}" -s rr
	in_director ipvsadm -a -f 9 "${ipv6[@]}" -r "$rip1:8080" -m
	answer=$(client_requests --to "$vip:8088" --count 4) || true
	in_director ipvsadm -D -f 9 "${ipv6[@]}"
	in_director nft delete table inet marks
	answered "$answer" 4
}

persistence_keeps_the_real_server() {
	local answer
	answer=$(client_requests --to "$vip:82" --count 10)
	answered "$answer" 10
	equal "$(field alternations "$answer")" 0 "changes of the real server"
}

persistence_ends() {
	# The template lives as long as its connections (TIME_WAIT: 120 s) and 300 s more.
	sleep 900
	equal "$(connections)" 0 "connections and templates"
}

cases() {
	it "$1, $ip: spoofed sources make no connection" spoofed_source_makes_no_connection
	it "$1, $ip: a real server on the director itself" local_real_server
	it "$1, $ip: weight 0 takes no new connections and keeps the open ones" weight_zero_takes_no_new_connections
	it "$1, $ip: a real server that is taken out under load" is_taken_out_under_load
	it "$1, $ip: no real server is left" refuses_without_real_servers
	it "$1, $ip: a client that is the real server" reaches_itself
	it "$1, $ip: a client on the director itself" client_on_the_director
	it "$1, $ip: a virtual server of a firewall mark" firewall_mark
	it "$1, $ip: expire_nodest_conn ends connections of a deleted real server" expire_nodest_conn_ends_connections
	it "$1, $ip: persistence keeps a client's real server" persistence_keeps_the_real_server
	it "$1, $ip: persistence ends" persistence_ends
	it "$1, $ip: options and extension headers change nothing" options_change_nothing
}

virtual_address_need_not_be_local() {
	local answer
	delete_virtual_address
	answer=$(client_requests --to "$vip:80" --count 4) || true
	add_virtual_address
	answered "$answer" 4
}

keeps_the_clients_address() {
	local answer
	whitelist "$vip" 80 tcp 1 "$SNAT_NEVER"
	answer=$(client_requests --to "$vip:80" --count 4)
	whitelist "$vip" 80 tcp 1
	answered "$answer" 4
	equal "$(field peers "$answer")" "{\"$cip\":4}" "clients that the real servers see"
	equal "$(field servers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)" rs1:2,rs2:2 servers
}

whitelist_all() {
	local id=0 server port
	for server in '80 tcp' '53 udp' '81 tcp' '54 udp' '82 tcp' '85 tcp' '86 tcp' '87 tcp' '87 udp' '8088 tcp'; do
		# shellcheck disable=SC2086 # port and protocol
		whitelist "$vip" $server $((++id))
	done
	for port in $(seq 9001 $((9000 + ${#schedulers[@]}))); do
		whitelist "$vip" "$port" tcp $((++id))
	done
}

native_cases() {
	cases native
	native_spread[$family]=$(spread)
}

accelerated_cases() {
	cases accelerated
	it "has every scheduler choose as natively, $ip" schedules_as_natively
	it "has one client port for two virtual servers, $ip" no_conntrack one_port_for_two_virtual_servers
	it "needs no virtual address on the director, $ip" virtual_address_need_not_be_local
	it "makes no conntrack entry with a local real server, $ip" no_conntrack local_real_server
}

last_case() {
	it "keeps the address of clients that are not to be translated, $ip" keeps_the_clients_address
}

set_up
insert_stock_module
load_schedulers
masquerade
for_families virtual_servers
for_families native_cases
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate
load_schedulers
masquerade
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
# From here on real servers reach clients directly.
net_routes
for_families last_case
sleep 1300
it 'leaves no session behind' equal "$(connections)/$(sessions)/$(replies)" 0/0/0
finish
