#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900 kernels=6.12
# VLAN devices, bonds and several uplinks with policy routing between director, client and real server; and what
# changes under an open connection: links, addresses, MTUs. The same natively and accelerated, IPv4 and IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

# Ports of the virtual servers, by what the real server is behind.
plain=80 tagged=81 bonded=82

# The client behind two uplinks, and the second virtual address, which has its answers sent by the second.
client_address=10.7.0.7 second_vip=10.9.0.2

# An IPv4 address, or its counterpart; as an end with brackets.
ip_of() { if [ "$family" = 4 ]; then echo "$1"; else ipv6_of "$1"; fi; }
end_of() { if [ "$family" = 4 ]; then echo "$1"; else echo "[$(ipv6_of "$1")]"; fi; }
ip_f() { # NS ARGUMENT…
	local ns=$1
	shift
	in_ns "$ns" ip "-$family" "$@"
}
length() { if [ "$family" = 4 ]; then echo 32; else echo 128; fi; }
net_length() { if [ "$family" = 4 ]; then echo 24; else echo 64; fi; }

# add_addresses NS DEVICE IPV4: a /24, and its /64.
add_addresses() {
	in_ns "$1" ip addr add "$3/24" dev "$2"
	in_ns "$1" ip addr add "$(ipv6_of "$3")/64" dev "$2" nodad
}

add_vlan() { # NS LOWER ID ADDRESS
	in_ns "$1" ip link add link "$2" name "$2.$3" type vlan id "$3"
	in_ns "$1" ip link set "$2.$3" up
	add_addresses "$1" "$2.$3" "$4"
}

# add_bond NS ADDRESS PORT…: the first port carries it until it is down.
add_bond() {
	local ns=$1 address=$2 port
	shift 2
	in_ns "$ns" ip link add bond7 type bond mode active-backup miimon 50
	for port in "$@"; do
		in_ns "$ns" ip addr flush dev "$port"
		in_ns "$ns" ip link set "$port" down
		in_ns "$ns" ip link set "$port" master bond7
	done
	in_ns "$ns" ip link set bond7 up
	add_addresses "$ns" bond7 "$address"
}

