#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The part of the benchmark inside the virtual machine: guest.sh REPEATS SERVICES SESSIONS 4|6 PATH…, with so many
# further Services and open sessions beside. One JSON object a line: {path, kind: short|long|conntrack|memory,
# repeat, value}.
set -euo pipefail
cd "$(dirname "$0")/.."
NET_IPV6=$([ "$4" = 6 ] && echo 1 || echo 0)
. test/net/topology.sh
use_family "$4"
. bench/paths.sh
. bench/conntrack.sh
. bench/ipvs-bpf.sh
. bench/beside.sh

repeats=$1 services=$2 sessions=$3
shift 4
requests=1000
warmup=200
bytes=50000000

# run PATH KIND REPEAT FIELD COMMAND…: what the load tool answered, as a line of ours. Nothing else
# may run meanwhile: on one processor the instructions of a jq that starts are counted too.
run() {
	local path=$1 kind=$2 repeat=$3 field=$4 answer
	shift 4
	answer=$(in_client "$LOAD" "$@" --deadline 300) || {
		echo "$path: load $1: $answer" >&2
		return 1
	}
	jq -Mc --arg path "$path" --arg kind "$kind" --argjson repeat "$repeat" \
		"{path: \$path, kind: \$kind, repeat: \$repeat, value: .$field}" <<<"$answer"
}

# Until all that is left of earlier connections is gone, TIME_WAIT (120 s) too: with random SNAT ports
# a request may meet a TIME_WAIT socket of the real server, and then waits for a retransmission.
# Under -icount a pause costs next to no time.
settle() { sleep 130; }

# put_beside KIND COUNT: what this path is measured beside, if it has it.
put_beside() {
	[ "$2" != 0 ] && declare -F "path_${path}_beside_$1" >/dev/null || return 0
	echo "$path: $2 $1" >&2
	"path_${path}_beside_$1" "$2"
}

measure() {
	local path=$1 to repeat made
	to=$("path_${path}_to")
	for repeat in $(seq "$repeats"); do
		run "$path" short "$repeat" nsPerRequest \
			requests --to "$to" --count "$requests" --warmup "$warmup"
		run "$path" long "$repeat" nsPer64KiB \
			transfer --to "$to" --bytes "$bytes" --warmup 1000000
		settle
	done
	# Counting costs instructions, so it has a run of its own.
	conntrack_count_start
	run "$path" answered 1 answered requests --to "$to" --count "$requests"
	made=$(conntrack_count_stop)
	settle
	jq -Mnc --arg path "$path" --argjson made "$made" \
		'{path: $path, kind: "conntrack", repeat: 1, value: $made}'
	[ -z "$bytes_a_session" ] || jq -Mnc --arg path "$path" --argjson value "$bytes_a_session" \
		'{path: $path, kind: "memory", repeat: 1, value: $value}'
}

net_up
# The kernel's default is 12: beside a million sessions, who looks for a connection that is not there meets 244 others.
[ -z "${IPVS_BPF_CONN_TAB_BITS:-}" ] || modprobe ip_vs conn_tab_bits="$IPVS_BPF_CONN_TAB_BITS"
net_serve rs1 "0.0.0.0:$bench_port" --sequential
for path in "$@"; do
	"path_${path}_up"
	bytes_a_session=
	put_beside services "$services"
	put_beside sessions "$sessions"
	echo "measuring $path" >&2
	sleep 1
	measure "$path"
	[ -z "$bytes_a_session" ] || end_sessions
	"path_${path}_down"
done
