/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes both ends of a packet that is forwarded, and one hop less. Failures are as in nat.h. */
#ifndef IPVS_BPF_LIB_NAT_BOTH_H
#define IPVS_BPF_LIB_NAT_BOTH_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/kfuncs.h"
#include "lib/nat.h"

#define IPV4_HEADS_LEN (sizeof(struct iphdr) + HEAD_L4_LEN)
#define IPV6_HEADS_LEN (sizeof(struct ipv6hdr) + HEAD_L4_LEN)

/* The Ethernet header of the path and all behind it to the ports: one store costs less than two. */
static __always_inline const void *ipv4_with_link(struct packet *p, const struct ipvs_ends *ends)
{
	__u8 *head = (__u8 *)&p->head.ip - ETH_HLEN;
	__be16 type = bpf_htons(ETH_P_IP);

	__builtin_memcpy(head, ends->ethernet, IPVS_ETHERNET_LEN);
	__builtin_memcpy(head + IPVS_ETHERNET_LEN, &type, sizeof(type));
	return head;
}

/*
 * Everything from the hop count to the addresses, and the ports; the IPv4 header checksum is in between; and
 * the Ethernet header of the path. Of that, no sum of the device knows.
 */
static __always_inline int write_both_ends(struct __sk_buff *skb, __u8 family, struct packet *p,
					   __u64 port_flags, const struct ipvs_ends *ends)
{
	const struct ipv6hdr *ip6 = &p->head.ip6;
	const struct iphdr *ip = &p->head.ip;
	__u32 at = ETH_HLEN + offsetof(struct iphdr, ttl);
	long failed;

	if (family != AF_INET6 && !port_flags)
		return bpf_skb_store_bytes(skb, 0, ipv4_with_link(p, ends), ETH_HLEN + IPV4_HEADS_LEN,
					   0);
	failed = bpf_skb_store_bytes(skb, 0, ends->ethernet, IPVS_ETHERNET_LEN, 0);
	if (family != AF_INET6)
		return failed ?: bpf_skb_store_bytes(skb, at, &ip->ttl,
						     sizeof(*ip) - offsetof(struct iphdr, ttl) +
							     HEAD_L4_LEN,
						     port_flags);
	at = ETH_HLEN + offsetof(struct ipv6hdr, hop_limit);
	failed = failed ?: bpf_skb_store_bytes(skb, at, &ip6->hop_limit,
					       sizeof(*ip6) - offsetof(struct ipv6hdr, hop_limit),
					       BPF_F_RECOMPUTE_CSUM);
	return failed ?: bpf_skb_store_bytes(skb, ETH_HLEN + p->l4_off, &p->head.l4, HEAD_L4_LEN,
					     port_flags);
}

/* Both addresses and one hop less, in p->head; answers what that changes in the pseudo header. */
static __always_inline __u64 set_both_addrs(__u8 family, struct packet *p, const struct ipvs_ends *ends)
{
	struct ipv6hdr *ip6 = &p->head.ip6;
	struct iphdr *ip = &p->head.ip;
	__u64 diff;

	if (family == AF_INET6) {
		diff = csum_diff_addr((struct ipvs_addr *)&ip6->saddr, &ends->saddr) +
		       csum_diff_addr((struct ipvs_addr *)&ip6->daddr, &ends->daddr);
		__builtin_memcpy(&ip6->saddr, &ends->saddr, sizeof(ip6->saddr));
		__builtin_memcpy(&ip6->daddr, &ends->daddr, sizeof(ip6->daddr));
		ip6->hop_limit--;
		return diff;
	}
	diff = csum_diff32(ip->saddr, ends->saddr.w[3]) + csum_diff32(ip->daddr, ends->daddr.w[3]);
	ip->saddr = ends->saddr.w[3];
	ip->daddr = ends->daddr.w[3];
	/* The hop count is the first byte of its word: RFC 1141. */
	ip->ttl--;
	ip->check = csum_apply(ip->check, diff + csum_diff16(bpf_htons(0x100), 0));
	return diff;
}

static __always_inline int write_by_helpers(struct __sk_buff *skb, __u8 family, struct packet *p,
					    const struct ipvs_ends *ends)
{
	bool tcp = p->protocol == IPPROTO_TCP, sctp = p->protocol == IPPROTO_SCTP;
	__u32 at = ETH_HLEN + p->l4_off + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT);
	__u64 mangled_0 = tcp ? 0 : BPF_F_MARK_MANGLED_0, addr_diff, port_diff;

	addr_diff = set_both_addrs(family, p, ends);
	port_diff = csum_diff16(p->head.l4.sport, ends->sport) +
		    csum_diff16(p->head.l4.dport, ends->dport);
	p->head.l4.sport = ends->sport;
	p->head.l4.dport = ends->dport;
	/* As in nat_packet. */
	if (sctp || (!tcp && !p->head.l4.udp_check))
		return write_both_ends(skb, family, p, BPF_F_RECOMPUTE_CSUM, ends);
	return write_both_ends(skb, family, p, 0, ends) ||
	       bpf_l4_csum_replace(skb, at, 0, csum_fold32(addr_diff), BPF_F_PSEUDO_HDR | mangled_0) ||
	       bpf_l4_csum_replace(skb, at, 0, csum_fold32(port_diff), mangled_0);
}

/*
 * A whole TCP, UDP or SCTP packet without IP options or extension headers, on Ethernet: another source, another
 * destination, one hop less, and the Ethernet header of the path. A CRC is left as it is.
 */
static __always_inline int nat_both_ends(struct __sk_buff *skb, __u8 family, struct packet *p,
					 const struct ipvs_ends *ends)
{
	int failed = HAS_KFUNCS ? bpf_ip_vs_translate(skb, ends) :
				  write_by_helpers(skb, family, p, ends);

	return failed ? ipvs_drop(IPVS_COUNT_DROP_REWRITE) : 0;
}

/* A function of its own, for the sake of its caller's stack. */
static __noinline int nat_both_ends_ipv6(struct __sk_buff *skb, struct packet *p,
					 const struct ipvs_ends *ends)
{
	return nat_both_ends(skb, AF_INET6, p, ends);
}

#endif
