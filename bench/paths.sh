# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The ways from the client to a real server that are compared. For each: path_NAME_up sets it up
# in a topology (test/net/topology.sh), path_NAME_down puts it back, path_NAME_to says where the
# client connects to. One real server, so that scheduling costs every path the least it can.

port=80
bench_port=8080
mark=0x4000
pod_cidr=10.244.0.0/16
[ "$family" = 4 ] || pod_cidr=fd00:244::/48

path_direct_up() { :; }
path_direct_down() { :; }
path_direct_to() { echo "$direct_rip:$bench_port"; }

path_routed_up() { net_routes; }
path_routed_down() { :; }
path_routed_to() { echo "$rip1:$bench_port"; }

path_routed-conntrack_up() {
	net_routes
	in_director nft -f - <<-RULES
		table inet bench {
			chain forward {
				type filter hook forward priority filter; policy accept;
				ct state vmap { invalid : drop, established : accept, related : accept }
			}
		}
	RULES
}
path_routed-conntrack_down() {
	in_director nft delete table inet bench
}
path_routed-conntrack_to() { echo "$rip1:$bench_port"; }

# What kube-proxy's masqueradeAll or a client outside the cluster comes to in iptables and ipvs
# mode: a mark before, MASQUERADE behind.
kube_postrouting() {
	cat <<-RULES
		:KUBE-POSTROUTING - [0:0]
		:KUBE-MARK-MASQ - [0:0]
		-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
		-A KUBE-MARK-MASQ -j MARK --or-mark $mark
		-A KUBE-POSTROUTING -m mark ! --mark $mark/$mark -j RETURN
		-A KUBE-POSTROUTING -j MARK --xor-mark $mark
		-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
	RULES
}

kube_forward() {
	cat <<-RULES
		*filter
		:KUBE-FORWARD - [0:0]
		-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
		-A KUBE-FORWARD -m mark --mark $mark/$mark -j ACCEPT
		-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		COMMIT
	RULES
}

# As kube-proxy's iptables mode writes a Service with one endpoint (Debian: iptables over nf_tables).
path_iptables_up() {
	in_director iptables-restore <<-RULES
		*nat
		:KUBE-SERVICES - [0:0]
		:KUBE-SVC-BENCH - [0:0]
		:KUBE-SEP-BENCH - [0:0]
		-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
		-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
		$(kube_postrouting)
		-A KUBE-SERVICES -d $vip/32 -p tcp -m comment --comment "bench/http cluster IP" -m tcp --dport $port -j KUBE-SVC-BENCH
		-A KUBE-SVC-BENCH ! -s $pod_cidr -d $vip/32 -p tcp -m comment --comment "bench/http cluster IP" -m tcp --dport $port -j KUBE-MARK-MASQ
		-A KUBE-SVC-BENCH -m comment --comment "bench/http -> $rip1:$bench_port" -j KUBE-SEP-BENCH
		-A KUBE-SEP-BENCH -s $rip1/32 -m comment --comment "bench/http" -j KUBE-MARK-MASQ
		-A KUBE-SEP-BENCH -p tcp -m comment --comment "bench/http" -m tcp -j DNAT --to-destination $rip1:$bench_port
		COMMIT
		$(kube_forward)
	RULES
}
path_iptables_down() { in_director nft flush ruleset; }
path_iptables_to() { echo "$vip:$port"; }

# As kube-proxy's nftables mode writes it.
path_nftables_up() {
	in_director nft -f - <<-RULES
		table ip kube-proxy {
			map service-ips {
				type ipv4_addr . inet_proto . inet_service : verdict
				elements = { $vip . tcp . $port : goto service-bench }
			}
			chain mark-for-masquerade { mark set mark or $mark; }
			chain masquerading {
				mark and $mark == 0 return
				mark set mark xor $mark
				masquerade fully-random
			}
			chain endpoint-bench {
				ip saddr $rip1 jump mark-for-masquerade
				meta l4proto tcp dnat to $rip1:$bench_port
			}
			chain service-bench {
				ip daddr $vip tcp dport $port ip saddr != $pod_cidr jump mark-for-masquerade
				numgen random mod 1 vmap { 0 : goto endpoint-bench }
			}
			chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
			chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
			chain nat-output { type nat hook output priority -100; jump services; }
			chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
		}
	RULES
}
path_nftables_down() { in_director nft delete table ip kube-proxy; }
path_nftables_to() { echo "$vip:$port"; }

# kube-proxy's ipvs mode matches virtual servers with an ipset; here one virtual server is written
# out, which costs the native path less, not more. The virtual address is on lo, not kube-ipvs0.
kube_ipvs_rules() {
	local restore=iptables-restore address=$vip/32
	[ "$family" = 4 ] || restore=ip6tables-restore address=$(bare "$vip")/128
	in_director $restore <<-RULES
		*nat
		:KUBE-SERVICES - [0:0]
		-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
		-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
		$(kube_postrouting)
		-A KUBE-SERVICES ! -s $pod_cidr -d $address -p tcp -m tcp --dport $port -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -j KUBE-MARK-MASQ
		-A KUBE-SERVICES -d $address -p tcp -m tcp --dport $port -j ACCEPT
		COMMIT
		$(kube_forward)
	RULES
}

ipvs_virtual_server() {
	in_director sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0 \
		net.ipv4.vs.expire_nodest_conn=1 net.ipv4.vs.expire_quiescent_template=1
	in_director ipvsadm -A -t "$vip:$port" -s rr
	in_director ipvsadm -a -t "$vip:$port" -r "$rip1:$bench_port" -m
}

path_ipvs_up() {
	modprobe -a ip_vs ip_vs_rr
	kube_ipvs_rules
	ipvs_virtual_server
}
path_ipvs_down() {
	in_director ipvsadm -C
	in_director nft flush ruleset
}
path_ipvs_to() { echo "$vip:$port"; }
