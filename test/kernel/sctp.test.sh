#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=1800 kernels=6.12
# SCTP associations of real sockets, IPv4 and IPv6, with a router on each side of the director: the same cases natively
# and accelerated. Ports: 9000 two real servers; of the first one alone 9001, 9002 with fragments, 9003 multi-homed;
# 9004 one on the director.
NET_HOPS=1 NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"

servers_of_family() {
	net_serve rs1 "$rip1:8080" --sctp
	net_serve rs2 "$rip2:8080" --sctp
	net_serve rs1 "$rip1:8082" --sctp --path-mtu 4000
	net_serve "$NET_DIRECTOR" "$local_rip:8084" --sctp
}

# Nobody can reach these, so that what is sent to them does not matter, and nobody sends from them.
second_addresses() {
	in_client ip addr add 10.7.7.7/32 dev eth0
	in_client ip addr add fd00:7:7::7/128 dev eth0 preferred_lft 0 nodad
	in_rs1 ip addr add 10.7.7.8/32 dev eth0
	in_rs1 ip addr add fd00:7:7::8/128 dev eth0 preferred_lft 0 nodad
}

set_up() {
	modprobe sctp
	net_up
	in_client ip link del eth1
	second_addresses
	for_families servers_of_family
	net_serve rs1 0.0.0.0:8083 --sctp
}

virtual_servers() {
	virtual_server --sctp-service 9000 rr "$rip1:8080" "$rip2:8080"
	virtual_server --sctp-service 9001 rr "$rip1:8080"
	virtual_server --sctp-service 9002 rr "$rip1:8082"
	virtual_server --sctp-service 9003 rr "$rip1:8083"
	virtual_server --sctp-service 9004 rr "$local_rip:8084"
}

# client COMMAND PORT OPTION…: with one address.
client() {
	local command=$1 port=$2
	shift 2
	in_client "$LOAD" "$command" --sctp --to "$vip:$port" --bind "$cip:0" --timeout-ms 5000 --deadline 300 "$@" || true
}

ok() { equal "$(field ok "$1")" true "$1"; }

# Ends are told that packets leave with whole checksums, or that a device will make them.
offload() { # on|off
	local end
	for end in client:eth0 rs1:eth0 rs2:eth0 "$NET_DIRECTOR:srv1" "$NET_DIRECTOR:srv2" "$NET_DIRECTOR:cli"; do
		in_ns "${end%:*}" ethtool -K "${end#*:}" tx "$1" >/dev/null
	done
}

checksum_errors() {
	local ns sum=0
	for ns in client rs1 rs2; do
		sum=$((sum + $(in_ns "$ns" cat /proc/net/sctp/snmp | awk '/^SctpChecksumErrors/ { print $2 }')))
	done
	echo "$sum"
}

# with_offload on|off COMMAND…: no end has seen a wrong checksum.
with_offload() {
	local before
	offload "$1"
	before=$(checksum_errors)
	shift
	"$@"
	equal "$(checksum_errors)" "$before" "packets with a wrong checksum"
}

spreads_associations() {
	local answer
	answer=$(client requests 9000 --who --count 20)
	answered "$answer" 20
	equal "$(field servers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)" rs1:10,rs2:10 servers
	equal "$(field peers "$answer" | tr -d '{}"' | tr , '\n' | sort | paste -sd,)" \
		"$dip1:10,$dip2:10" "clients that the real servers see"
}

messages() {
	ok "$(client pingpong 9000 --count 100 --size 100)"
	ok "$(client pingpong 9000 --count 100 --size 1001)"
	ok "$(client pingpong 9000 --count 10 --size 60000)"
}

transfers() {
	ok "$(client transfer 9000 --bytes 1000000)"
	ok "$(client transfer 9000 --bytes 1000000 --download)"
}

aborts() { answered "$(client requests 9000 --reset --who --count 10)" 10; }

fixed_port() { answered "$(client requests 9001 --source-port 4100 --who --count 5)" 5; }

on_the_director() {
	answered "$(client requests 9004 --who --count 3)" 3
	ok "$(client transfer 9004 --bytes 300000)"
	ok "$(client transfer 9004 --bytes 300000 --download)"
}

