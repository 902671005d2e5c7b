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
		    - { address: $vip, port: $port, protocol: TCP }${1:+
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

ipvs_bpf_sessions() { "$NET_TREE/build/test/maps" count /sys/fs/bpf/ipvs-bpf/ipvs_sessions; }
