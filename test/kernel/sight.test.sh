#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vm: memory=2048 timeout=600
# Generated packets of connections that the module knows by sight and forwards in one call, and the reference model of the
# programs. Each kernel gets packets of its own, and always the same kinds; client and SNAT ports are what they are.
NET_IPV6=1 KFUNCS=yes
. "$(dirname "$0")/../net/suite.sh"

# More would be slower to read; with less, more flows would get one place in the module, whose sessions it then does not know.
SESSIONS=32768
# Connections of a family.
TCP=4 UDP=4 KEPT=2
SEED=$(uname -r | cksum | cut -d ' ' -f 1)
LOG=$NET_RUN/generated

forwarded() { echo $(($(counter FORWARD_REQUEST) + $(counter FORWARD_REPLY))); }

# Of port 81 the real servers see the clients themselves.
virtual_servers_and_whitelist() {
	virtual_server -t 81 rr "$rip1:8080" "$rip2:8080"
	whitelist "$vip" 81 tcp 3 "$SNAT_NEVER"
}

# Their names.
udp_names() { seq -f "udp$family-%.0f" "$UDP"; }
names() { echo "tcp$family kept$family" && udp_names; }
# Each exchanges until it has been offered both paths.
open_all() {
	local name
	HOLD_AS=crowd hold_open "tcp$family" --to "$vip:80" --count "$TCP"
	HOLD_AS=crowd hold_open "kept$family" --to "$vip:81" --count "$KEPT"
	for name in $(udp_names); do hold_open "$name" --to "$vip:53" --udp; done
	for name in $(names) $(names) $(names); do exchange "$name" >/dev/null; done
}
close_all() {
	local name
	for name in $(names); do hold_close "$name"; done
}

has_connections() {
	for_families open_all
	equal "$(sessions)/$(replies)" "$((2 * (TCP + UDP + KEPT)))/$((2 * (TCP + UDP)))" "sessions and SNAT ends"
	# What was on its way has come.
	sleep 1
	# Who has to tell another director of everything is told nothing: no segment of these packets changes a connection.
	in_director ipvsadm --start-daemon master --mcast-interface cli
}

generated() {
	IPVS_BPF_TC_OBJECT=ipvs_tc_kfuncs "$NET_TREE/node_modules/.bin/node" test/bpf/generated/run.ts --pins "$PINS" \
		--seed "$SEED" --packets 20400 "$@" >"$LOG" 2>&1 || {
		cat "$LOG"
		return 1
	}
}

# A few have a data offset that the module does not take, or no length, and two flows may have one place.
are_forwarded_by_sight() {
	local before known
	before=$(forwarded)
	known=$(by_sight generated "$@")
	sed 's/^/# /' "$LOG" >&3
	note "the module has forwarded $known of $(($(forwarded) - before))"
	at_least "$known" $((($(forwarded) - before) * 93 / 100)) "packets forwarded by sight"
}

still_exchange() {
	local name
	for name in $(names); do exchange "$name"; done
}

net_up
net_routes
serve_both rs1 rs2
accelerate
attach cli
virtual_servers_of_both
whitelist_both
for_families virtual_servers_and_whitelist
# A slow machine takes longer than connections without a packet last.
in_director ipvsadm --set 3600 0 3600

it 'has connections, TCP and UDP, IPv4 and IPv6' has_connections
it 'forwards generated packets of them by sight as the session contract says' are_forwarded_by_sight "$@"
in_director ipvsadm --stop-daemon master
it 'has harmed no connection' for_families still_exchange
for_families close_all
finish
