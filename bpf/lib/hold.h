/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Holds packets back while there is no ip_vs module: the host would refuse those that are for a virtual server, and a
 * client those of a real server that reach it untranslated. Whoever sent them sends them again. Sessions outlive the
 * module: what is forwarded by them goes on.
 */
#ifndef IPVS_BPF_LIB_HOLD_H
#define IPVS_BPF_LIB_HOLD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/parse.h"

static __always_inline bool is_holding(void)
{
	__u32 only = 0;
	__u64 *until = bpf_map_lookup_elem(&ipvs_hold, &only);

	/* The time by itself, so that nobody is cut off for longer if the agent ends before it is done. */
	return until && *until && bpf_ktime_get_ns() < *until;
}

/* While packets are held back there is no module that would offer the path again. */
static __always_inline bool is_in_force(const struct ipvs_path *path)
{
	return (__s32)(path->until - (__u32)bpf_jiffies64()) > 0 || is_holding();
}

/* Of fragments only the first one, without which the others are nothing. */
static __noinline bool is_held(struct __sk_buff *skb, __u32 family)
{
	struct ipvs_service_key end = {};
	struct packet p;

	if (parse_packet(skb, family, 0, skb->len, &p) != PARSE_OK || !has_ports(&p) ||
	    is_later_fragment(family, &p))
		return false;
	end.protocol = p.protocol;
	end.vport = p.head.l4.dport;
	destination_of(family, &p, &end.vaddr);
	if (bpf_map_lookup_elem(&ipvs_held, &end))
		return true;
	end.vport = p.head.l4.sport;
	source_of(family, &p, &end.vaddr);
	return bpf_map_lookup_elem(&ipvs_held, &end);
}

#endif
