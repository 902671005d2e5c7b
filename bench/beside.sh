# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What a path is measured beside: further Services, of which nobody asks anything, and sessions that are open.
# path_NAME_beside_services COUNT, path_NAME_beside_sessions COUNT; a path without them has none.

# Services of 10.64.0.0/10, port 80, with one endpoint each: a line `NUMBER ADDRESS`.
further_services() {
	awk -v count="$1" 'BEGIN { for (i = 0; i < count; i++)
		printf "%d 10.%d.%d.%d\n", i, 64 + i / 65536, i / 256 % 256, i % 256 }'
}

# As kube-proxy writes the first one. The one that is asked for stands in the middle of them.
path_iptables_beside_services() {
	further_services "$1" | awk -v half=$(($1 / 2)) -v cidr="$pod_cidr" -v to="$rip1:$bench_port" -v rip="$rip1" '
		BEGIN { print "*nat" }
		{ print ":KUBE-SVC-" $1 " - [0:0]\n:KUBE-SEP-" $1 " - [0:0]" }
		{
			match_service = "-d " $2 "/32 -p tcp -m comment --comment \"bench/" $1 " cluster IP\" -m tcp --dport 80"
			rules[NR] = ($1 < half ? "-I" : "-A") " KUBE-SERVICES " match_service " -j KUBE-SVC-" $1 "\n" \
				"-A KUBE-SVC-" $1 " ! -s " cidr " " match_service " -j KUBE-MARK-MASQ\n" \
				"-A KUBE-SVC-" $1 " -m comment --comment \"bench/" $1 "\" -j KUBE-SEP-" $1 "\n" \
				"-A KUBE-SEP-" $1 " -s " rip "/32 -m comment --comment \"bench/" $1 "\" -j KUBE-MARK-MASQ\n" \
				"-A KUBE-SEP-" $1 " -p tcp -m comment --comment \"bench/" $1 "\" -m tcp -j DNAT --to-destination " to
		}
		END { for (i = 1; i <= NR; i++) print rules[i]; print "COMMIT" }' | in_director iptables-restore --noflush
}

path_nftables_beside_services() {
	further_services "$1" | awk -v cidr="$pod_cidr" -v to="$rip1:$bench_port" -v rip="$rip1" '
		{
			print "add chain ip kube-proxy endpoint-" $1 "\nadd chain ip kube-proxy service-" $1
			print "add rule ip kube-proxy endpoint-" $1 " ip saddr " rip " jump mark-for-masquerade"
			print "add rule ip kube-proxy endpoint-" $1 " meta l4proto tcp dnat to " to
			print "add rule ip kube-proxy service-" $1 " ip daddr " $2 " tcp dport 80 ip saddr != " cidr " jump mark-for-masquerade"
			print "add rule ip kube-proxy service-" $1 " numgen random mod 1 vmap { 0 : goto endpoint-" $1 " }"
			print "add element ip kube-proxy service-ips { " $2 " . tcp . 80 : goto service-" $1 " }"
		}' | in_director nft -f -
}

path_ipvs_beside_services() {
	further_services "$1" | awk -v to="$rip1:$bench_port" '{
		print "-A -t " $2 ":80 -s rr\n-a -t " $2 ":80 -r " to " -m"
	}' | in_director ipvsadm -R
}

# All of them whitelisted.
path_ipvs-bpf_beside_services() {
	path_ipvs_beside_services "$1"
	accelerate_all
}

# Datagrams of as many clients to one virtual server. A SNAT address has some 36,000 ports for one real server.
open_sessions() {
	local left=$1 client=50 ports=60000
	in_director sysctl -qw net.netfilter.nf_conntrack_max=$(($1 * 2 + 10000)) net.netfilter.nf_conntrack_buckets="$1" \
		net.netfilter.nf_conntrack_udp_timeout=1000000
	in_director ipvsadm --set 0 0 1000000
	while [ "$left" -gt 0 ]; do
		in_client "$LOAD" spoof --udp --from "10.1.0.$client:1024" --to "$vip:53" --count $((left < ports ? left : ports)) >/dev/null
		left=$((left - ports))
		client=$((client + 1))
	done
}

# Without them the next path would begin with those of this one. expire_nodest_conn ends them once their servers are gone.
end_sessions() {
	local tries=0
	in_director ipvsadm -C
	# The whole file takes the kernel time that grows with the square of the connections.
	until [ "$(head -n 2 /proc/net/ip_vs_conn | wc -l)" -le 1 ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 100 ] || return 1
		sleep 10
	done
	in_director conntrack -F >/dev/null 2>&1
}

# unreclaimable_bytes: of slabs, in which the kernel keeps connections and conntrack entries.
unreclaimable_bytes() { awk '/^SUnreclaim/ { print $2 * 1024 }' /proc/meminfo; }

sessions_virtual_server() {
	local server
	in_director iptables -t nat -I KUBE-SERVICES -d "$vip" -p udp -j KUBE-MARK-MASQ
	in_director ipvsadm -A -u "$vip:53" -s rr
	for server in $(seq $(($1 / 30000 + 1))); do
		in_director ipvsadm -a -u "$vip:53" -r "$rip1:$((5300 + server))" -m
	done
}

# What one costs in slabs is the result's.
path_ipvs_beside_sessions() {
	local before
	sessions_virtual_server "$1"
	before=$(unreclaimable_bytes)
	open_sessions "$1"
	bytes_a_session=$((($(unreclaimable_bytes) - before) / $1))
}

# map_bytes_an_entry NAME: of a hash map whose room is there from the start, as kernel/bpf/hashtab.c takes it: 48 bytes before
# each key, both rounded up to 8, and 16 for each bucket. Before 6.4 the kernel itself tells only of keys and values.
map_bytes_an_entry() {
	bpftool -j map show pinned "/sys/fs/bpf/ipvs-bpf/$1" | jq 'def padded: (. + 7) / 8 | floor * 8;
		(.max_entries | log2 | ceil | exp2) as $buckets |
		48 + (.bytes_key | padded) + (.bytes_value | padded) + 16 * $buckets / .max_entries | round'
}

# And in the maps.
path_ipvs-bpf_beside_sessions() {
	local before map
	sessions_virtual_server "$1"
	accelerate_all $(($1 + 10000))
	before=$(unreclaimable_bytes)
	open_sessions "$1"
	bytes_a_session=$((($(unreclaimable_bytes) - before) / $1))
	[ "$(ipvs_bpf_sessions)" -ge "$1" ] || {
		echo "$(ipvs_bpf_sessions) sessions, expected $1" >&2
		return 1
	}
	for map in ipvs_sessions ipvs_replies; do
		bytes_a_session=$((bytes_a_session + $(map_bytes_an_entry "$map")))
	done
}