# Without a device that makes checksums: IP cannot for fragments.
fragments() {
	ok "$(client pingpong 9002 --path-mtu 4000 --count 10 --size 3000)"
	ok "$(client transfer 9002 --path-mtu 4000 --bytes 500000)"
	ok "$(client transfer 9002 --path-mtu 4000 --bytes 500000 --download)"
}

# The error ends the wait for an association.
error_of() { # OPTION…
	field errors "$(client requests 9001 --count 1 --timeout-ms 1000 "$@")"
}
time_exceeded() { equal "$(error_of --ttl "$1")" '{"EHOSTUNREACH":1}' errors; }

unreachable() {
	in_ns hops nft add table inet refuse
	in_ns hops nft add chain inet refuse forward '{ type filter hook forward priority 0; }'
	in_ns hops nft add rule inet refuse forward meta l4proto sctp reject with icmpx port-unreachable
	equal "$(error_of)" '{"ECONNREFUSED":1}' errors
	in_ns hops nft delete table inet refuse
}

forget_path_mtus() {
	local ns
	for ns in client hopc hops rs1 "$NET_DIRECTOR"; do
		in_ns "$ns" ip route flush cache
		in_ns "$ns" ip -6 route flush cache
	done
}

# narrow NS PREFIX WHERE MTU|none: see icmp.test.sh.
narrow() {
	local where=$3
	if [ "$family" = 4 ]; then
		# shellcheck disable=SC2046,SC2086 # words
		in_ns "$1" ip route replace "$2" $where $([ "$4" = none ] || echo "mtu $4")
		return
	fi
	case $where in
	via*) where="via $(ipv6_of "${where#via }")" ;;
	*) where+=" metric 256" ;;
	esac
	# shellcheck disable=SC2046,SC2086
	in_ns "$1" ip -6 route replace "$(ipv6_of "${2%/24}")/64" $where $([ "$4" = none ] || echo "mtu lock $4")
}

# through NS PREFIX WHERE MTU OPTION…: a transfer, of which a packet is too large for a route.
through() {
	local answer
	forget_path_mtus
	narrow "$1" "$2" "$3" "$4"
	answer=$(client transfer 9001 --bytes 300000 "${@:5}")
	narrow "$1" "$2" "$3" none
	forget_path_mtus
	ok "$answer"
}

multihomed() { # PORT OPTION…
	local port=$1
	shift
	answered "$(in_client "$LOAD" requests --sctp --to "$vip:$port" --timeout-ms 9000 --who --count 3 "$@")" 3
}
multihomed_client() { multihomed 9001; }
multihomed_server() { multihomed 9003 --bind "$cip:0"; }

data_cases() { # HOW OFFLOAD COMMAND…
	local what="$1, $ip, offload $2" offload=$2
	shift 2
	it "$what: associations are spread" with_offload "$offload" "$@" spreads_associations
	it "$what: messages both ways" with_offload "$offload" "$@" messages
	it "$what: long transfers" with_offload "$offload" "$@" transfers
	it "$what: aborts" with_offload "$offload" "$@" aborts
	it "$what: a port that is used again" with_offload "$offload" "$@" fixed_port
	it "$what: too large for a router behind the director" with_offload "$offload" "$@" \
		through hops 10.5.0.0/24 "dev far" 1300
	it "$what: too large for the director" with_offload "$offload" "$@" \
		through "$NET_DIRECTOR" 10.5.0.0/24 "via 10.2.1.10" 1350
	it "$what: replies too large for a router before the director" with_offload "$offload" "$@" \
		through hopc 10.4.0.0/24 "dev near" 1300 --download
	it "$what: replies too large for the director" with_offload "$offload" "$@" \
		through "$NET_DIRECTOR" 10.4.0.0/24 "via 10.1.0.10" 1350 --download
	it "$what: a real server on the director" with_offload "$offload" "$@" on_the_director
}

cases() { # HOW COMMAND…
	data_cases "$1" on "${@:2}"
	# What IPVS itself makes of checksums differs in nothing that concerns us.
	[ "$1" = native ] || data_cases "$1" off "${@:2}"
	it "$1, $ip: fragments both ways" with_offload off "${@:2}" fragments
	offload on
	it "$1, $ip: the director reports a TTL that ends there" "${@:2}" time_exceeded 2
	it "$1, $ip: a TTL that ends behind the director is reported to the client" "${@:2}" time_exceeded 3
	it "$1, $ip: a router refuses what is for the real server" "${@:2}" unreachable
	it "$1, $ip: a client with two addresses" multihomed_client
	it "$1, $ip: a real server with two addresses" multihomed_server
}

