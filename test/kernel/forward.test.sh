#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# Established connections are forwarded at tc ingress, and IPVS says of them what it would say if it had seen every
# packet. IPv4 and IPv6.
NET_IPV6=1
. "$(dirname "$0")/../net/suite.sh"
. bench/awake.sh

forwarded() { echo $(($(counter FORWARD_REQUEST) + $(counter FORWARD_REPLY))); }

# at_least_forwarded COUNT COMMAND…
at_least_forwarded() {
	local least=$1 before
	before=$(forwarded)
	shift
	"$@"
	at_least $(($(forwarded) - before)) "$least" "packets forwarded at tc ingress"
}

forwarded_of() { "$MAPS" sum "$PINS/ipvs_forwarded" "$(id_for "$vip" "$1")"; }

small_messages() {
	local answer
	answer=$(in_client "$LOAD" pingpong --to "$vip:80" --count 200 --deadline 100)
	equal "$(field ok "$answer")" true "$answer"
}

datagrams() { answered "$(client_udp --to "$vip:53" --count 50 --source-port "$1")" 50; }

transfer() {
	local answer
	answer=$(in_client "$LOAD" transfer --to "$vip:80" --bytes 2000000 --deadline 100 "$@")
	equal "$(field ok "$answer")" true "$answer"
}

forwards() {
	at_least_forwarded 380 no_conntrack small_messages
	at_least_forwarded 90 no_conntrack datagrams 4300
	at_least_forwarded 20 no_conntrack transfer
	at_least_forwarded 20 no_conntrack transfer --download
}

# Of each connection only the answers to SYN and FIN are left: the handshake has offered a path to replies as well.
forwards_the_first_reply() {
	local before
	before=$(counter SNAT_REVERSED)
	answered "$(client_requests --to "$vip:80" --count 20)" 20
	at_most $(($(counter SNAT_REVERSED) - before)) 42 "replies that IPVS has seen"
}

# The client's own count of what it sends to the virtual address and gets from it: "packets bytes packets bytes".
capture_start() {
	in_client nft -f - <<-RULES
		table inet capture {
			counter out {}
			counter in {}
			chain output {
				type filter hook output priority 0
				$1 daddr $(bare "$vip") counter name out
			}
			chain input {
				type filter hook input priority 0
				$1 saddr $(bare "$vip") counter name in
			}
		}
	RULES
}
captured() { in_client nft list counter inet capture "$1" | awk '/packets/ { print $2, $4 }'; }

# The same of one virtual server as ipvsadm has it.
counted() {
	in_director ipvsadm -Ln --stats --exact "$1" "$vip:$2" | awk '/^(TCP|UDP)/ { print $4, $6, $5, $7; exit }'
}

counts_like_a_capture() {
	local of=ip packets
	[ "$family" = 4 ] || of=ip6
	sleep 5
	in_director ipvsadm -Z
	capture_start "$of"
	"$@"
	# Tc ingress has told IPVS after two seconds, whose estimator reads its own counters each two seconds.
	sleep 5
	packets="$(captured out) $(captured in)"
	in_client nft delete table inet capture
	note "$* $ip: $packets"
	case $1 in
	datagrams) set -- -u 53 ;;
	*) set -- -t 80 ;;
	esac
	equal "$(counted "$1" "$2")" "$packets" "packets and bytes in and out"
}

# The module's own count by virtual server, as `top` shows it, and that of the programs.
counts_by_virtual_server() {
	local tcp udp before
	tcp=$(forwarded_of 1) udp=$(forwarded_of 2) before=$(forwarded)
	small_messages
	datagrams 4303
	sleep 5
	tcp=$(($(forwarded_of 1) - tcp)) udp=$(($(forwarded_of 2) - udp))
	note "$ip: $tcp packets of TCP and $udp datagrams forwarded"
	equal $((tcp + udp)) $(($(forwarded) - before)) "packets of both virtual servers"
	at_least "$udp" 90 "datagrams forwarded"
}

# Packets a second in and out, as ipvsadm has them of an exchange each 100 ms that has gone on for half a minute.
steady_rate() {
	local talker
	# Long enough for a clock that leaps while the guest waits for its host.
	ip netns exec client "$LOAD" pingpong --to "$vip:80" --count 10000 --gap-ms 100 --size 100 >/dev/null &
	talker=$!
	sleep 30
	awake in_director ipvsadm -Ln --rate --exact -t "$vip:80" | awk '/^TCP/ { print $4, $5; exit }'
	kill "$talker"
	wait "$talker" || true
}

# Within a quarter: the estimator reads each two seconds, what tc ingress has counted comes in lumps.
shows_the_rate() {
	local native rate index
	read -ra native <<<"$1"
	read -ra rate <<<"$(steady_rate)"
	note "$ip: ${rate[*]} packets a second in and out, natively ${native[*]}"
	for index in 0 1; do
		at_least "${native[$index]}" 5 "packets a second, natively"
		at_least $((rate[index] * 4)) $((native[index] * 3)) "four times the packets a second"
		at_most $((rate[index] * 4)) $((native[index] * 5)) "four times the packets a second"
	done
}

