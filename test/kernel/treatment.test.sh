#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# What else happens to a packet of a virtual server, and must go on to happen: natively and accelerated, IPv4 and
# IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

set_up() {
	net_up
	serve_both rs1 rs2 "$NET_DIRECTOR"
	in_director sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.cli.rp_filter=1
}

virtual_servers() {
	virtual_servers_of_family
	virtual_server -t 81 rr "$local_rip:8080"
	virtual_server -u 54 rr "$local_rip:5300"
	in_director ipvsadm -A -t "$vip:82" -s rr -p 300
	in_director ipvsadm -a -t "$vip:82" -r "$rip1:8080" -m
	in_director ipvsadm -a -t "$vip:82" -r "$rip2:8080" -m
}

# Sources that the stack refuses: by rp_filter, which only IPv4 has, and those that no packet may have.
foreign_sources() {
	if [ "$family" = 4 ]; then
		echo 10.2.1.77 127.0.0.5
	else
		echo '[::1]' '[ff0e::1]'
	fi
}

spoofed_source_makes_no_connection() {
	local before source
	before=$(connections)
	for source in $(foreign_sources); do
		in_client "$LOAD" spoof --from "$source:7000" --to "$vip:80" --count 5 >/dev/null
		in_client "$LOAD" spoof --from "$source:7000" --to "$vip:53" --count 5 --udp >/dev/null
	done
	equal "$(connections)" "$before" connections
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
	local id=0 server
	for server in '80 tcp' '53 udp' '81 tcp' '54 udp' '82 tcp'; do
		# shellcheck disable=SC2086 # port and protocol
		whitelist "$vip" $server $((++id))
	done
}

accelerated_cases() {
	cases accelerated
	it "needs no virtual address on the director, $ip" virtual_address_need_not_be_local
	it "makes no conntrack entry with a local real server, $ip" no_conntrack local_real_server
}

last_case() {
	it "keeps the address of clients that are not to be translated, $ip" keeps_the_clients_address
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
# From here on real servers reach clients directly.
net_routes
for_families last_case
sleep 1300
it 'leaves no session behind' equal "$(connections)/$(sessions)/$(replies)" 0/0/0
finish
