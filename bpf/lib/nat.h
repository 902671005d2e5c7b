/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes another address and port into a packet. A failure may leave it half written: it has to be
 * dropped then.
 */
#ifndef IPVS_BPF_LIB_NAT_H
#define IPVS_BPF_LIB_NAT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/csum.h"
#include "lib/link.h"
#include "lib/packet.h"
#include "lib/parse.h"
#include "lib/sctp.h"
#include "lib/stats.h"

/* Which end of a packet is replaced; in the quote of an ICMP error it is the other one. */
enum nat_end {
	NAT_SOURCE,
	NAT_DEST,
};

struct nat {
	struct ipvs_addr addr;
	__be16 port;
};

/* The part of struct heads that a translation of IPv4 touches: header checksum to ports. */
#define HEAD_FROM   (IPV4_HEADS_AT + offsetof(struct iphdr, check))
#define HEAD_IP_LEN (sizeof(struct iphdr) - offsetof(struct iphdr, check))
#define HEAD_L4_LEN (2 * sizeof(__be16))

/* A new address, as bpf_l4_csum_replace takes it: 4 bytes before and after, or 0 and a difference. */
struct addr_change {
	__u32 from;
	__u32 to;
	__u32 size; /* of both, 4 or 0 */
};

/*
 * Address and port need a call each: a checksum that is left to the device covers the pseudo header
 * only (CHECKSUM_PARTIAL), so the port must not be added to it.
 */
static __always_inline int write_l4_check(struct __sk_buff *skb, __u32 at, __u64 mangled_0,
					  const struct addr_change *addr, __be16 old_port,
					  __be16 new_port)
{
	if (bpf_l4_csum_replace(skb, at, addr->from, addr->to,
				BPF_F_PSEUDO_HDR | mangled_0 | addr->size))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (bpf_l4_csum_replace(skb, at, old_port, new_port, mangled_0 | 2))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return 0;
}

/* Stores what HEAD_* names from p->head; the IP part only if `with_l4` is not set. */
static __always_inline int write_ipv4(struct __sk_buff *skb, __u32 link, const struct packet *p,
				      bool with_l4, __u64 flags)
{
	const void *from = (const void *)&p->head + HEAD_FROM;
	__u32 at = link + p->ip_off + HEAD_FROM - IPV4_HEADS_AT;
	long failed;

	if (with_l4 && p->l4_off == p->ip_off + sizeof(struct iphdr)) {
		failed = bpf_skb_store_bytes(skb, at, from, HEAD_IP_LEN + HEAD_L4_LEN, flags);
	} else {
		failed = bpf_skb_store_bytes(skb, at, from, HEAD_IP_LEN, flags);
		if (!failed && with_l4)
			failed = bpf_skb_store_bytes(skb, link + p->l4_off, &p->head.l4,
						     HEAD_L4_LEN, flags);
	}
	return failed ? ipvs_drop(IPVS_COUNT_DROP_REWRITE) : 0;
}

/*
 * Stores one address from p->head, and the ports if `with_l4` is set. BPF_F_PSEUDO_HDR makes up for a
 * changed pseudo header in a sum that the device took over the whole packet (CHECKSUM_COMPLETE). Of an
 * IPv4 packet that is right, for its header checksum changes as well. An IPv6 header has none, and so
 * the new address has to be told: `quoted` ones have an ICMP checksum that changes as well.
 */
static __always_inline int write_ipv6(struct __sk_buff *skb, __u32 link, const struct packet *p,
				      enum nat_end end, bool with_l4, __u64 flags, bool quoted)
{
	__u32 field = end == NAT_SOURCE ? offsetof(struct ipv6hdr, saddr) :
					  offsetof(struct ipv6hdr, daddr);

	if (bpf_skb_store_bytes(skb, link + p->ip_off + field, (const void *)&p->head.ip6 + field,
				sizeof(struct in6_addr), quoted ? 0 : BPF_F_RECOMPUTE_CSUM))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (with_l4 &&
	    bpf_skb_store_bytes(skb, link + p->l4_off, &p->head.l4, HEAD_L4_LEN, flags))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return 0;
}

