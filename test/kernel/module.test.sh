#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: icount=yes timeout=900
# The patched module beside the stock one: exports, schedulers, cost when off; and its control files.
. "$(dirname "$0")/../net/suite.sh"

exports() { awk -F'\t' '$3 ~ /(^|\/)ip_vs$/ { print $1, $2, $4 }' "$1" | sort; }

exports_are_stock() {
	local ours stock
	ours=$(exports "build/$RELEASE/Module.symvers")
	stock=$(exports "/usr/src/linux-headers-$RELEASE/Module.symvers")
	at_least "$(wc -l <<<"$ours")" 10 "exported symbols"
	equal "$ours" "$stock" "symbols and checksums"
}

# Those of a distribution's kernel that need ip_vs, whatever their number is.
companions() {
	local directory
	directory=$(dirname "$(modinfo -k "$RELEASE" -F filename ip_vs_rr)")
	find "$directory" -name 'ip_vs_*.ko*' -printf '%f\n' | sed 's/\.ko.*//' | sort
}

stock_modules_load() {
	local module
	at_least "$(companions | wc -l)" 14 "schedulers and helpers"
	for module in $(companions) xt_ipvs; do
		modprobe "$module"
		grep -q "^$module " /proc/modules
	done
	equal "$(cat /sys/module/ip_vs/srcversion)" "$(modinfo -F srcversion "build/$RELEASE/ip_vs.ko")" srcversion
	modprobe -r xt_ipvs
}

switch_is_off_and_absent() {
	equal "$(cat "$VS/bpf_mode")" 0 bpf_mode
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
	equal "$(cat "$VS/bpf_conns")" 0 bpf_conns
}

# Whether a packet that has nothing to do with IPVS meets the PRE_ROUTING hook.
hook_calls() {
	local calls
	echo 'p:ipvs_bpf_test/hook pre_routing_hook' >>"$tracing/kprobe_events"
	echo 1 >"$tracing/events/ipvs_bpf_test/hook/enable"
	in_client "$LOAD" requests --to "$rip1:80" --count 1 >/dev/null
	calls=$(awk '$1 == "hook" { print $2 }' "$tracing/kprobe_profile")
	echo 0 >"$tracing/events/ipvs_bpf_test/hook/enable"
	echo '-:ipvs_bpf_test/hook' >>"$tracing/kprobe_events"
	echo "$calls"
}

hooks_follow_the_switch() {
	equal "$(hook_calls)" 0 "packets at the hook while off"
	set_switch 1
	at_least "$(hook_calls)" 5 "packets at the hook while on"
	set_switch 0
	equal "$(hook_calls)" 0 "packets at the hook after off"
}

instructions() { # TO
	field nsPerRequest "$(in_client "$LOAD" requests --to "$1" --count 150 --warmup 100 --deadline 300)"
}

measure() { # stock|patched
	"insert_$1_module"
	in_director sysctl -qw net.ipv4.vs.conntrack=1
	virtual_server -t 80 rr "$rip1:80"
	instructions "$vip:80" >>"$NET_RUN/ipvs.$1"
	instructions "$rip1:80" >>"$NET_RUN/routing.$1"
	in_director ipvsadm -C
	remove_modules
}

# In turns, so that what grows meanwhile, as the conntrack table does, counts on both sides; and
# the least of each, as what else the kernel does (RCU, reclaim, timers) only adds.
measure_both() {
	for _ in 1 2 3 4; do
		measure stock
		measure patched
	done
}
least() { sort -n "$NET_RUN/$1" | head -1; }

within_one_percent() { # STOCK OURS WHAT
	at_least "$1" 100000 "$3: instructions a request, stock"
	note "$3: $1 instructions a request with the stock module, $2 with the patched one, off"
	at_most $((($2 > $1 ? $2 - $1 : $1 - $2) * 100)) "$1" "$3: hundredfold difference"
}

# write TEXT [NAME=PIN…]: what writing it to bpf_maps answers, 0 or an errno's name.
write() {
	local text=$1
	shift
	"$MAPS" write "$VS/bpf_maps" "$text" "$@"
}

# shellcheck disable=SC2154 # of test/net/accelerate.sh
all_maps() {
	local name
	for name in $map_names; do echo "$name=$PINS/ipvs_$name"; done
}
good_text="services={services} sessions={sessions} replies={replies} frags={frags} snat_addrs={snat_addrs} snat_ids={snat_ids} counters={counters} forwarded={forwarded} peer_ifs={peer_ifs}"

refuses() { # ERRNO TEXT
	local answer pins
	mapfile -t pins < <(all_maps)
	answer=$(write "$2" "${pins[@]}")
	equal "$answer" "$1" "answer to '$2'"
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
}

refuses_bad_maps() {
	refuses EINVAL ""
	refuses EINVAL " "
	refuses EINVAL "services"
	refuses EINVAL "services="
	refuses EINVAL "services=x"
	refuses EINVAL "services=-1"
	refuses EINVAL "=3"
	refuses EINVAL "nonsense={services}"
	refuses EINVAL "services={services}"
	refuses EINVAL "${good_text% *}"
	refuses EINVAL "${good_text} services={services}"
	refuses EINVAL "${good_text/sessions=/services=}"
	refuses EINVAL "${good_text//=/ = }"
	refuses EINVAL "$(printf 'a%.0s' {1..255})"
	refuses EINVAL "$(printf 'a%.0s' {1..256})"
	refuses EINVAL "$(printf ':%.0s' {1..4095})"
	refuses EINVAL "$good_text$(printf ' %.0s' {1..300})x"
	refuses EBADF "${good_text/\{services\}/999}"
	refuses EMEDIUMTYPE "${good_text/services=\{services\}/services={sessions\}}"
	refuses EMEDIUMTYPE "${good_text/frags=\{frags\}/frags={replies\}}"
	refuses EINVAL "${good_text/services=\{services\}/services=0x3}"
}

