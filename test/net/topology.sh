# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# A client, a director and two real servers as network namespaces; source it, call net_up.
#
#    client                        director                          rs1
#   ┌─────────────┐         ┌─────────────────────┐           ┌─────────────┐
#   │ cip         │ 10.1.0. │ .1             dip1 │  10.2.1.  │ rip1        │
#   │ .10    eth0 ├─────────┤ cli            srv1 ├───────────┤ eth0    .10 │
#   │             │         │   vip 10.9.0.1      │ .1        └───┬─────────┘
#   │             │         │                dip2 │  10.2.2.  ┌───┼─────────┐ rs2
#   │             │         │                srv2 ├───────────┤ eth0    .10 │
#   │        eth1 ├──┐      │                     │ .1        │   │    rip2 │
#   └─────────────┘  │      └─────────────────────┘           └───┼─────────┘
#                    └─────────── 10.3.0. ─ wired directly ───────┘ eth1 (client .10, rs1 .20)
#
# With NET_HOPS=1 a plain router stands in each of the first two links, so that something other
# than the director can find a packet too large:
#   client eth0 .10 ─10.4.0.─ .1 near [hopc] far .10 ─10.1.0.─ cli   (cip is 10.4.0.10 then)
#   srv1 ─10.2.1.─ .10 near [hops] far .1 ─10.5.0.─ eth0 .10 rs1     (rip1 is 10.5.0.10 then)
#
# With NET_IPV6=1 every end has an IPv6 address, too: 10.2.1.10 is fd00:2:1::10 there. use_family sets
# the variables to those of one family; an IPv6 address stands in brackets in them. $ip is its name.
#
# The director is the namespace that the script runs in (NET_DIRECTOR=root, made for virtual
# machines) or one of its own (NET_DIRECTOR=director). Real servers have no route to the client
# until net_routes: only SNAT brings their replies back.

NET_DIRECTOR=${NET_DIRECTOR:-root}
NET_HOPS=${NET_HOPS:-0}
NET_IPV6=${NET_IPV6:-0}
NET_TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LOAD=$NET_TREE/build/test/load
NET_RUN=${NET_RUN:-/run/ipvs-bpf-net}

# ipv6_of IPV4: without brackets, as the kernel writes it.
ipv6_of() {
	local second third fourth
	IFS=. read -r _ second third fourth <<<"$1"
	[ "$third" = 0 ] && third='' || third=:$third
	echo "fd00:$second$third::$fourth"
}
bare() { echo "${1//[\[\]]/}"; }

# use_family 4|6
use_family() {
	local name
	family=$1
	cip=10.1.0.10 vip=10.9.0.1 dip1=10.2.1.1 dip2=10.2.2.1 rip1=10.2.1.10 rip2=10.2.2.10
	direct_rip=10.3.0.20 local_rip=10.1.0.1 ip=IPv$1
	if [ "$NET_HOPS" = 1 ]; then
		cip=10.4.0.10 rip1=10.5.0.10
	fi
	[ "$family" = 6 ] || return 0
	for name in cip vip dip1 dip2 rip1 rip2 direct_rip local_rip; do
		printf -v "$name" '[%s]' "$(ipv6_of "${!name}")"
	done
}
use_family 4
export cip vip dip1 dip2 rip1 rip2 direct_rip LOAD

# for_families COMMAND…: once for each, with the variables of that family.
for_families() {
	local of before=$family
	for of in 4 6; do
		[ $of = 4 ] || [ "$NET_IPV6" = 1 ] || continue
		use_family $of
		"$@"
	done
	use_family "$before"
}

# nsenter and not `ip netns exec`, which mounts another /sys and so hides bpffs.
in_ns() {
	local ns=$1
	shift
	if [ "$ns" = root ]; then
		"$@"
	else
		nsenter --net="/run/netns/$ns" -- "$@"
	fi
}
in_client() { in_ns client "$@"; }
in_director() { in_ns "$NET_DIRECTOR" "$@"; }
in_rs1() { in_ns rs1 "$@"; }
in_rs2() { in_ns rs2 "$@"; }

net_namespaces() {
	echo client rs1 rs2
	[ "$NET_DIRECTOR" = root ] || echo "$NET_DIRECTOR"
	[ "$NET_HOPS" = 0 ] || echo hopc hops
}

# net_link NS1 IF1 ADDR1 NS2 IF2 ADDR2: a veth pair with a /24 (IPv6: a /64) at each end.
net_link() {
	local t1=t1.$$ t2=t2.$$ ns if addr temporary
	ip link add "$t1" type veth peer name "$t2"
	for end in "$1 $2 $3 $t1" "$4 $5 $6 $t2"; do
		read -r ns if addr temporary <<<"$end"
		if [ "$ns" = root ]; then
			ip link set "$temporary" name "$if"
		else
			ip link set "$temporary" netns "$ns" name "$if"
		fi
		in_ns "$ns" ip addr add "$addr/24" dev "$if"
		[ "$NET_IPV6" = 0 ] || in_ns "$ns" ip addr add "$(ipv6_of "$addr")/64" dev "$if" nodad
		in_ns "$ns" ip link set "$if" up
	done
}

