#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: timeout=900 kernels=6.12
# What the fields of a NodeConfig do to real traffic, and what the agent refuses to start on.
. "$(dirname "$0")/agent.sh"

with_config() { # LINE…
	agent_config "$@"
	agent_up
}

# write_config SERVICES [LINE…]: with other services than agent_config has.
write_config() {
	printf '%s\n' 'apiVersion: ipvs-bpf.io/v1alpha1' 'kind: NodeConfig' 'mode: Enabled' "services: $1" "${@:2}" >"$CONFIG"
}

accelerated() { agent_status -o json | jq -c '[.virtualServers[] | select(.accelerated) | .port] | sort'; }
packets() { agent status --config "$CONFIG" -o json | jq --arg reason "$1" '[.counters[] | select(.reason == $reason) | .packets] | add // 0'; }
max_entries() { agent_status -o json | jq -c .sessions.maxEntries; }

every_virtual_server() {
	write_config '{all: true}'
	agent_up
	equal "$(accelerated)" '[53,80]' "accelerated ports"
	virtual_server -t 81 rr "$rip1:8080"
	agent_up
	equal "$(accelerated)" '[53,80,81]' "accelerated ports, with a new virtual server"
	ipvsadm -D -t "$vip:81"
	agent_up
	equal "$(accelerated)" '[53,80]' "accelerated ports, without it"
}

# What the real server sees of the client.
seen_client() {
	local answer
	hold_open seen --to "$vip:80"
	answer=$(exchange seen)
	hold_close seen
	field peer "$answer"
}

override_of_snat() {
	with_config 'snat: {mode: Always}'
	fails equal "$(seen_client)" 10.1.0.10 "with snat.mode Always, the client"
	write_config "{virtualServers: [{address: $vip, port: 80, protocol: TCP, snat: {mode: Never}}]}" 'snat: {mode: Always}'
	agent_up
	equal "$(seen_client)" 10.1.0.10 "with its own snat.mode Never, the client"
	write_config "{virtualServers: [{address: $vip, port: 80, protocol: TCP}]}" 'snat: {mode: External, clusterCIDRs: [10.1.0.0/16]}'
	agent_up
	equal "$(seen_client)" 10.1.0.10 "with snat.mode External, a client of clusterCIDRs"
}

# Datagrams of as many clients as the map has entries; each stays as long as the timeout for UDP.
# The session of the self-check is in it too, and may end at any time: one entry is not counted on.
fill_the_map() { # ENTRIES FIRST_PORT
	in_client "$LOAD" spoof --udp --from "10.1.0.10:$2" --to "$vip:53" --count $(($1 + 100))
	at_least "$(agent_status -o json | jq .sessions.entries)" $(($1 - 1)) sessions
}

bypasses_when_full() {
	write_config '{all: true}' 'datapath: {sessionMapMaxEntries: 1024, onMapFull: Bypass}'
	agent_up
	equal "$(max_entries)" 1024 maxEntries
	fill_the_map 1024 10000
	at_least "$(packets BypassMapFull)" 99 "datagrams left to the native path"
	requests 20
	at_least "$(packets BypassMapFull)" 118 "connections left to the native path"
}

drops_when_full() {
	local answer
	agent down
	write_config '{all: true}' 'datapath: {sessionMapMaxEntries: 1024, onMapFull: Drop}'
	agent_up
	hold_open established --to "$vip:80"
	exchange established
	# Of other ports: connections outlive the exchange, and go on natively.
	fill_the_map 1024 20000
	answer=$(client_requests --to "$vip:80" --count 5 --timeout-ms 500) || true
	at_least "$(field failed "$answer")" 4 "requests that failed"
	at_least "$(packets DropMapFull)" 104 "packets dropped"
	exchange established
	hold_close established
}

resizes_the_map() {
	with_config 'datapath: {sessionMapMaxEntries: 4096}'
	equal "$(max_entries)" 4096 maxEntries
	no_conntrack requests 50
}

