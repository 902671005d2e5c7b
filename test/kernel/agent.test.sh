#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=900
# The agent on a real kernel: up, up again, status, drift, run, failures that are rolled back, down.
. "$(dirname "$0")/agent.sh"

up_keeps_the_table() {
	local before
	before=$(table)
	agent_up
	equal "$(table)" "$before" "virtual servers"
	equal "$(cat /proc/sys/net/ipv4/vs/sync_retries)" 3 sync_retries
	equal "$(conn_tab_bits)" 10 conn_tab_bits
	equal "$(cat /proc/sys/net/ipv4/vs/expire_nodest_conn)" 1 expire_nodest_conn
	equal "$(ipvsadm -Ln --timeout)" "Timeout (tcp tcpfin udp): 800 100 200" timeouts
	equal "$(srcversion)" "$(modinfo -F srcversion "$NET_TREE/build/$RELEASE/ip_vs.ko")" srcversion
}

status_is_complete() {
	local status
	status=$(agent_status -o json)
	equal "$(jq -r .module.origin <<<"$status")" Patched "module"
	equal "$(jq -r .switch <<<"$status")" On switch
	equal "$(jq -c '[.virtualServers[] | [.port, .accelerated, .reason]] | sort' <<<"$status")" \
		'[[53,false,"NotWhitelisted"],[80,true,"Accelerated"]]' "virtual servers"
	equal "$(jq -c '[.interfaces[] | [.name, .ingress, .egress]] | sort' <<<"$status")" \
		'[["cli",true,true],["srv1",true,true],["srv2",true,true]]' interfaces
	equal "$(jq -c 'keys' <<<"$status")" \
		'["apiVersion","counters","interfaces","kind","mode","module","sessions","switch","sysctls","virtualServers"]' keys
}

up_again_changes_nothing() {
	local before
	before=$(identity)
	equal "$(agent up --config "$CONFIG" -o json | jq -c .steps)" '[]' steps
	equal "$(identity)" "$before" "ids of module, maps and programs"
}

traffic_is_accelerated() {
	local translated
	no_conntrack requests 50
	translated=$(agent_status -o json |
		jq '[.counters[] | select(.reason == "Snat" or .reason == "ForwardRequest") | .packets] | add')
	at_least "$translated" 200 "packets translated"
}

repairs_drift() {
	tc qdisc del dev srv1 clsact 2>/dev/null || rm -f /sys/fs/bpf/ipvs-bpf/links/*
	sysctl -qw net.ipv4.vs.expire_nodest_conn=0
	fails agent_status
	local before
	before=$(srcversion)
	agent_up
	agent_status
	equal "$(srcversion)" "$before" srcversion
	requests
}

names_all_problems_of_a_config() {
	local text rc=0
	echo '{"apiVersion": "ipvs-bpf.io/v1alpha1", "kind": "NodeConfig", "mode": "On", "services":
		{"virtualServers": [{"address": "10.9.0.1", "port": 70000, "protocol": "TCP"}]}, "dtapath": {}}' >"$NET_RUN/bad.json"
	text=$(agent up --config "$NET_RUN/bad.json" 2>&1) || rc=$?
	equal "$rc" 2 "exit status"
	grep -q '^  mode: "On": must be one of Enabled, Disabled$' <<<"$text"
	grep -q '^  services.virtualServers\[0\].port: 70000: must be an integer from 1 to 65535$' <<<"$text"
	grep -q '^  dtapath: {}: is not a field here; did you mean datapath?$' <<<"$text"
}

# A packet filter that eats the self-check's request makes the last step fail.
rolls_back() {
	local text rc=0
	nft -f - <<-RULES
		table ip eat {
			chain pre { type filter hook prerouting priority -500; tcp dport 9 drop; }
		}
	RULES
	text=$(agent_up 2>&1) || rc=$?
	nft delete table ip eat
	equal "$rc" 1 "exit status"
	echo "$text"
	grep -q '^ipvs-bpf: step selfCheck failed: ' <<<"$text"
	grep -q '^All steps before it were undone.$' <<<"$text"
}

# Neither tc nor Debian 12's bpftool lists TCX programs.
has_programs() {
	(agent_status -o json || true) | jq -e --arg name "$1" '.interfaces[] | select(.name == $name) | .ingress and .egress'
}
log_has() { grep -q "$1" "$NET_RUN/run.log"; }

run_keeps_converging() {
	local pid
	# Not through a function, whose process would get the signals.
	"$CLI" node run --config "$CONFIG" --interval 0.5 --log-level info 2>"$NET_RUN/run.log" &
	pid=$!
	# shellcheck disable=SC2064 # this process, and now
	trap "kill $pid" EXIT
	ip link add late type veth peer name late-peer
	ip address add 10.77.0.1/24 dev late
	ip link set late up
	ip link set late-peer up
	waits_for has_programs late
	cp "$CONFIG" "$NET_RUN/good.yaml"
	echo 'mode: nonsense' >"$CONFIG"
	kill -HUP "$pid"
	waits_for log_has 'the old one stays in force'
	mv "$NET_RUN/good.yaml" "$CONFIG"
	fails agent down
	kill -TERM "$pid"
	wait "$pid"
	trap - EXIT
	equal "$(cat /proc/sys/net/ipv4/vs/bpf_mode)" 1 switch
	ip link delete late
	agent_up
	agent_status
}

works_from_anywhere() {
	ln -s "$CLI" "$NET_RUN/linked"
	local text
	cd /
	text=$("$NET_RUN/linked" node up --help)
	grep -q -- --config <<<"$text"
	# One who reads only the beginning does not make it fail.
	"$NET_RUN/linked" node up --help | head -c 1 >/dev/null
	rm "$NET_RUN/linked"
}

# In modprobe's command alone: nobody can find it in a file.
modprobe ip_vs conn_tab_bits=10
agent_director
it 'is a command that works from any folder, through a link too' works_from_anywhere
# Modules that only this suite's own commands load.
nft list tables
listed before
it 'rolls every step back when the self-check fails' rolls_back
it 'leaves nothing behind after a rollback' same_listing
it 'swaps the module and keeps virtual servers, timeouts, sysctls and parameters' up_keeps_the_table
it 'reports what the config asks for as done' status_is_complete
it 'changes nothing the second time' up_again_changes_nothing
it 'accelerates, without a conntrack entry' traffic_is_accelerated
it 'repairs what somebody else changed' repairs_drift
it 'names all problems of a config at once' names_all_problems_of_a_config
it 'keeps converging in the foreground, and survives a bad config' run_keeps_converging
it 'puts the machine back without a config' agent down
it 'leaves nothing behind after down' same_listing
it 'has nothing to do the second time' agent down
finish
