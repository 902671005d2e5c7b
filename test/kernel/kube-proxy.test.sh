#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=600 kernels=6.1
# The module exchanged under a process that uses IPVS all the time, as kube-proxy does: it stands still
# meanwhile, knows the netlink family's id afterwards, and its virtual servers are all there.
. "$(dirname "$0")/agent.sh"

PROXY_LOG=$NET_RUN/proxy.log
# What it adds, and the self-check's virtual server, which it removes.
PROXY_VIP=10.9.0.2 STRANGER=198.19.255.241:9

proxy_state() { awk '{ sub(/.*\) /, ""); print $1 }' "/proc/$proxy/stat"; }
is_frozen() { [ "$(proxy_state)" = T ]; }
is_running() { [ "$(proxy_state)" != T ]; }
added() { grep -c '^ok' "$PROXY_LOG"; }
# Every virtual server that it was told is there, is there. It stands meanwhile: the kernel's list of a
# table that grows has some twice and others not at all.
nothing_lost() {
	kill -STOP "$proxy"
	waits_for is_frozen
	awk '/^ok/ { print $2 }' "$PROXY_LOG" | sort >"$NET_RUN/told"
	comm -23 "$NET_RUN/told" <(ipvsadm -Sn | sed -n "s/^-A -t $PROXY_VIP:\([0-9]*\) .*/\1/p" | sort) >"$NET_RUN/lost"
	kill -CONT "$proxy"
	equal "$(wc -l <"$NET_RUN/lost")" 0 "virtual servers lost"
}
goes_on() {
	local before
	waits_for is_running
	before=$(added)
	waits_for eval "[ \$(added) -ge $((before + 5)) ]"
	equal "$(grep -c '^failed' "$PROXY_LOG" || true)" 0 "requests that failed"
	nothing_lost
}

up_under_it() {
	agent_up
	agent_status >/dev/null
	goes_on
	note "up: $(cat "$STATE/last-disruption.json")"
	requests
}

down_under_it() {
	agent down
	equal "$(cat /proc/sys/net/ipv4/vs/bpf_mode 2>/dev/null || true)" '' bpf_mode
	goes_on
}

killed() { # STEP:MOMENT COMMAND…
	local at=$1 rc=0
	shift
	IPVS_BPF_KILL_AT=$at "$@" || rc=$?
	equal "$rc" 137 "exit status of $* killed at $at"
}

goes_on_after_kill() { # STEP:MOMENT
	killed "$1" agent_up
	is_frozen
	agent_up
	agent_status >/dev/null
	goes_on
	killed "$1" agent down
	is_frozen
	agent down
	goes_on
}

agent_director
"$NET_TREE/build/test/proxy" "$PROXY_VIP" "$STRANGER" >"$PROXY_LOG" &
proxy=$!
waits_for grep -q '^ok' "$PROXY_LOG"
it 'goes on when the patched module comes' up_under_it
it 'goes on when the in-tree module comes back' down_under_it
it 'goes on after the agent was killed with the table flushed' goes_on_after_kill flush:applied
kill "$proxy"
finish