# Connections keep the addresses of their sessions: BPF_F_NO_PREALLOC (1) moves elements.
refuses_sessions_that_move() {
	local answer pins
	"$MAPS" create "$PINS/moving" 1 24 128 1024 1
	mapfile -t pins < <(all_maps | grep -v '^sessions=')
	answer=$(write "$good_text" sessions="$PINS/moving" "${pins[@]}")
	rm "$PINS/moving"
	equal "$answer" EMEDIUMTYPE answer
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
}

# A descriptor that is open but no map: of a file.
refuses_what_is_no_map() {
	local answer pins
	mapfile -t pins < <(all_maps | grep -v '^services=')
	answer=$(write "$good_text" services="$PINS/ipvs_tc_ingress" "${pins[@]}")
	equal "$answer" EINVAL answer
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
}

refuses_random_text() {
	local text answer seed
	for seed in $(seq 150); do
		text=$(awk -v seed="$seed" 'BEGIN { srand(seed); set = "servicemapfd={}0123456789 \t-+,:/"
			n = int(rand() * 300) + 1; while (n--) printf "%s", substr(set, int(rand() * length(set)) + 1, 1) }')
		answer=$(write "$text")
		case $answer in
		0 | '') echo "seed $seed was accepted: $text" && return 1 ;;
		esac
	done
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
}

mode() { "$MAPS" write "$VS/bpf_mode" "$1"; }
refuses_bad_modes() {
	local text
	equal "$(mode 1)" ENXIO "switching on without maps"
	for text in '' x 1x '1 0' 0x1 -1 1.0 '--' "$(printf '0%.0s' {1..300})"; do
		equal "$(mode "$text")" EINVAL "mode '$text'"
	done
	for text in 2 255; do equal "$(mode "$text")" ERANGE "mode $text"; done
	equal "$(mode 256)" ERANGE "mode 256"
	equal "$(cat "$VS/bpf_mode")" 0 bpf_mode
}

# Root of a container: all capabilities, but in a user namespace of its own.
as_container_root() { unshare --user --map-root-user --net -- "$@"; }
refuses_the_unprivileged() {
	local answer
	answer=$(as_container_root "$MAPS" write "$VS/bpf_mode" 0)
	equal "$answer" EPERM "bpf_mode, root of a container"
	answer=$(as_container_root "$MAPS" write "$VS/bpf_maps" none)
	equal "$answer" EPERM "bpf_maps, root of a container"
	answer=$(setpriv --bounding-set -net_admin "$MAPS" write "$VS/bpf_mode" 0)
	equal "$answer" EPERM "bpf_mode, root without CAP_NET_ADMIN"
	fails setpriv --reuid 65534 --clear-groups sh -c "echo 0 >$VS/bpf_mode" 2>/dev/null
	fails setpriv --reuid 65534 --clear-groups cat "$VS/bpf_maps" 2>/dev/null
}

refuses_to_repeat() {
	local before pins
	mapfile -t pins < <(all_maps)
	equal "$(write "$good_text" "${pins[@]}")" 0 "first time"
	before=$(cat "$VS/bpf_maps")
	equal "$(write "$good_text" "${pins[@]}")" EBUSY "second time"
	equal "$(cat "$VS/bpf_maps")" "$before" bpf_maps
	set_switch 1
	equal "$(write none)" EBUSY "giving back while on"
	equal "$(cat "$VS/bpf_maps")" "$before" bpf_maps
	set_switch 1
	equal "$(cat "$VS/bpf_mode")" 1 "bpf_mode, switched on twice"
	set_switch 0
	equal "$(write none)" 0 "giving back while off"
	equal "$(cat "$VS/bpf_maps")" none bpf_maps
}

# Sessions outlive the module that made them (exchange.test.sh), and not the next one's start.
forgets_sessions_of_another_module() {
	local number
	for number in 01 02 03; do
		"$MAPS" put "$PINS/ipvs_sessions" "$(printf "$number%.0s" {1..24})" "$(printf '01%.0s' {1..128})"
		"$MAPS" put "$PINS/ipvs_replies" "$(printf "$number%.0s" {1..24})" "$(printf '01%.0s' {1..24})"
	done
	equal "$(sessions)/$(replies)" 3/3 "sessions/SNAT ends"
	hand_over
	equal "$(sessions)/$(replies)" 0/0 "sessions/SNAT ends"
}

net_up
net_serve rs1 0.0.0.0:80 --sequential
net_routes
insert_stock_module
masquerade
remove_modules
measure_both
it 'costs as much as stock while off: IPVS' within_one_percent "$(least ipvs.stock)" "$(least ipvs.patched)" IPVS
it 'costs as much as stock while off: routing' within_one_percent "$(least routing.stock)" "$(least routing.patched)" routing
insert_patched_module
it 'is off at first' switch_is_off_and_absent
it 'exports what the stock module exports' exports_are_stock
it 'carries every stock scheduler and helper' stock_modules_load
load_programs
it 'refuses maps that are not as the contract says' refuses_bad_maps
it 'refuses sessions that may move' refuses_sessions_that_move
it 'refuses a descriptor that is no map' refuses_what_is_no_map
it 'refuses random text' refuses_random_text
it 'refuses modes that there are not' refuses_bad_modes
it 'refuses those without CAP_NET_ADMIN in the first user namespace' refuses_the_unprivileged
it 'takes maps once' refuses_to_repeat
it 'forgets sessions that another module has left' forgets_sessions_of_another_module
it 'has hooks only while it is on' hooks_follow_the_switch
finish
