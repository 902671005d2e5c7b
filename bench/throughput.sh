#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The part of the throughput benchmark inside the virtual machine, which is the director and nothing else:
#
#    client                                this machine                                 rs1
#    cip 10.1.0.10 ─ tap ─ eth0 10.1.0.1   vip 10.9.0.1   eth1 10.2.1.1 ─ tap ─ rip1 10.2.1.10
#
# Does what the lines of its standard input say, and answers each with a line once it is done; in between it waits for
# the next one without using the processor. bench/throughput-run.ts knows the other ends.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/net/topology.sh
. bench/paths.sh
. bench/ipvs-bpf.sh

# The guest's clock is not one of instructions: nothing has to be kept busy.
awake() { "$@"; }

# Of as many endpoints each virtual server chooses. With one of them alone a few seconds would use up all ports that
# SNAT has for it, as ports stay taken for two minutes after a connection.
endpoints=16
transfer_port=5201
node_port=30080
transfer_node_port=30201

director_up() {
	mkdir -p "$NET_RUN"
	ip link set eth0 name cli
	ip link set eth1 name srv1
	net_add_namespace root
	ip addr add 10.1.0.1/24 dev cli
	ip addr add "$dip1/24" dev srv1
	ip link set cli up
	ip link set srv1 up
	add_virtual_address
}

# real_servers ADDRESS:PORT FIRST-PORT COUNT
real_servers() {
	local real
	for real in $(seq "$2" $(($2 + $3 - 1))); do ipvsadm -a -t "$1" -r "$rip1:$real" -m; done
}

virtual_server() {
	ipvsadm -A -t "$1" -s rr
	real_servers "$@"
}

# What path_ipvs has, for all four virtual servers. kube-proxy matches node ports with an ipset, too.
native_up() {
	path_ipvs_up
	# kube-proxy's own least number
	sysctl -qw net.netfilter.nf_conntrack_max=131072
	real_servers "$vip:$port" $((bench_port + 1)) $((endpoints - 1))
	virtual_server "$local_rip:$node_port" "$bench_port" "$endpoints"
	virtual_server "$vip:$transfer_port" "$transfer_port" 1
	virtual_server "$local_rip:$transfer_node_port" "$transfer_port" 1
	iptables-restore --noflush <<-RULES
		*nat
		:KUBE-NODE-PORT - [0:0]
		-A KUBE-SERVICES ! -s $pod_cidr -d $vip/32 -p tcp -m tcp --dport $transfer_port -j KUBE-MARK-MASQ
		-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
		-A KUBE-NODE-PORT -p tcp -m multiport --dports $node_port,$transfer_node_port -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -j KUBE-MARK-MASQ
		COMMIT
	RULES
}

# The next path does not begin with the connections of this one.
end_connections() {
	ipvsadm -C
	until [ "$(wc -l </proc/net/ip_vs_conn)" -le 1 ]; do sleep 0.2; done
	conntrack -F >/dev/null 2>&1
}

routed_up() { :; }
routed_down() { :; }
ipvs_up() { native_up; }
ipvs_down() {
	end_connections
	path_ipvs_down
}
ipvs-bpf_up() {
	native_up
	accelerate_all
}
ipvs-bpf_down() {
	end_connections
	path_ipvs-bpf_down
}

director_up >&2
echo started
while read -r action path; do
	case $action in
	up | down)
		"${path}_$action" >&2
		echo "$path $action"
		;;
	tracked) conntrack -C ;;
	end) exit 0 ;;
	*) exit 2 ;;
	esac
done
