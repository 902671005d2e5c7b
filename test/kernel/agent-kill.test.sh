#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=1800 kernels=6.1
# kill -9 at every step of up and of down, then up or down again: converges, and no virtual server is lost.
. "$(dirname "$0")/agent.sh"

# killed_at STEP:MOMENT COMMAND…: succeeds if the command died there, as kill -9 would make it.
killed_at() {
	local at=$1 rc=0
	shift
	IPVS_BPF_KILL_AT=$at "$@" || rc=$?
	equal "$rc" 137 "exit status of $* killed at $at"
}

# Each time the command gets one step further before it dies; the last time it may live.
killed_at_each_step() { # STEPS-FILE COMMAND…
	local steps=$1 step
	shift
	while read -r step; do
		killed_at "$step:applied" "$@"
	done <"$steps"
	"$@"
	equal "$(table)" "$before" "virtual servers"
}

up_goes_on() {
	agent steps --config "$CONFIG" >"$NET_RUN/steps"
	note "$(wc -l <"$NET_RUN/steps") steps of up"
	killed_at_each_step "$NET_RUN/steps" agent_up
	agent_status
	requests
}

down_goes_on() {
	agent steps >"$NET_RUN/steps"
	note "$(wc -l <"$NET_RUN/steps") steps of down"
	killed_at_each_step "$NET_RUN/steps" agent down
	same_listing
}

down_after_up() { # STEP:MOMENT
	killed_at "$1" agent_up
	agent down
	same_listing
}

up_after_down() { # STEP:MOMENT
	agent_up
	killed_at "$1" agent down
	agent_up
	equal "$(table)" "$before" "virtual servers"
	agent_status
	requests
	agent down
	same_listing
}

agent_director
before=$(table)
listed before
it 'goes on with up from every step' up_goes_on
it 'goes on with down from every step' down_goes_on
for at in flush:applied insertModule:before restoreTable:before setSwitch:applied selfCheck:before; do
	it "puts the machine back after up was killed at $at" down_after_up "$at"
done
for at in 'loadModule ip_vs:applied' forgetAll:before; do
	it "comes up again after down was killed at $at" up_after_down "$at"
done
finish
