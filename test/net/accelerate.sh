# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets the accelerated mode up by hand, without the agent, in whatever namespace the director of
# test/net/topology.sh is in: for tests of single parts, and of states that the agent avoids.

MAPS=$NET_TREE/build/test/maps
RELEASE=$(uname -r)
PINS=/sys/fs/bpf/net
SNAT_FIRST=20000 SNAT_LAST=29999
# Whether the programs tell the module what they see of connections: yes or no.
KFUNCS=${KFUNCS:-yes}
# Room for so many sessions; the programs' default if empty.
SESSIONS=
VS=/proc/sys/net/ipv4/vs
# Bits of struct ipvs_service's flags, bpf/abi.h.
SNAT_NEVER=0 SNAT_EXTERNAL=1 SNAT_ALWAYS=2 DROP_ON_FULL=4

# Added to the ids of IPv6 virtual servers and SNAT addresses, so that a suite can use the same for both.
IPV6_IDS=100

# Fields of bpf/abi.h as hexadecimal text.
hex_addr6() { # GROUPS::GROUPS
	local group text='' left=${1%%::*} right=${1##*::} missing=8
	for group in ${left//:/ } ${right//:/ }; do missing=$((missing - 1)); done
	for group in ${left//:/ }; do text+=$(printf '%04x' "0x$group"); done
	text+=$(printf "%0$((missing * 4))d" 0)
	for group in ${right//:/ }; do text+=$(printf '%04x' "0x$group"); done
	echo "$text"
}
hex_addr() {
	local a b c d
	case $1 in *:*)
		hex_addr6 "$(bare "$1")"
		return
		;;
	esac
	IFS=. read -r a b c d <<<"$1"
	printf '00000000000000000000ffff%02x%02x%02x%02x' "$a" "$b" "$c" "$d"
}
hex_be16() { printf '%04x' "$1"; }
hex_u32() { printf '%02x%02x%02x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24)); }

insert_patched_module() {
	modprobe -a nf_conntrack nf_defrag_ipv6
	insmod "$NET_TREE/build/$RELEASE/ip_vs.ko"
	modprobe -a ip_vs_rr
}

insert_stock_module() { modprobe -a ip_vs ip_vs_rr; }

# Programs that call the module keep it until they are gone, which takes a moment.
remove_modules() {
	local module end=$((SECONDS + 10))
	rm -f "${PINS:?}"/ipvs_tc_*
	for module in $(awk '$1 ~ /^ip_vs_/ { print $1 }' /proc/modules) ip_vs; do
		until rmmod "$module"; do
			[ $SECONDS -lt $end ] || return 1
			sleep 0.1
		done
	done
}

# load_programs [DIRECTORY [OBJECT]]: maps and programs, pinned; nothing is attached.
load_programs() {
	local object=ipvs_tc
	[ $KFUNCS = no ] || object=ipvs_tc_kfuncs
	mkdir -p "${1:-$PINS}"
	# shellcheck disable=SC2086 # none unless it is set
	"$MAPS" load "${2:-$NET_TREE/build/bpf/$object.bpf.o}" "${1:-$PINS}" $SNAT_FIRST $SNAT_LAST $SESSIONS
}

# to_peer INTERFACE: packets of established connections may go straight to its peer.
to_peer() { "$MAPS" put "$PINS/ipvs_peer_ifs" "$(hex_u32 "$(ifindex_of "$1")")" 01000000; }
not_to_peer() { "$MAPS" delete "$PINS/ipvs_peer_ifs" "$(hex_u32 "$(ifindex_of "$1")")"; }

# attach INTERFACE: both programs, by clsact, which every kernel has, and nobody else's.
attach() {
	to_peer "$1"
	in_director tc qdisc add dev "$1" clsact
	in_director tc filter add dev "$1" ingress bpf da object-pinned "$PINS/ipvs_tc_ingress"
	in_director tc filter add dev "$1" egress bpf da object-pinned "$PINS/ipvs_tc_egress"
}
detach() { in_director tc qdisc del dev "$1" clsact; }

ifindex_of() { in_director ip -o link show dev "$1" | cut -d: -f1; }

# snat_address ID ADDRESS INTERFACE
snat_address() {
	local id af
	id=$(hex_u32 "$(id_for "$2" "$1")")
	case $2 in *:*) af=$(hex_u32 10) ;; *) af=$(hex_u32 2) ;; esac
	"$MAPS" put "$PINS/ipvs_snat_ids" "$(hex_addr "$2")" "$id"
	"$MAPS" put "$PINS/ipvs_snat_addrs" "$id" "$(hex_addr "$2")$af"
	"$MAPS" put "$PINS/ipvs_snat_ifs" "$(hex_u32 "$(ifindex_of "$3")")$af" "$id"
}

# id_for ADDRESS ID
id_for() { case $1 in *:*) echo $(($2 + IPV6_IDS)) ;; *) echo "$2" ;; esac; }