disables() {
	local before
	before=$(srcversion)
	hold_open before --to "$vip:80"
	exchange before
	sed -i 's/^mode: .*/mode: Disabled/' "$CONFIG"
	agent_up
	agent_status
	equal "$(cat /proc/sys/net/ipv4/vs/bpf_mode)" 0 switch
	equal "$(srcversion)" "$before" srcversion
	conntrack_count_start
	requests 20
	at_least "$(conntrack_count_stop)" 20 "conntrack entries made"
	exchange before
	hold_close before
	sed -i 's/^mode: .*/mode: Enabled/' "$CONFIG"
	agent_up
	no_conntrack requests 20
}

switch_is_off() { equal "$(cat /proc/sys/net/ipv4/vs/bpf_mode)" 0 switch; }

# UDP, whose connections end soon after the last packet; those of TCP would be in TIME_WAIT for two minutes.
drains() {
	local pid started
	agent down
	write_config '{all: true}'
	agent_up
	ipvsadm --set 0 0 10
	hold_open long --udp --to "$vip:53"
	exchange long
	started=$SECONDS
	agent down --drain-timeout 400 &
	pid=$!
	waits_for switch_is_off
	exchange long
	kill -0 "$pid"
	hold_close long
	wait "$pid"
	equal "$(agent_status_origin)" InTree "origin of the module"
	at_most $((SECONDS - started)) 300 "seconds, of 400 that it might have waited"
}
agent_status_origin() { (agent_status -o json || true) | jq -r .module.origin; }

refuses_to_start() { # PATTERN
	local text rc=0
	text=$(agent_up 2>&1) || rc=$?
	echo "$text"
	equal "$rc" 1 "exit status"
	grep -q "$1" <<<"$text"
}

virtual_servers_elsewhere() {
	ip netns add elsewhere
	ip netns exec elsewhere ipvsadm -A -t 192.0.2.1:80 -s rr
	refuses_to_start 'Other network namespaces have virtual servers'
	ip netns exec elsewhere ipvsadm -C
	ip netns delete elsewhere
}

no_module() {
	agent_config 'module: {path: /nowhere/ip_vs.ko}'
	refuses_to_start 'no patched module .* at /nowhere/ip_vs.ko'
}

no_forwarding() {
	agent_config
	sysctl -qw net.ipv4.ip_forward=0
	refuses_to_start 'net.ipv4.ip_forward is 0'
	sysctl -qw net.ipv4.ip_forward=1
}

foreign_programs_stay() {
	local text
	tc qdisc add dev srv1 clsact
	tc filter add dev srv1 egress pref 7 matchall action ok
	tc filter show dev srv1 egress >"$NET_RUN/foreign"
	text=$(agent_up 2>&1)
	echo "$text"
	requests
	agent down
	tc filter show dev srv1 egress | diff "$NET_RUN/foreign" -
	tc qdisc del dev srv1 clsact
}

# shellcheck disable=SC2154 # addresses of test/net/topology.sh
agent_director
net_serve rs1 0.0.0.0:5300 --udp
net_routes
masquerade
modprobe ip_vs_rr
it 'accelerates every virtual server' every_virtual_server
it 'lets a virtual server have its own SNAT' override_of_snat
it 'leaves new connections to the native path when the session map is full' bypasses_when_full
it 'drops new connections when the session map is full, if it is told to' drops_when_full
it 'changes the size of the session map' resizes_the_map
it 'turns off and on again' disables
it 'waits for accelerated connections to end' drains
listed before
it 'refuses virtual servers in other namespaces' virtual_servers_elsewhere
it 'refuses a module that is not there' no_module
it 'refuses a machine that does not forward' no_forwarding
it 'leaves everything as it was when it refuses' same_listing
it 'leaves tc filters of others alone' foreign_programs_stay
finish