# Answers of each virtual address leave by the uplink that its requests come by: rules by the source address.
uplinks_of_family() {
	local table=101 address
	for address in "10.9.0.1 10.1.0.10" "$second_vip 10.8.0.10"; do
		ip_f "$NET_DIRECTOR" route add "$(ip_of "$client_address")/$(length)" via "$(ip_of "${address#* }")" table "$table"
		ip_f "$NET_DIRECTOR" rule add from "$(ip_of "${address% *}")" lookup "$table"
		table=$((table + 1))
	done
	# For a look-up by the real server's address.
	ip_f "$NET_DIRECTOR" route add "$(ip_of "$client_address")/$(length)" via "$(ip_of 10.1.0.10)"
	ip_f client addr add "$(ip_of "$client_address")/$(length)" dev lo
	ip_f client route add "$(ip_of "$second_vip")/$(length)" via "$(ip_of 10.8.0.1)"
	ip_f "$NET_DIRECTOR" addr add "$(ip_of "$second_vip")/$(length)" dev lo
}

set_up() {
	net_up
	modprobe -a 8021q bonding
	net_link client eth2 10.8.0.10 "$NET_DIRECTOR" cli2 10.8.0.1
	net_link rs1 eth2 10.2.3.10 "$NET_DIRECTOR" srv3 10.2.3.1
	net_link rs2 eth2 10.2.4.10 "$NET_DIRECTOR" srv4 10.2.4.1
	net_link rs2 eth3 10.2.5.10 "$NET_DIRECTOR" srv5 10.2.5.1
	add_vlan "$NET_DIRECTOR" srv1 7 10.2.7.1
	add_vlan rs1 eth0 7 10.2.7.10
	add_bond "$NET_DIRECTOR" 10.2.8.1 srv4 srv5
	add_bond rs2 10.2.8.10 eth2 eth3
	for_families uplinks_of_family
	in_director sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.cli.rp_filter=0 net.ipv4.conf.cli2.rp_filter=0 \
		net.ipv6.conf.all.keep_addr_on_down=1
	serve_both rs1 rs2
}

# Every native connection is masqueraded behind the address of the interface that it leaves by.
masquerade_all() {
	in_director nft -f - <<-RULES
		table inet test {
			chain postrouting {
				type nat hook postrouting priority srcnat;
				oifname { "srv1", "srv1.7", "srv2", "srv3", "bond7" } masquerade
			}
		}
	RULES
	in_director sysctl -qw net.ipv4.vs.conntrack=1
}

virtual_servers() {
	local before=$vip
	virtual_server -t "$plain" rr "$rip1:8080"
	virtual_server -u "$plain" rr "$rip1:5300"
	virtual_server -t "$tagged" rr "$(end_of 10.2.7.10):8080"
	virtual_server -u "$tagged" rr "$(end_of 10.2.7.10):5300"
	virtual_server -t "$bonded" rr "$(end_of 10.2.8.10):8080"
	virtual_server -u "$bonded" rr "$(end_of 10.2.8.10):5300"
	vip=$(end_of "$second_vip")
	virtual_server -t "$plain" rr "$rip1:8080"
	vip=$before
}

whitelist_all() {
	local port id=0
	for port in "$plain" "$tagged" "$bonded"; do
		whitelist "$vip" "$port" tcp $((++id))
		whitelist "$vip" "$port" udp $((++id))
	done
	whitelist "$(end_of "$second_vip")" "$plain" tcp $((++id))
}

snat_addresses_of_links() {
	snat_address 1 "$dip1" srv1
	snat_address 2 "$(end_of 10.2.7.1)" srv1.7
	snat_address 3 "$(end_of 10.2.8.1)" bond7
	snat_address 4 "$(end_of 10.2.3.1)" srv3
}

# works PORT SEEN [OPTION…]: requests, datagrams with and without fragments, transfers; SEEN is the client's address
# for the real server.
works() {
	local answer to="$vip:$1"
	answer=$(client_requests --to "$to" --count 10)
	answered "$answer" 10
	equal "$(field peers "$answer")" "{\"$2\":10}" "$answer clients that the real server sees"
	answered "$(client_udp --to "$to" --count 5 --size 1000 --reply-size 1000)" 5
	answered "$(client_udp --to "$to" --count 5 --size 4000 --reply-size 4000)" 5
	answer=$(in_client "$LOAD" transfer --to "$to" --bytes 500000 --deadline 100)
	equal "$(field ok "$answer")" true "$answer"
	answer=$(in_client "$LOAD" transfer --to "$to" --bytes 500000 --deadline 100 --download)
	equal "$(field ok "$answer")" true "$answer"
}

works_over_a_vlan() { works "$tagged" "$(end_of 10.2.7.1)"; }
works_over_a_bond() { works "$bonded" "$(end_of 10.2.8.1)"; }

# count_arrivals NS DEVICE TEXT; arrivals NS: packets that come in there meanwhile.
count_arrivals() {
	in_ns "$1" nft -f - <<-RULES
		table inet arrived {
			chain input {
				type filter hook input priority 0
				iifname $2 $3 counter
			}
		}
	RULES
}
arrivals() {
	in_ns "$1" nft list chain inet arrived input | awk '/packets/ { for (i = 1; i < NF; i++) if ($i == "packets") print $(i + 1) }'
	in_ns "$1" nft delete table inet arrived
}

# The bond's first port goes down under a connection.
follows_a_bond() {
	hold_open bond --to "$vip:$bonded"
	exchange bond >/dev/null
	exchange bond >/dev/null
	in_director ip link set srv4 down
	sleep 1.1
	count_arrivals rs2 bond7 'meta l4proto tcp'
	for _ in 1 2 3; do exchange bond >/dev/null; done
	at_least "$(arrivals rs2)" 3 "packets by the second port"
	in_director ip link set srv4 up
	sleep 1.1
	exchange bond >/dev/null
	hold_close bond
}

# A client that both uplinks lead to: answers take the one that their virtual address has a rule for.
answers_by_the_right_uplink() {
	local answer to by
	for to in "$vip eth0" "$(end_of "$second_vip") eth2"; do
		by=${to#* }
		count_arrivals client "$by" 'meta l4proto tcp'
		answer=$(in_client "$LOAD" pingpong --bind "$(end_of "$client_address"):0" --to "${to% *}:$plain" --count 20 --deadline 20) || true
		at_least "$(arrivals client)" 20 "packets by $by"
		equal "$(field ok "$answer")" true "$answer"
	done
}

# The rule changes under a connection: answers come by the other uplink within a second.
follows_a_rule() {
	local rule
	rule=(from "$(ip_of 10.9.0.1)" lookup 102 pref 50)
	hold_open rule --bind "$(end_of "$client_address"):0" --to "$vip:$plain"
	exchange rule >/dev/null
	ip_f "$NET_DIRECTOR" rule add "${rule[@]}"
	sleep 1.1
	count_arrivals client eth2 'meta l4proto tcp'
	for _ in 1 2 3; do exchange rule >/dev/null; done
	at_least "$(arrivals client)" 3 "packets by the other uplink"
	ip_f "$NET_DIRECTOR" rule del "${rule[@]}"
	sleep 1.1
	exchange rule >/dev/null
	hold_close rule
}

# The interface goes down under a connection, and another way is there, also for answers. Natively that ends every
# connection which is masqueraded behind it.
follows_an_interface() {
	local way
	way=("$(ip_of 10.2.1.0)/$(net_length)" via "$(ip_of 10.2.3.10)" metric 2000)
	hold_open interface --to "$vip:$plain"
	exchange interface >/dev/null
	exchange interface >/dev/null
	ip_f "$NET_DIRECTOR" route add "${way[@]}"
	ip_f rs1 route add "$(ip_of 10.2.1.1)/$(length)" via "$(ip_of 10.2.3.1)"
	in_director ip link set srv1 down
	sleep 1.1
	count_arrivals rs1 eth2 'meta l4proto tcp'
	for _ in 1 2 3; do exchange interface >/dev/null; done
	at_least "$(arrivals rs1)" 3 "packets by the other way"
	in_director ip link set srv1 up
	ip_f "$NET_DIRECTOR" route del "${way[@]}"
	ip_f rs1 route del "$(ip_of 10.2.1.1)/$(length)" via "$(ip_of 10.2.3.1)"
	sleep 1.1
	exchange interface >/dev/null
	hold_close interface
}

# The real server has another link address, and says so.
follows_a_link_address() {
	local before
	before=$(in_rs1 ip -br link show dev eth0 | awk '{ print $3 }')
	hold_open address --to "$vip:$plain"
	exchange address >/dev/null
	exchange address >/dev/null
	in_rs1 ip link set eth0 address 02:00:00:00:07:07
	in_director ip neigh replace "$(bare "$rip1")" lladdr 02:00:00:00:07:07 dev srv1 nud reachable
	sleep 1.1
	for _ in 1 2 3; do exchange address >/dev/null; done
	in_rs1 ip link set eth0 address "$before"
	in_director ip neigh replace "$(bare "$rip1")" lladdr "$before" dev srv1 nud reachable
	sleep 1.1
	exchange address >/dev/null
	hold_close address
}

# The link to the real server takes smaller packets from now on, and larger ones later.
follows_an_mtu() {
	local mtu
	hold_open mtu --to "$vip:$plain"
	for mtu in 1500 1300 1500; do
		in_director ip link set srv1 mtu "$mtu"
		in_rs1 ip link set eth0 mtu "$mtu"
		sleep 1.1
		exchange mtu "u 300000" >/dev/null
	done
	# A VLAN device's goes down with its lower device's, and not up.
	in_director ip link set srv1.7 mtu 1500
	in_rs1 ip link set eth0.7 mtu 1500
	hold_close mtu
}

# Another address comes and goes on the real server's link.
follows_an_address() {
	local address
	address=$(ip_of 10.2.1.99)/$(net_length)
	hold_open dip --to "$vip:$plain"
	exchange dip >/dev/null
	ip_f "$NET_DIRECTOR" addr add "$address" dev srv1
	sleep 1.1
	exchange dip >/dev/null
	ip_f "$NET_DIRECTOR" addr del "$address" dev srv1
	sleep 1.1
	exchange dip >/dev/null
	hold_close dip
}

# What others have set in a packet's socket buffer goes with it to the wire.
keeps_mark_and_priority() {
	local seen
	in_director tc filter add dev cli ingress pref 1 matchall action skbedit mark 7 priority 6 pipe
	in_director tc filter add dev srv1 egress pref 60000 protocol all handle 7 fw action continue
	in_director tc filter add dev srv1 egress pref 60001 protocol all basic match 'meta(priority eq 6)' action ok
	hold_open mark --to "$vip:$plain"
	for _ in 1 2 3; do exchange mark >/dev/null; done
	hold_close mark
	seen=$(in_director tc -s filter show dev srv1 egress | awk '/Sent/ { print $4 }' | paste -sd' ')
	in_director tc filter del dev cli ingress pref 1
	in_director tc filter del dev srv1 egress pref 60000
	in_director tc filter del dev srv1 egress pref 60001
	at_least "${seen% *}" 5 "packets with the mark on the real server's side"
	equal "${seen#* }" "${seen% *}" "of them, with the priority"
}

cases() {
	it "$1, $ip: over VLAN devices" "${@:2}" works_over_a_vlan
	it "$1, $ip: over a bond" "${@:2}" works_over_a_bond
	it "$1, $ip: answers leave by the uplink that their address has" "${@:2}" answers_by_the_right_uplink
	it "$1, $ip: follows a rule within a second" "${@:2}" follows_a_rule
	it "$1, $ip: follows a bond's port within a second" "${@:2}" follows_a_bond
	it "$1, $ip: follows a link address within a second" "${@:2}" follows_a_link_address
	it "$1, $ip: follows an MTU within a second" "${@:2}" follows_an_mtu
	it "$1, $ip: follows an address within a second" "${@:2}" follows_an_address
}

forwarded() { echo $(($(counter FORWARD_REQUEST) + $(counter FORWARD_REPLY))); }

accelerated_cases() {
	local before
	before=$(forwarded)
	cases accelerated no_conntrack
	it "accelerated, $ip: follows an interface within a second" no_conntrack follows_an_interface
	it "accelerated, $ip: takes open connections past the stack" at_least $(($(forwarded) - before)) 200
	it "accelerated, $ip: leaves mark and priority as they are" keeps_mark_and_priority
}

set_up
insert_stock_module
masquerade_all
for_families virtual_servers
for_families cases native
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

insert_patched_module
load_programs
# As the agent does: a VLAN's lower device as well, and a bond's ports not.
for interface in cli cli2 srv1 srv1.7 srv3 bond7; do
	attach "$interface"
done
for_families snat_addresses_of_links
hand_over
set_switch 1
masquerade_all
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
finish