state_of() { in_director ipvsadm -Lcn | awk -v port=":$1" '/^(TCP|UDP)/ && index($4, port) { print $3; exit }'; }
active_and_inactive() { in_director ipvsadm -Ln -t "$vip:80" | awk '/->/ && $NF ~ /[0-9]/ { a += $5; i += $6 } END { print a "/" i }'; }

shown() { echo "$1:$(state_of "$2"):$(active_and_inactive)"; }
# What IPVS shows at each point of a connection's life, a word each; `leapt` if the clock has, over what it remembers.
life_once() {
	local closed
	hold_open life --to "$vip:80" --source-port "$1"
	awake shown open "$1"
	for _ in 1 2 3; do
		exchange life >/dev/null
	done
	awake shown exchanged "$1"
	closed=$(milliseconds)
	hold_close life
	sleep 1
	awake shown closed "$1"
	sleep 100
	awake shown later "$1"
	[ "$(milliseconds)" -lt $((closed + 118000)) ] || echo leapt
	sleep 30
	awake shown end "$1"
}
life() {
	local try words
	for try in 1 2 3 4 5; do
		words=$(life_once $(($1 + try)) | paste -sd' ')
		[[ $words = *leapt* ]] || break
		sleep 200
	done
	echo "$words"
}

lives_as_natively() {
	sleep 200
	equal "$(life 4500)" "$1" "states, active and inactive connections"
}

# An idle guest's clock leaps to its next timer, also while it waits for its host: with this, not far.
tick() {
	exec 7<> <(:)
	while read -rt 0.001 -u 7 || [ $? -gt 128 ]; do :; done
}

