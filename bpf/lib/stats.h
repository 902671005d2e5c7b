/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Results of a translation, and the one place that turns them into a verdict and a counter. */
#ifndef IPVS_BPF_LIB_STATS_H
#define IPVS_BPF_LIB_STATS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/maps.h"

/*
 * A result is 0 (the packet is none of ours, or all is well so far), ipvs_done(counter),
 * ipvs_sent(counter) or ipvs_drop(counter). A counter may be 0, hence the shift by one.
 */
#define IPVS_NOT_MINE 0
#define IPVS_SENT     0x100
#define IPVS_CRC      0x200 /* beside the others: correct_crc is still to come */

static __always_inline int ipvs_done(enum ipvs_counter counter)
{
	return 1 + (int)counter;
}

/* The packet is on its way to another device. */
static __always_inline int ipvs_sent(enum ipvs_counter counter)
{
	return IPVS_SENT + ipvs_done(counter);
}

static __always_inline int ipvs_drop(enum ipvs_counter counter)
{
	return -1 - (int)counter;
}

/*
 * Packets that are let through leave with "unspecified", so that the programs of others behind ours
 * on the same hook still run; under tcx the same number means "next".
 */
static __always_inline int ipvs_verdict(int result)
{
	__u32 index = ((result < 0 ? -result : result) & ~(IPVS_SENT | IPVS_CRC)) - 1;
	__u64 *packets;

	if (result == IPVS_NOT_MINE)
		return TC_ACT_UNSPEC;

	packets = bpf_map_lookup_elem(&ipvs_counters, &index);
	if (packets)
		++*packets;
	if (result < 0)
		return TC_ACT_SHOT;
	return result & IPVS_SENT ? TC_ACT_REDIRECT : TC_ACT_UNSPEC;
}

#endif
