/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Incremental checksums (RFC 1624, equation 3): HC' = ~(~HC + ~m + m'). A difference is the sum of
 * ~m + m' over the changed words; differences add up, and none of it depends on byte order.
 */
#ifndef IPVS_BPF_LIB_CSUM_H
#define IPVS_BPF_LIB_CSUM_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

static __always_inline __u64 csum_diff32(__be32 from, __be32 to)
{
	return (__u64)(__u32)~from + to;
}

static __always_inline __u64 csum_diff16(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

static __always_inline __u64 csum_diff_addr(const struct ipvs_addr *from, const struct ipvs_addr *to)
{
	return csum_diff32(from->w[0], to->w[0]) + csum_diff32(from->w[1], to->w[1]) +
	       csum_diff32(from->w[2], to->w[2]) + csum_diff32(from->w[3], to->w[3]);
}

/* A difference as helpers take it. */
static __always_inline __u32 csum_fold32(__u64 diff)
{
	diff = (diff & 0xffffffff) + (diff >> 32);
	return (__u32)diff + (__u32)(diff >> 32);
}

/* The checksum after a change by `diff`, which may be the sum of a few differences. */
static __always_inline __sum16 csum_apply(__sum16 check, __u64 diff)
{
	__u64 sum = (__u16)~check + diff;

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__sum16)~sum;
}

#endif
