/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a packet's network header is, seen from its start: what the store helpers count from. */
#ifndef IPVS_BPF_LIB_LINK_H
#define IPVS_BPF_LIB_LINK_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "lib/parse.h"

#define LINK_LEN_LIMIT 128

/*
 * The smallest n of 1..LINK_LEN_LIMIT - 1 for which reaches(linear - n - 1), or -1. A global function:
 * the verifier then looks at it once, and not at the whole program for each n that it may answer.
 */
__noinline int search_link_len(struct __sk_buff *skb, __u32 linear)
{
	__u32 low = 0, high = LINK_LEN_LIMIT;

	while (high - low > 1) {
		__u32 middle = (low + high) / 2;

		if (middle >= linear || reaches(skb, linear - middle - 1))
			high = middle;
		else
			low = middle;
	}
	return high == LINK_LEN_LIMIT ? -1 : (int)high;
}

/*
 * Bytes between the start of the packet, which is what the store helpers count from, and its network
 * header: 14 on Ethernet, 0 on a device without link header (tun, wireguard), 18 with a VLAN tag in
 * line. The context does not tell, and guessing by content can be fooled by whoever chooses the
 * addresses. But both counts share one end: a byte at offset n from the network header can be read
 * if and only if n < linear length - link header length. Negative if there is no telling.
 */
static __always_inline int link_len(struct __sk_buff *skb, const struct packet *p)
{
	__u32 linear = linear_len(skb);

	/* It is not longer: that would be a tag in line, or a type that Ethernet has elsewhere. */
	if (p->ethernet)
		return reaches(skb, linear - ETH_HLEN) ? -1 : ETH_HLEN;
	if (reaches(skb, linear - 1))
		return 0;
	return search_link_len(skb, linear);
}

#endif
