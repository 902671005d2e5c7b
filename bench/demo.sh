#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The part of the demo inside the virtual machine. Words go to standard error, as they are true;
# results to standard output: a JSON object a line, {path, kind, value}.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/net/topology.sh
. bench/paths.sh
. bench/conntrack.sh
. bench/ipvs-bpf.sh
. bench/listing.sh

requests=500
warmup=100
datagrams=100
udp_port=53
bytes=20000000

say() { printf '==> %s\n' "$*" >&2; }
shown() {
	printf '    # %s\n' "$*" >&2
	"$@" 2>&1 | sed 's/^/    /' >&2
}
result() { printf '{"path":"%s","kind":"%s","value":%s}\n' "$@"; }
object() { sed -n "s/.*\"$1\":{\([^}]*\)}.*/\1/p"; }
text() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
number() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

# Questions of 100 bytes from four ports, with answers of 1,000.
ask_by_udp() {
	local port answer answered=0
	for port in 40001 40002 40003 40004; do
		answer=$(in_client "$LOAD" udp --to "$vip:$udp_port" --count $((datagrams / 4)) --size 100 \
			--reply-size 1000 --source-port "$port" --deadline 60)
		answered=$((answered + $(number answered <<<"$answer")))
	done
	result "$1" datagrams "$answered"
	say "$answered of $datagrams UDP questions answered; the last by $(text server <<<"$answer"), which sees the client $(text peer <<<"$answer")"
}

requests_and_transfer() {
	local path=$1 to=$2 answer
	# Conntrack entries are counted with the requests that warm up: counting costs instructions.
	conntrack_count_start
	answer=$(in_client "$LOAD" requests --to "$to" --count "$warmup" --who --deadline 300)
	[ "$path" = direct ] || ask_by_udp "$path"
	result "$path" conntrack "$(conntrack_count_stop)"
	say "$warmup requests to warm up; by real server $(object servers <<<"$answer"), which see the clients $(object peers <<<"$answer")"
	answer=$(in_client "$LOAD" requests --to "$to" --count "$requests" --deadline 300)
	result "$path" instructions "$(number nsPerRequest <<<"$answer")"
	result "$path" answered "$(number answered <<<"$answer")"
	answer=$(in_client "$LOAD" transfer --to "$to" --bytes "$bytes" --warmup 1000000 --deadline 300)
	result "$path" mbit "$(number mbitPerSecond <<<"$answer")"
	[ "$path" = direct ] || result "$path" connections "$(ipvs_connections)"
	say "$requests requests measured, and $((bytes / 1000000)) MB in one connection"
}

ipvs_connections() { grep -csE "^(TCP|UDP)" /proc/net/ip_vs_conn || true; }

say "client ($cip), director ($vip, $dip1, $dip2) and real servers ($rip1, $rip2) as network namespaces"
net_up
net_serve rs1 "0.0.0.0:$bench_port" --sequential
net_serve rs2 "0.0.0.0:$bench_port" --sequential
net_serve rs1 "0.0.0.0:$bench_port" --udp
net_serve rs2 "0.0.0.0:$bench_port" --udp

say 'client and real server wired directly, for comparison'
requests_and_transfer direct "$direct_rip:$bench_port"

say 'native: IPVS with conntrack and MASQUERADE, the rules that kube-proxy writes'
path_ipvs_up
in_director ipvsadm -a -t "$vip:$port" -r "$rip2:$bench_port" -m
in_director ipvsadm -A -u "$vip:$udp_port" -s rr
in_director ipvsadm -a -u "$vip:$udp_port" -r "$rip1:$bench_port" -m
in_director ipvsadm -a -u "$vip:$udp_port" -r "$rip2:$bench_port" -m
in_director iptables -t nat -I KUBE-SERVICES ! -s "$pod_cidr" -d "$vip" -p udp --dport "$udp_port" -j KUBE-MARK-MASQ
shown ipvsadm -Ln
requests_and_transfer ipvs "$vip:$port"
listing >/run/before
# As long as IPVS remembers the datagrams: connections outlive the exchange of modules, and go on natively.
sleep 330

say 'ipvs-bpf: the same, and then "ipvs-bpf node up"'
write_config "{ address: $vip, port: $udp_port, protocol: UDP }"
shown cat "$config"
awake "$agent" node up --config "$config" 2>&1 | sed 's/^/    /' >&2
requests_and_transfer ipvs-bpf "$vip:$port"
awake "$agent" node status --config "$config" >/run/status || {
	cat /run/status >&2
	exit 1
}
sed 's/^/    /' /run/status >&2
result ipvs-bpf sessions "$(ipvs_bpf_sessions)"

say '"ipvs-bpf node down" puts everything back'
awake "$agent" node down 2>&1 | sed 's/^/    /' >&2
listing >/run/after
say 'what differs from before (diff before after):'
if diff -u /run/before /run/after >&2; then
	printf '    nothing\n' >&2
	result ipvs-bpf differences 0
else
	result ipvs-bpf differences 1
fi