snat_addresses_of_family() {
	snat_address 1 "$dip1" srv1
	snat_address 2 "$dip2" srv2
}
# Of both real servers' interfaces, for all families.
snat_addresses() { for_families snat_addresses_of_family; }

service_key() {
	local protocol
	case $3 in tcp) protocol=06 ;; udp) protocol=11 ;; sctp) protocol=84 ;; esac
	echo "$(hex_addr "$1")$(hex_be16 "$2")${protocol}00"
}
# whitelist ADDRESS PORT tcp|udp|sctp ID [FLAGS]
whitelist() {
	"$MAPS" put "$PINS/ipvs_services" "$(service_key "$1" "$2" "$3")" \
		"$(hex_u32 "$(id_for "$1" "$4")")$(hex_u32 "${5:-$SNAT_ALWAYS}")"
}
# unlist ADDRESS PORT tcp|udp|sctp
unlist() { "$MAPS" delete "$PINS/ipvs_services" "$(service_key "$@")"; }

map_names="services sessions replies frags snat_addrs snat_ids counters forwarded peer_ifs"
# hand_over [DIRECTORY]: gives the pinned maps to the module; fails with the errno's name.
hand_over() {
	local name text='' pins=() answer
	for name in $map_names; do
		text+=" $name={$name}"
		pins+=("$name=${1:-$PINS}/ipvs_$name")
	done
	answer=$(in_director "$MAPS" write $VS/bpf_maps "${text# }" "${pins[@]}")
	[ "$answer" = 0 ] || {
		echo "bpf_maps: $answer" >&2
		return 1
	}
}

set_switch() { echo "$1" | in_director tee $VS/bpf_mode >/dev/null; }
sessions() { "$MAPS" count "$PINS/ipvs_sessions"; }
replies() { "$MAPS" count "$PINS/ipvs_replies"; }

# counter NAME: of enum ipvs_counter, without its prefix.
counter() {
	local index
	index=$(awk '/^enum ipvs_counter/ { on = 1; n = 0; next } on && /IPVS_COUNT/ {
		gsub(/[ \t,]/, "", $1); if ($1 == name) { print n; exit } n++ }' \
		name="IPVS_COUNT_$1" "$NET_TREE/bpf/abi.h")
	"$MAPS" sum "$PINS/ipvs_counters" "$index"
}

# by_sight COMMAND…: runs it; how many packets the module has forwarded meanwhile in one call. What COMMAND prints goes to standard error.
by_sight() {
	local tracing=/sys/kernel/tracing event status=0
	[ -d "$tracing/events" ] || tracing=/sys/kernel/debug/tracing
	event=$tracing/events/ipvs_bpf_test/known
	# shellcheck disable=SC2016 # it is the kernel's
	echo 'r:ipvs_bpf_test/known bpf_ip_vs_forward by=$retval' >>"$tracing/kprobe_events"
	echo 'by != 0' >"$event/filter"
	echo 1 >"$event/enable"
	"$@" >&2 || status=$?
	echo 0 >"$event/enable"
	grep -c ' known: ' "$tracing/trace"
	echo '-:ipvs_bpf_test/known' >>"$tracing/kprobe_events"
	echo >"$tracing/trace"
	return $status
}

# Everything for both real servers; virtual servers are whitelisted afterwards.
accelerate() {
	insert_patched_module
	load_programs
	attach srv1
	attach srv2
	snat_addresses
	hand_over
	set_switch 1
}