net_add_namespace() {
	[ "$1" = root ] || ip netns add "$1"
	in_ns "$1" ip link set lo up
	case $1 in client | rs1 | rs2) ;; *) in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 ;; esac
	if [ "$NET_IPV6" = 0 ]; then
		# No router solicitations or listener reports of IPv6 between the packets that are counted.
		in_ns "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
		return
	fi
	in_ns "$1" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0
	case $1 in client | rs1 | rs2) ;; *) in_ns "$1" sysctl -qw net.ipv6.conf.all.forwarding=1 ;; esac
}

# net_route NS PREFIX|default VIA: the same for both families; PREFIX is a /24.
net_route() {
	local prefix=$2
	in_ns "$1" ip route replace "$2" via "$3"
	[ "$NET_IPV6" = 1 ] || return 0
	[ "$prefix" = default ] || prefix=$(ipv6_of "${2%/24}")/64
	in_ns "$1" ip -6 route replace "$prefix" via "$(ipv6_of "$3")"
}

net_links_plain() {
	net_link client eth0 10.1.0.10 "$NET_DIRECTOR" cli 10.1.0.1
	net_link rs1 eth0 10.2.1.10 "$NET_DIRECTOR" srv1 10.2.1.1
	net_route client default 10.1.0.1
}

net_links_hops() {
	net_link client eth0 10.4.0.10 hopc near 10.4.0.1
	net_link hopc far 10.1.0.10 "$NET_DIRECTOR" cli 10.1.0.1
	net_link "$NET_DIRECTOR" srv1 10.2.1.1 hops near 10.2.1.10
	net_link hops far 10.5.0.1 rs1 eth0 10.5.0.10
	net_route client default 10.4.0.1
	net_route hopc default 10.1.0.1
	net_route hops default 10.2.1.1
	net_route "$NET_DIRECTOR" 10.4.0.0/24 10.1.0.10
	net_route "$NET_DIRECTOR" 10.5.0.0/24 10.2.1.10
	net_route rs1 10.2.1.0/24 10.5.0.1
}

net_up() {
	local ns
	"$NET_TREE/test/net/build.sh"
	mkdir -p "$NET_RUN"
	trap net_down EXIT
	for ns in $(net_namespaces) root; do
		[ "$ns" = root ] && [ "$NET_DIRECTOR" != root ] || net_add_namespace "$ns"
	done
	if [ "$NET_HOPS" = 1 ]; then net_links_hops; else net_links_plain; fi
	net_link rs2 eth0 10.2.2.10 "$NET_DIRECTOR" srv2 10.2.2.1
	net_link client eth1 10.3.0.10 rs1 eth1 10.3.0.20
	add_virtual_address
}

add_virtual_address() {
	in_director ip addr add 10.9.0.1/32 dev lo
	[ "$NET_IPV6" = 0 ] || in_director ip addr add "$(ipv6_of 10.9.0.1)/128" dev lo nodad
}

delete_virtual_address() {
	in_director ip addr del 10.9.0.1/32 dev lo
	[ "$NET_IPV6" = 0 ] || in_director ip addr del "$(ipv6_of 10.9.0.1)/128" dev lo
}

# Real servers answer clients directly through the director from here on.
net_routes() {
	net_route rs1 default "$([ "$NET_HOPS" = 1 ] && echo 10.5.0.1 || echo 10.2.1.1)"
	net_route rs2 default 10.2.2.1
}

# net_serve NS ADDRESS:PORT [OPTION…]: a TCP (--udp: UDP; --sctp: SCTP) server that listens when this returns. That at
# all IPv4 addresses has a companion for IPv6.
net_serve() {
	local ns=$1 listen=$2 command=server suffix=
	shift 2
	if [ "${1:-}" = --udp ]; then
		command=udp-server
		shift
	fi
	case $listen in
	'['*) suffix=-6 ;;
	0.0.0.0:*)
		[ "$NET_IPV6" = 0 ] ||
			net_serve "$ns" "[::]:${listen##*:}" $([ $command = server ] || echo --udp) "$@"
		;;
	esac
	in_ns "$ns" "$LOAD" "$command" --listen "$listen" --name "$ns" \
		--pidfile "$NET_RUN/$ns-$command-${listen##*:}$suffix.pid" "$@"
}

# Ends one server by its own process id: net_stop NS PORT [--udp].
net_stop() {
	local file=$NET_RUN/$1-$([ "${3:-}" = --udp ] && echo udp-server || echo server)-$2.pid
	kill "$(cat "$file")"
	rm "$file"
}

net_down() {
	local file ns
	for file in "$NET_RUN"/*.pid; do
		[ -e "$file" ] || continue
		kill "$(cat "$file")" 2>/dev/null || true
		rm -f "$file"
	done
	for ns in $(net_namespaces); do
		ip netns del "$ns" 2>/dev/null || true
	done
	# A veth goes with its peer, but not at once.
	if [ "$NET_DIRECTOR" = root ]; then
		for ns in cli srv1 srv2; do
			ip link del "$ns" 2>/dev/null || true
		done
		delete_virtual_address 2>/dev/null || true
	fi
	trap - EXIT
}