static __always_inline int write_head(struct __sk_buff *skb, __u8 family, __u32 link,
				      const struct packet *p, enum nat_end end, bool with_l4,
				      __u64 flags)
{
	return family == AF_INET6 ? write_ipv6(skb, link, p, end, with_l4, flags, p->ip_off) :
				    write_ipv4(skb, link, p, with_l4, flags);
}

static __always_inline struct addr_change set_ipv4(struct packet *p, enum nat_end end,
						   const struct nat *nat)
{
	struct iphdr *ip = &p->head.ip;
	__be32 *addr = end == NAT_SOURCE ? &ip->saddr : &ip->daddr;
	struct addr_change change = { .from = *addr, .to = nat->addr.w[3], .size = sizeof(*addr) };

	*addr = nat->addr.w[3];
	ip->check = csum_apply(ip->check, csum_diff32(change.from, change.to));
	return change;
}

static __always_inline struct addr_change set_ipv6(struct packet *p, enum nat_end end,
						   const struct nat *nat)
{
	struct ipvs_addr *addr = end == NAT_SOURCE ? (struct ipvs_addr *)&p->head.ip6.saddr :
						     (struct ipvs_addr *)&p->head.ip6.daddr;
	struct addr_change change = { .to = csum_fold32(csum_diff_addr(addr, &nat->addr)) };

	*addr = nat->addr;
	return change;
}

/* Puts the address into p->head, of IPv4 with a right header checksum. */
static __always_inline struct addr_change set_addr(__u8 family, struct packet *p, enum nat_end end,
						   const struct nat *nat)
{
	return family == AF_INET6 ? set_ipv6(p, end, nat) : set_ipv4(p, end, nat);
}

static __always_inline __be16 set_port(struct packet *p, enum nat_end end, const struct nat *nat)
{
	__be16 *port = end == NAT_SOURCE ? &p->head.l4.sport : &p->head.l4.dport;
	__be16 old = *port;

	*port = nat->port;
	return old;
}

/* Link header length, or a drop: the packet is shorter than its header says, or not to be written. */
static __always_inline int writable_link_len(struct __sk_buff *skb, __u8 family,
					     const struct packet *p)
{
	int link = link_len(skb, p);

	if (link < 0)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (skb->len < (__u32)link + ip_length(family, p))
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	return link;
}

/* Of a packet without a length, l4_len may go beyond its end; of a fragment it has to. */
static __always_inline int leave_crc_of(struct __sk_buff *skb, const struct packet *p, __u32 at,
					enum nat_end end, __be16 change)
{
	__u32 length = p->l4_len;

	if (!p->frag && length > skb->len - at)
		length = skb->len - at;
	return end == NAT_SOURCE ? leave_crc(at, length, change, 0) :
				   leave_crc(at, length, 0, change);
}

/*
 * A TCP, UDP or SCTP packet, or a fragment of one; the caller has made sure that it has its whole head.
 * 0, IPVS_CRC, or a drop.
 */
static __always_inline int nat_packet(struct __sk_buff *skb, __u8 family, struct packet *p,
				      enum nat_end end, const struct nat *nat)
{
	bool tcp = p->protocol == IPPROTO_TCP, sctp = p->protocol == IPPROTO_SCTP;
	struct addr_change addr;
	__be16 old_port;
	int link, result;

	link = writable_link_len(skb, family, p);
	if (link < 0)
		return link;

	addr = set_addr(family, p, end, nat);
	if (is_later_fragment(family, p))
		return write_head(skb, family, link, p, end, false, 0);

	old_port = set_port(p, end, nat);
	/*
	 * UDP without checksum stays so. Nothing in the packet then makes up for the new port, so a
	 * sum that the device took over the packet (CHECKSUM_COMPLETE) has to be told. Nor does a CRC.
	 */
	if (sctp || (!tcp && !p->head.l4.udp_check)) {
		result = write_head(skb, family, link, p, end, true, BPF_F_RECOMPUTE_CSUM);
		if (result || !sctp)
			return result;
		return leave_crc_of(skb, p, link + p->l4_off, end, old_port ^ nat->port);
	}
	result = write_head(skb, family, link, p, end, true, 0);
	if (result)
		return result;
	return write_l4_check(skb, link + p->l4_off + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT),
			      tcp ? 0 : BPF_F_MARK_MANGLED_0, &addr, old_port, nat->port);
}

#endif
