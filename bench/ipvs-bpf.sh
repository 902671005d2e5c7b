# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The path of ipvs-bpf: what the native IPVS path has, rules and all, and then `ipvs-bpf node up`.

. bench/awake.sh

agent=${IPVS_BPF_AGENT:-$NET_TREE/dist/ipvs-bpf}
config=${NET_RUN}/node.yaml

# write_config [VIRTUAL-SERVER]: accelerates the one of the benchmark, and one more.
write_config() {
	cat >"$config" <<-YAML
		apiVersion: ipvs-bpf.io/v1alpha1
		kind: NodeConfig
		mode: Enabled
		services:
		  virtualServers:
		    - { address: "$(bare "$vip")", port: $port, protocol: TCP }${1:+
		    - $1}
		snat:
		  mode: Always
	YAML
}

path_ipvs-bpf_up() {
	path_ipvs_up
	write_config
	awake "$agent" node up --config "$config" >&2
}
# accelerate_all [ENTRIES]: every virtual server, in a map of so many sessions.
accelerate_all() {
	cat >"$config" <<-YAML
		apiVersion: ipvs-bpf.io/v1alpha1
		kind: NodeConfig
		mode: Enabled
		services: { all: true }
		snat: { mode: Always }${1:+
		datapath: { sessionMapMaxEntries: $1 \}}
	YAML
	awake "$agent" node up --config "$config" >&2
}
path_ipvs-bpf_down() {
	awake "$agent" node down >&2
	path_ipvs_down
}
path_ipvs-bpf_to() { echo "$vip:$port"; }

# At the other end of every interface is a client or real server itself, as with pods. Not so:
# as_no_pair INTERFACE…
as_no_pair() {
	local interface
	for interface in "$@"; do
		"$NET_TREE/build/test/maps" delete /sys/fs/bpf/ipvs-bpf/ipvs_peer_ifs \
			"$(printf '%02x000000' "$(in_director cat "/sys/class/net/$interface/ifindex")")"
	done
}
path_ipvs-bpf-pod_up() {
	path_ipvs-bpf_up
	as_no_pair cli
}
path_ipvs-bpf-pod_down() { path_ipvs-bpf_down; }
path_ipvs-bpf-pod_to() { path_ipvs-bpf_to; }
path_ipvs-bpf-interfaces_up() {
	path_ipvs-bpf_up
	as_no_pair cli srv1
}
path_ipvs-bpf-interfaces_down() { path_ipvs-bpf_down; }
path_ipvs-bpf-interfaces_to() { path_ipvs-bpf_to; }

ipvs_bpf_sessions() { "$NET_TREE/build/test/maps" count /sys/fs/bpf/ipvs-bpf/ipvs_sessions; }
