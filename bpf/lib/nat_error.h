/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Writes another address and port into an ICMP error and the packet it quotes; failures are as in nat.h. */
#ifndef IPVS_BPF_LIB_NAT_ERROR_H
#define IPVS_BPF_LIB_NAT_ERROR_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/csum.h"
#include "lib/nat.h"
#include "lib/packet.h"
#include "lib/parse.h"
#include "lib/stats.h"

/*
 * The transport checksum of a quoted packet, as far as the quote goes; adds what it changed in the
 * quote to `diff`. A quoted checksum may be wrong from the start (ip_vs does not correct it when it
 * translates its own ends): an incremental update leaves it exactly as wrong as it was. SCTP's stays as it
 * stands: nobody can check it, as a quote seldom has all that it covers.
 */
static __always_inline int nat_quoted_check(struct __sk_buff *skb, __u32 link, struct packet *quote,
					    __u64 l4_diff, __u64 *diff)
{
	bool tcp = quote->protocol == IPPROTO_TCP;
	__u32 at = quote->l4_off + (tcp ? TCP_CHECK_AT : UDP_CHECK_AT);
	__sum16 old, check;

	if (quote->protocol == IPPROTO_SCTP ||
	    (tcp && quote->l4_len < TCP_CHECK_AT + sizeof(check)) ||
	    load_bytes(skb, at, &old, sizeof(old)))
		return 0;
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
 * What changes in an ICMP error itself. Of ICMPv6 the checksum covers a pseudo header, too, and may be
 * left to the device: see write_l4_check.
 */
static __always_inline int write_error(struct __sk_buff *skb, __u8 family, __u32 link,
				       struct packet *error, enum nat_end end,
				       const struct addr_change *addr, __u64 quote_diff)
{
	__u32 at = link + error->l4_off + offsetof(union l4_head, icmp_check);
	int result;

	if (family != AF_INET6) {
		error->head.l4.icmp_check = csum_apply(error->head.l4.icmp_check, quote_diff);
		return write_head(skb, family, link, error, end, true, 0);
	}
	result = write_head(skb, family, link, error, end, false, 0);
	if (result)
		return result;
	if (bpf_l4_csum_replace(skb, at, addr->from, addr->to, BPF_F_PSEUDO_HDR | addr->size) ||
	    bpf_l4_csum_replace(skb, at, 0, csum_fold32(quote_diff), 0))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return 0;
}

/*
 * An ICMP error: `end` of the error itself gets the address, the other end of the packet that it
 * quotes gets address and port, and the ICMP checksum follows everything that the quote changes.
 */
static __always_inline int nat_icmp_error(struct __sk_buff *skb, __u8 family, struct packet *error,
					  struct packet *quote, enum nat_end end,
					  const struct nat *nat)
{
	enum nat_end quoted_end = end == NAT_SOURCE ? NAT_DEST : NAT_SOURCE;
	__sum16 old_ip_check = quote->head.ip.check;
	struct addr_change outer, inner;
	__u64 l4_diff, diff;
	__be16 old_port;
	int link, result;

	link = writable_link_len(skb, family, error);
	if (link < 0)
		return link;

	outer = set_addr(family, error, end, nat);
	inner = set_addr(family, quote, quoted_end, nat);
	old_port = set_port(quote, quoted_end, nat);
	l4_diff = csum_diff32(inner.from, inner.to) + csum_diff16(old_port, nat->port);
	/* IPv6 has changed an address and no sum of the header beside it. */
	diff = l4_diff;
	if (family == AF_INET)
		diff += csum_diff16(old_ip_check, quote->head.ip.check);

	result = nat_quoted_check(skb, link, quote, l4_diff, &diff);
	if (result)
		return result;
	result = write_head(skb, family, link, quote, quoted_end, true, 0);
	if (result)
		return result;
	return write_error(skb, family, link, error, end, &outer, diff);
}

#endif