forwarded() { echo $(($(counter FORWARD_REQUEST) + $(counter FORWARD_REPLY))); }

forwards() {
	local before
	before=$(forwarded)
	ok "$(client pingpong 9001 --count 200 --size 100)"
	at_least $(($(forwarded) - before)) 380 "packets forwarded at tc ingress"
}

# state NAME: connections that IPVS has in that state.
state() { in_director ipvsadm -Lcn | awk -v state="$1" '$1 == "SCTP" && $3 == state' | wc -l; }

follows_the_states() {
	local before
	before=$(state ESTABLISHED)
	hold_open held --sctp --to "$vip:9001" --bind "$cip:0"
	for _ in 1 2 3; do
		exchange held >/dev/null
	done
	equal "$(state ESTABLISHED)" $((before + 1)) "established associations"
	hold_close held
	sleep 1
	equal "$(state ESTABLISHED)" "$before" "established associations after a shutdown"
}

# An idle association keeps its state by what tc ingress has seen.
outlives_its_timer() {
	hold_open idle --sctp --to "$vip:9001" --bind "$cip:0"
	for _ in 1 2 3 4; do
		sleep 300
		exchange idle >/dev/null
	done
	hold_close idle
}

counts_multihomed() {
	local before
	before=$(counter BYPASS_MULTIHOMED)
	multihomed_client
	at_least $(($(counter BYPASS_MULTIHOMED) - before)) 3 "refused associations"
	before=$(counter BYPASS_MULTIHOMED)
	multihomed_server
	at_least $(($(counter BYPASS_MULTIHOMED) - before)) 3 "refused associations"
	# A client that may tell a second address later.
	before=$(counter BYPASS_MULTIHOMED)
	in_client sysctl -qw net.sctp.addip_enable=1
	answered "$(client requests 9001 --who --count 3)" 3
	in_client sysctl -qw net.sctp.addip_enable=0
	at_least $(($(counter BYPASS_MULTIHOMED) - before)) 3 "refused associations"
}

# As that of TCP: a client that always uses one port would never be accelerated.
leaves_the_native_path() {
	local before
	unlist "$vip" 9001 sctp
	answered "$(client requests 9001 --source-port 4200 --who --count 1)" 1
	before=$(counter SESSION_ADDED)
	whitelist "$vip" 9001 sctp 2
	answered "$(client requests 9001 --source-port 4200 --who --count 1)" 1
	equal $(($(counter SESSION_ADDED) - before)) 1 "sessions made"
}

whitelist_all() {
	local i
	for i in 0 1 2 3 4; do
		whitelist "$vip" $((9000 + i)) sctp $((i + 1))
	done
}

accelerated_cases() {
	local before
	before=$(counter ICMP_EGRESS)/$(counter ICMP_INGRESS)
	cases accelerated no_conntrack
	it "translated ICMP errors towards real servers, $ip" at_least $(($(counter ICMP_EGRESS) - ${before%/*})) 1
	it "translated ICMP errors from their side, $ip" at_least $(($(counter ICMP_INGRESS) - ${before#*/})) 1
	it "forwards established associations past the stack, $ip" no_conntrack forwards
	it "IPVS knows the states of associations, $ip" no_conntrack follows_the_states
	it "an association whose packets are forwarded stays, $ip" no_conntrack outlives_its_timer
	it "counts multi-homed associations, $ip" counts_multihomed
	it "a port whose native association is over, $ip" leaves_the_native_path
}

is_empty_after_the_timeouts() {
	sleep 1000
	equal "$(connections)/$(sessions)/$(replies)" 0/0/0 "connections/sessions/SNAT ends"
	equal "$("$MAPS" count "$PINS/ipvs_frags")" 0 "remembered fragments"
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
attach cli
masquerade
for_families virtual_servers
for_families whitelist_all
for_families accelerated_cases
it 'translated fragments at tc egress' at_least "$(counter FRAGMENT_EGRESS)" 100
it 'translated reassembled replies' at_least "$(counter REPLY_REASSEMBLED)" 10
it 'leaves nothing behind' is_empty_after_the_timeouts
finish
