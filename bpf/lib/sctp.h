/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP's checksum is a CRC32c over the whole SCTP packet without a pseudo header (RFC 9260, section 6.8), so of a
 * translation it only has to follow the ports. A CRC is linear: it changes by the CRC of what has changed, with as
 * many zero bytes behind it as there are behind the ports. That is a product of polynomials modulo the CRC's own,
 * which has its lowest power in the highest bit here, as CRC32c has it.
 *
 * It is done once the translation is, because that has no stack left. Ports are taken as they stand in the packet:
 * the CRC and the CPUs that this runs on are little-endian.
 */
#ifndef IPVS_BPF_LIB_SCTP_H
#define IPVS_BPF_LIB_SCTP_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/packet.h"
#include "lib/stats.h"

#define CRC32C_POLYNOMIAL 0x82f63b78

/* What a translation leaves to correct_crc. */
struct sctp_change {
	__u32 at;     /* where the SCTP header begins, counted from the start of the packet */
	__u32 length; /* bytes that the checksum covers; of a fragment, those of the whole datagram */
	__u32 ports;  /* source and destination, before XOR after */
};

/* Written and read while one packet is translated. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sctp_change);
} ipvs_sctp_change SEC(".maps");

/*
 * After a change of ports, each before XOR after. `at` and `length`: see above. 0, IPVS_CRC, or a drop. A function
 * of its own, because its callers have no stack left.
 */
__noinline int leave_crc(__u32 at, __u32 length, __be16 source, __be16 dest)
{
	__u32 only = 0;
	struct sctp_change *change = bpf_map_lookup_elem(&ipvs_sctp_change, &only);

	if (!change)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	change->at = at;
	change->length = length;
	change->ports = source | (__u32)dest << 16;
	return change->ports ? IPVS_CRC : 0;
}

#define CRC_DIGITS 4 /* of a length below 2^16, in base 16 */

/* x^(8 * d * 16^i), at [i][d]: what d * 16^i more bytes multiply a CRC with. */
static const __u32 crc_powers[CRC_DIGITS][16] SEC(".rodata.crc") = {
	{ 0x80000000, 0x00800000, 0x00008000, 0x00000080, 0x82f63b78, 0xfbc3faf9, 0x8b277743, 0x52a0c93f,
	  0x6ea2d55c, 0x1c08b7d6, 0xf56e0ef4, 0x34019664, 0xa66805eb, 0x7a1f6b24, 0xe75d06aa, 0xc94ec098 },
	{ 0x80000000, 0x18b8ea18, 0x510ac59a, 0xb2dea967, 0xb82be955, 0x36c41f1c, 0x19b29a35, 0xc9e90b9e,
	  0xb8fdb1e7, 0xe55ef1f3, 0x1fe0b5c3, 0xe0553f1e, 0x18e4a304, 0x2b830011, 0x56993a31, 0x0246e2e6 },
	{ 0x80000000, 0x88e56f72, 0x74c360a4, 0x631bb273, 0xe4172b16, 0x71892b1b, 0x835305c9, 0x196b1eae,
	  0x0d65762a, 0xafc81338, 0xb5a50ab7, 0xf373c3ac, 0x5f60970f, 0xd46d3063, 0x3a5275ea, 0x02331c01 },
	{ 0x80000000, 0x35d73a62, 0x28461564, 0x43eefc9f, 0xbf455269, 0x5edcdeb9, 0x65059450, 0x4e6f41a4,
	  0xe2ea32dc, 0xf5b95b32, 0x695a4c87, 0xf204502c, 0x9a4f01b6, 0x941a0916, 0x4303cb97, 0x4c3d3d65 },
};

/* A global function, so that the verifier goes through its loop once. */
__noinline __u32 crc_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* By how much the CRC over `length` bytes changes, of which the first four have changed by `word`. */
static __always_inline __u32 crc_change(__u32 word, __u32 length)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < CRC_DIGITS; i++) {
		__u32 digit = length >> 4 * i & 15;

		if (digit)
			word = crc_multiply(word, crc_powers[i][digit]);
	}
	return word;
}

/*
 * Whether the device has yet to make the checksum (CHECKSUM_PARTIAL); until then, it is 0. The context does not
 * tell. But the kernel leaves such a field alone when the change is not one of a pseudo header.
 */
static __always_inline bool is_left_to_device(struct __sk_buff *skb, __u32 at)
{
	__u32 crc = 0;

	if (bpf_l4_csum_replace(skb, at, 0, 1, sizeof(__u16)) ||
	    bpf_skb_load_bytes(skb, at, &crc, sizeof(crc)))
		return false;
	if (!crc)
		return true;
	crc = 0;
	bpf_skb_store_bytes(skb, at, &crc, sizeof(crc), 0);
	return false;
}

/* Gives the packet that leave_crc was told of its checksum; 0 or a drop. A global function: see link.h. */
__noinline int correct_crc(struct __sk_buff *skb)
{
	__u32 only = 0, crc, at;
	struct sctp_change *change = bpf_map_lookup_elem(&ipvs_sctp_change, &only);

	/* Chunks that are cut up into packets later get a checksum each. */
	if (skb->gso_size)
		return 0;
	if (!change)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	at = change->at + SCTP_CHECK_AT;
	if (bpf_skb_load_bytes(skb, at, &crc, sizeof(crc)))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	if (!crc && is_left_to_device(skb, at))
		return 0;
	crc ^= crc_change(change->ports, change->length);
	if (bpf_skb_store_bytes(skb, at, &crc, sizeof(crc), BPF_F_RECOMPUTE_CSUM))
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return 0;
}

/* A result with everything done that the translation has left to do. */
static __always_inline int with_crc(struct __sk_buff *skb, int result)
{
	int failed = result > 0 && result & IPVS_CRC ? correct_crc(skb) : 0;

	return failed ? failed : result;
}

#define SCTP_CHUNK_AT SCTP_HEAD_LEN

/*
 * Chunks that change no state of an association: DATA, SACK, HEARTBEAT and its answer. As for IPVS, the first chunk
 * of a packet stands for all of them.
 */
#define SCTP_PLAIN_CHUNKS (1 << 0 | 1 << 3 | 1 << 4 | 1 << 5)

static __always_inline bool is_plain_chunk(__u8 type)
{
	return type < 8 && SCTP_PLAIN_CHUNKS >> type & 1;
}

#endif
