/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Writes another address and port into a packet, or into an ICMP error and the packet it quotes.
 * A failure may leave the packet half written: it has to be dropped then.
 */
#ifndef IPVS_BPF_LIB_NAT_H
#define IPVS_BPF_LIB_NAT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/csum.h"
#include "lib/parse.h"
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

/* The part of struct ipv4_head that a translation touches: header checksum to ports. */
#define HEAD_FROM   offsetof(struct iphdr, check)
#define HEAD_IP_LEN (sizeof(struct iphdr) - HEAD_FROM)
#define HEAD_L4_LEN (2 * sizeof(__be16))

/*
 * Address and port need a call each: a checksum that is left to the device covers the pseudo header
 * only (CHECKSUM_PARTIAL), so the port must not be added to it.
 */
static __always_inline int write_l4_check(struct __sk_buff *skb, __u32 at, __u64 mangled_0,
					  __be32 old_addr, __be32 new_addr, __be16 old_port,
					  __be16 new_port)
{
	if (bpf_l4_csum_replace(skb, at, old_addr, new_addr, BPF_F_PSEUDO_HDR | mangled_0 | 4))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (bpf_l4_csum_replace(skb, at, old_port, new_port, mangled_0 | 2))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return 0;
}

/* Stores what HEAD_* names from p->head; the IP part only if `with_l4` is not set. */
static __always_inline int write_head(struct __sk_buff *skb, __u32 link, const struct packet *p,
				      bool with_l4, __u64 flags)
{
	const void *from = (const void *)&p->head + HEAD_FROM;
	__u32 at = link + p->ip_off + HEAD_FROM;
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

/* Puts the address into p->head with a right header checksum; answers the old one. */
static __always_inline __be32 set_addr(struct packet *p, enum nat_end end, const struct nat *nat)
{
	struct iphdr *ip = &p->head.ip;
	__be32 *addr = end == NAT_SOURCE ? &ip->saddr : &ip->daddr;
	__be32 old = *addr;

	*addr = nat->addr.w[3];
	ip->check = csum_apply(ip->check, csum_diff32(old, *addr));
	return old;
}

static __always_inline __be16 set_port(struct packet *p, enum nat_end end, const struct nat *nat)
{
	__be16 *port = end == NAT_SOURCE ? &p->head.l4.sport : &p->head.l4.dport;
	__be16 old = *port;

	*port = nat->port;
	return old;
}

/* Link header length, or a drop: the packet is shorter than its header says, or not to be written. */
static __always_inline int writable_link_len(struct __sk_buff *skb, const struct packet *p)
{
	int link = link_len(skb, p);

	if (link < 0)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (skb->len < (__u32)link + bpf_ntohs(p->head.ip.tot_len))
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	return link;
}

/* A TCP or UDP packet, or a fragment of one; the caller has made sure that it has its whole head. */
static __always_inline int nat_packet(struct __sk_buff *skb, struct packet *p, enum nat_end end,
				      const struct nat *nat)
{
	bool tcp = p->protocol == IPPROTO_TCP;
	__be32 old_addr;
	__be16 old_port;
	int link, result;

	link = writable_link_len(skb, p);
	if (link < 0)
		return link;

	old_addr = set_addr(p, end, nat);
	if (is_later_fragment(p))
		return write_head(skb, link, p, false, 0);

	old_port = set_port(p, end, nat);
	/*
	 * UDP without checksum stays so. Nothing in the packet then makes up for the new port, so a
	 * sum that the device took over the packet (CHECKSUM_COMPLETE) has to be told.
	 */
	if (!tcp && !p->head.l4.udp_check)
		return write_head(skb, link, p, true, BPF_F_RECOMPUTE_CSUM);
	result = write_head(skb, link, p, true, 0);
	if (result)
		return result;
	return write_l4_check(skb, link + p->l4_off + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT),
			      tcp ? 0 : BPF_F_MARK_MANGLED_0, old_addr, nat->addr.w[3], old_port,
			      nat->port);
}

/*
 * The transport checksum of a quoted packet, as far as the quote goes; adds what it changed in the
 * quote to `diff`. A quoted checksum may be wrong from the start (ip_vs does not correct it when it
 * translates its own ends): an incremental update leaves it exactly as wrong as it was.
 */
static __always_inline int nat_quoted_check(struct __sk_buff *skb, __u32 link, struct packet *quote,
					    __u64 l4_diff, __u64 *diff)
{
	bool tcp = quote->protocol == IPPROTO_TCP;
	__u32 at = quote->l4_off + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT);
	__sum16 old, check;

	if (tcp && quote->l4_len < TCP_CHECK_AT + sizeof(check))
		return 0;
	if (load_bytes(skb, at, &old, sizeof(old)))
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	if (!tcp && !old)
		return 0;

	check = csum_apply(old, l4_diff);
	if (!tcp && !check)
		check = 0xffff;
	if (bpf_skb_store_bytes(skb, link + at, &check, sizeof(check), 0))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	*diff += csum_diff16(old, check);
	return 0;
}

/*
 * An ICMP error: `end` of the error itself gets the address, the other end of the packet that it
 * quotes gets address and port, and the ICMP checksum follows everything that the quote changes.
 */
static __always_inline int nat_icmp_error(struct __sk_buff *skb, struct packet *error,
					  struct packet *quote, enum nat_end end,
					  const struct nat *nat)
{
	enum nat_end quoted_end = end == NAT_SOURCE ? NAT_DEST : NAT_SOURCE;
	__sum16 old_ip_check = quote->head.ip.check;
	__u64 l4_diff, diff;
	__be32 old_addr;
	__be16 old_port;
	int link, result;

	link = writable_link_len(skb, error);
	if (link < 0)
		return link;

	set_addr(error, end, nat);
	old_addr = set_addr(quote, quoted_end, nat);
	old_port = set_port(quote, quoted_end, nat);
	l4_diff = csum_diff32(old_addr, nat->addr.w[3]) + csum_diff16(old_port, nat->port);
	diff = l4_diff + csum_diff16(old_ip_check, quote->head.ip.check);

	result = nat_quoted_check(skb, link, quote, l4_diff, &diff);
	if (result)
		return result;
	result = write_head(skb, link, quote, true, 0);
	if (result)
		return result;
	error->head.l4.icmp_check = csum_apply(error->head.l4.icmp_check, diff);
	return write_head(skb, link, error, true, 0);
}

#endif