# Without a process of its own, which takes time.
milliseconds() {
	local up
	read -r up _ </proc/uptime
	echo $((10#${up/./} * 10))
}

leapt() {
	echo "the clock has leapt: $1"
	return 2
}

# last_packet_counts_once PORT: 2 if the clock has leapt in between.
last_packet_counts_once() {
	local seen last before state
	hold_open "last$1" --to "$vip:80" --source-port "$1"
	sleep 2
	before=$(forwarded)
	exchange "last$1" >/dev/null || leapt "no first exchange"
	seen=$(milliseconds)
	sleep 0.7
	last=$(milliseconds)
	exchange "last$1" >/dev/null || leapt "no second exchange"
	# Of the first, the acknowledgement alone; of the second, all three.
	[ $(($(forwarded) - before)) -ge 3 ] || leapt "$((last - seen)) ms between the exchanges"
	sleep 3.5
	state=$(state_of "$1")
	[ "$(milliseconds)" -lt $((last + 4000)) ] || leapt "$(($(milliseconds) - last)) ms after the second"
	equal "$state" ESTABLISHED "$(($(milliseconds) - seen)) ms after the last packet that IPVS saw"
	sleep 1
	equal "$(state_of "$1")" '' "$(($(milliseconds) - last)) ms after the last packet"
}

# Packets that IPVS has not seen put its end off, to the timeout of 4 s after the last of them.
last_packet_counts() {
	local - try status=2 ticker
	in_director ipvsadm --set 4 4 4
	set +e
	tick &
	ticker=$!
	for try in 1 2 3 4 5 6 7 8; do
		(
			set -e
			last_packet_counts_once "460$try"
		)
		status=$?
		hold_close "last460$try"
		[ "$status" = 2 ] || break
	done
	set -e
	kill "$ticker"
	in_director ipvsadm --set 900 120 300
	return "$status"
}

follows_a_neighbour() {
	hold_open neighbour --to "$vip:80"
	exchange neighbour >/dev/null
	in_director ip neigh flush all
	exchange neighbour >/dev/null
	hold_close neighbour
}

sent_by() { in_director cat "/sys/class/net/$1/statistics/tx_packets"; }

# A second link to the first real server takes over.
follows_a_route() {
	local arrived prefix=32 version=-4 mac
	[ "$family" = 4 ] || prefix=128 version=-6
	mac=$(in_rs1 ip -br link show dev eth2 | awk '{ print $3 }')
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 0
	hold_open route --to "$vip:80"
	at_least_forwarded 1 exchange route >/dev/null
	in_director ip neigh add "$(bare "$rip1")" lladdr "$mac" dev srv3
	in_director ip "$version" route add "$(bare "$rip1")/$prefix" dev srv3
	sleep 1.1
	in_rs1 nft -f - <<-RULES
		table inet arrived {
			chain input {
				type filter hook input priority 0
				iifname eth2 counter
			}
		}
	RULES
	for _ in 1 2 3; do
		exchange route >/dev/null
	done
	arrived=$(in_rs1 nft list chain inet arrived input | awk '/packets/ { print $5 }')
	in_rs1 nft delete table inet arrived
	in_director ip "$version" route del "$(bare "$rip1")/$prefix" dev srv3
	at_least "$arrived" 3 "packets on the new route"
	hold_close route
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 1
}

# sent_while COMMAND…: packets that leave by the interface of the first real server, forwarded ones of three exchanges
# among them or not.
sent_while() {
	local before
	"$@" >&2
	sleep 1.1
	exchange peer >/dev/null
	before=$(sent_by srv1)
	for _ in 1 2 3; do
		exchange peer >/dev/null
	done
	echo $(($(sent_by srv1) - before))
}

# Nobody is passed by who shapes, filters or watches what is sent there. If the clock leaps, paths end too early.
goes_to_the_peer() {
	tick &
	# shellcheck disable=SC2064 # this one, when the case ends
	trap "kill $!" EXIT
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 0
	hold_open peer --to "$vip:80"
	at_least_forwarded 3 exchange peer >/dev/null
	at_most "$(sent_while true)" 1 "packets through the interface of a pair"
	at_least "$(sent_while in_director tc qdisc add dev srv1 root pfifo)" 3 "packets with a queueing discipline"
	at_most "$(sent_while in_director tc qdisc del dev srv1 root)" 1 "packets without it"
	at_least "$(sent_while not_to_peer srv1)" 3 "packets that may not go to the peer"
	at_most "$(sent_while to_peer srv1)" 1 "packets that may again"
	at_least "$(sent_while in_rs1 "$MAPS" xdp eth0 on)" 3 "packets with an XDP program at the other end"
	at_most "$(sent_while in_rs1 "$MAPS" xdp eth0 off)" 1 "packets without it"
	hold_close peer
	in_director ipvsadm -e -t "$vip:80" -r "$rip2:8080" -m -w 1
}

# Policy routing goes by the mark, which no path has.
leaves_marked_packets() {
	local before
	in_director tc filter add dev cli ingress pref 1 matchall action skbedit mark 7 pipe
	hold_open mark --to "$vip:80"
	before=$(counter FORWARD_REQUEST)
	for _ in 1 2 3; do
		exchange mark >/dev/null
	done
	in_director tc filter del dev cli ingress pref 1
	equal "$(counter FORWARD_REQUEST)" "$before" "requests forwarded at tc ingress"
	exchange mark >/dev/null
	exchange mark >/dev/null
	at_least "$(counter FORWARD_REQUEST)" $((before + 1)) "requests forwarded without the mark"
	hold_close mark
}

cases() {
	it "takes established connections past the IP stack, $ip" forwards
	it "takes the first reply past the IP stack, $ip" forwards_the_first_reply
	it "counts small messages like a capture, $ip" counts_like_a_capture small_messages
	it "counts datagrams like a capture, $ip" counts_like_a_capture datagrams 4301
	it "counts an upload like a capture, $ip" counts_like_a_capture transfer
	it "counts a download like a capture, $ip" counts_like_a_capture transfer --download
	it "counts by virtual server, $ip" counts_by_virtual_server
	it "shows the rate of a steady exchange, $ip" shows_the_rate "${native_rate[$family]}"
	it "has states and counts of connections as natively, $ip" lives_as_natively "${native_life[$family]}"
	it "ends connections by their last packet, $ip" last_packet_counts
	it "finds a lost neighbour again, $ip" follows_a_neighbour
	it "goes straight to the other end of a pair, $ip" goes_to_the_peer
	it "follows a route within a second, $ip" follows_a_route
	it "leaves packets with a mark to IPVS, $ip" leaves_marked_packets
}

# The rest of a life under way must hold nobody up.
module_goes_under_traffic() {
	local ticker status=0
	for_families small_messages
	in_director ipvsadm -C
	local interface
	for interface in cli srv1 srv2 srv3; do
		detach "$interface"
	done
	tick &
	ticker=$!
	timeout 20 bash -c "PINS=$PINS; $(declare -f remove_modules); remove_modules" || status=$?
	kill "$ticker"
	return "$status"
}

declare -A native_life native_rate
native_life_of_family() {
	native_life[$family]=$(life 4500)
	native_rate[$family]=$(steady_rate)
	note "$ip natively: ${native_life[$family]}"
}

net_up
net_link rs1 eth2 10.2.3.10 "$NET_DIRECTOR" srv3 10.2.3.1
# As an IPv6 packet without link header begins, too.
number=0
for interface in cli srv1 srv2 srv3; do
	in_director ip link set "$interface" address "62:00:00:00:00:0$((++number))"
done
serve_both rs1 rs2
insert_stock_module
virtual_servers_of_both
for_families native_life_of_family
in_director ipvsadm -C
in_director nft flush ruleset
remove_modules

accelerate
attach cli
attach srv3
virtual_servers_of_both
whitelist_both
for_families cases
it 'lets the module go' module_goes_under_traffic
finish
