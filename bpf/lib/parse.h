/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet to a description of it. Reads go by the network header that the kernel knows, so
 * that they are right on every kind of device; offsets in struct packet count from there too.
 */
#ifndef IPVS_BPF_LIB_PARSE_H
#define IPVS_BPF_LIB_PARSE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/packet.h"

/* Enough for a link header, IP with all options, ICMP, the quoted IP with all options, and TCP. */
#define PULL_LEN 256

enum parse_result {
	PARSE_OK,
	PARSE_OTHER,	 /* no IP version that is handled here */
	PARSE_TRUNCATED, /* the packet or its header ends too early */
};

static __always_inline __u32 linear_len(struct __sk_buff *skb)
{
	return (long)skb->data_end - (long)skb->data;
}

/* Some drivers leave headers in page fragments, where the load helpers do not look. */
static __noinline int pull_heads(struct __sk_buff *skb)
{
	__u32 len = skb->len < PULL_LEN ? skb->len : PULL_LEN;

	if (linear_len(skb) >= len)
		return -1;
	return bpf_skb_pull_data(skb, len);
}

static __always_inline int load_bytes(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	if (!bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET))
		return 0;
	if (pull_heads(skb))
		return -1;
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/*
 * Most packets are unicast Ethernet frames with nothing between IP header and transport header, and
 * reading them in place costs a fifth of a helper call. A packet without link header begins with 0x6.,
 * or with 0x45, which is odd; what only looks like a frame (it has options) is found out before anything
 * is written. Answers NULL for all others. The heads are off by two bytes, which the CPUs that this runs
 * on do not mind. Of the answer only the family's part is there.
 */
static __always_inline const struct heads *behind_ethernet(struct __sk_buff *skb, __u8 family)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 skipped = family == AF_INET6 ? 0 : IPV4_HEADS_AT;
	const __u8 *first = data;

	if (data + ETH_HLEN + sizeof(struct heads) - skipped > end || first[0] & 1 ||
	    *(__be16 *)(data + offsetof(struct ethhdr, h_proto)) != ethertype_of(family))
		return NULL;
	if (family == AF_INET6 ? first[0] >> 4 == 6 || first[ETH_HLEN] >> 4 != 6 :
				 first[ETH_HLEN] != 0x45)
		return NULL;
	return __builtin_assume_aligned(data + ETH_HLEN - skipped, 4);
}

static __always_inline bool reaches(struct __sk_buff *skb, __u32 off)
{
	__u8 byte;

	return !bpf_skb_load_bytes_relative(skb, off, &byte, sizeof(byte), BPF_HDR_START_NET);
}

/* Bytes of the packet behind l4_off, if it says that it is `length` long from ip_off (0: unknown). */
static __always_inline enum parse_result set_l4_len(struct packet *p, __u32 length, __u32 limit,
						    bool missing)
{
	__u32 end = length ? p->ip_off + length : limit;

	if (end > limit)
		end = limit;
	if (end < p->l4_off)
		return PARSE_TRUNCATED;
	p->l4_len = end - p->l4_off;
	if (missing || p->l4_len < L4_HEAD_LEN)
		p->l4_len = 0;
	return PARSE_OK;
}

/*
 * The same for a packet whose link header may have any length: `limit` is the end of the frame, as if there were
 * none, and so beyond the end of a packet that is cut off. What is needed of it is looked for.
 * A function of its own, because its callers have no stack left.
 */
static __noinline enum parse_result find_l4_len(struct __sk_buff *skb, struct packet *p,
						__u32 length, __u32 limit, bool missing)
{
	__u32 head = l4_head_len(p->protocol);

	if (missing && !reaches(skb, p->l4_off - 1))
		return PARSE_TRUNCATED;
	if (set_l4_len(p, length, limit, missing) != PARSE_OK)
		return PARSE_TRUNCATED;
	if (head > L4_HEAD_LEN && p->l4_len >= head && !reaches(skb, p->l4_off + head - 1))
		p->l4_len = head - 1;
	return PARSE_OK;
}

/* With l4_len 0 what stands in head.l4 means nothing: it may be the padding of a short frame. */
static __always_inline enum parse_result parse_ipv4(struct __sk_buff *skb, __u32 off, __u32 limit,
						    struct packet *p)
{
	struct iphdr *ip = &p->head.ip;
	__u32 ihl, length;
	const struct heads *head = off ? NULL : behind_ethernet(skb, AF_INET);
	int missing = 0;

	p->ethernet = head;
	if (head) {
		p->head.ip = head->ip;
		p->head.l4 = head->l4;
	} else {
		missing = load_bytes(skb, off, ip, sizeof(p->head) - IPV4_HEADS_AT);
		if (missing && load_bytes(skb, off, ip, sizeof(*ip)))
			return PARSE_TRUNCATED;
	}
	if (ip->version != 4)
		return PARSE_OTHER;
	ihl = ip->ihl * 4;
	if (ihl < sizeof(*ip))
		return PARSE_TRUNCATED;

	p->ip_off = off;
	p->l4_off = off + ihl;
	if (ihl != sizeof(*ip))
		missing = load_bytes(skb, p->l4_off, &p->head.l4, sizeof(p->head.l4));
	p->protocol = ip->protocol;
	p->frag = ip->frag_off & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	/* A GSO packet beyond 64 KB has no length in its header (BIG TCP). */
	length = bpf_ntohs(ip->tot_len);
	return p->ethernet ? set_l4_len(p, length, skb->len - ETH_HLEN, missing) :
		      find_l4_len(skb, p, length, limit, missing);
}

/* The first 8 bytes of an extension header, be it a fragment header or not. */
struct extension {
	__u8 next;
	__u8 length; /* in units of 8 bytes, without the first of them */
	__be16 frag;
	__be32 id;
};

/* Extension headers of one packet that are looked behind: as many as there are kinds, and one more. */
#define EXTENSIONS 5

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
	       protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

/* Moves l4_off and protocol behind one extension header. True: that was not the last one. */
static __always_inline bool skip_extension(struct __sk_buff *skb, struct packet *p, bool *truncated)
{
	struct extension header;

	if (!is_extension(p->protocol))
		return false;
	*truncated = load_bytes(skb, p->l4_off, &header, sizeof(header));
	if (*truncated)
		return false;
	/*
	 * A routing header whose end is not reached yet stays: the destination that the transport
	 * checksum covers is in it. Segments that are left are the fourth byte.
	 */
	if (p->protocol == IPPROTO_ROUTING && header.frag & bpf_htons(0x00ff))
		return false;
	if (p->protocol == IPPROTO_FRAGMENT) {
		p->l4_off += sizeof(header);
		p->frag = header.frag & (IPV6_MORE_FRAGMENTS | IPV6_FRAGMENT_OFFSET);
		p->id = header.id;
	} else {
		p->l4_off += (header.length + 1) * 8;
	}
	p->protocol = header.next;
	return !(p->frag & IPV6_FRAGMENT_OFFSET);
}

/* The same with all of them. Not 0: the packet ends before. */
static __noinline int skip_extensions(struct __sk_buff *skb, struct packet *p)
{
	bool truncated = false;

#pragma clang loop unroll(full)
	for (int i = 0; i < EXTENSIONS; i++)
		if (!skip_extension(skb, p, &truncated))
			break;
	return truncated;
}

static __always_inline enum parse_result parse_ipv6(struct __sk_buff *skb, __u32 off, __u32 limit,
						    struct packet *p)
{
	struct ipv6hdr *ip = &p->head.ip6;
	const struct heads *head = off ? NULL : behind_ethernet(skb, AF_INET6);
	int missing = 0;
	__u32 length;

	p->ethernet = head;
	if (head) {
		p->head = *head;
	} else {
		missing = load_bytes(skb, off, &p->head, sizeof(p->head));
		if (missing && load_bytes(skb, off, ip, sizeof(*ip)))
			return PARSE_TRUNCATED;
	}
	if (ip->version != 6)
		return PARSE_OTHER;

	p->ip_off = off;
	p->l4_off = off + sizeof(*ip);
	p->protocol = ip->nexthdr;
	p->frag = 0;
	if (is_extension(p->protocol)) {
		if (skip_extensions(skb, p))
			return PARSE_TRUNCATED;
		missing = load_bytes(skb, p->l4_off, &p->head.l4, sizeof(p->head.l4));
	}
	/* A jumbogram has its length in an option. */
	length = ip->payload_len ? sizeof(*ip) + bpf_ntohs(ip->payload_len) : 0;
	return p->ethernet ? set_l4_len(p, length, skb->len - ETH_HLEN, missing) :
		      find_l4_len(skb, p, length, limit, missing);
}

/* Describes the packet at `off`, which ends at `limit` at the latest. */
static __always_inline enum parse_result parse_packet(struct __sk_buff *skb, __u8 family, __u32 off,
						      __u32 limit, struct packet *p)
{
	return family == AF_INET6 ? parse_ipv6(skb, off, limit, p) :
				    parse_ipv4(skb, off, limit, p);
}

/* The packet that an ICMP error quotes, with its ports; a later fragment has none to go by. */
static __always_inline enum parse_result parse_quote(struct __sk_buff *skb, __u8 family,
						     const struct packet *error, struct packet *p)
{
	enum parse_result result;

	result = parse_packet(skb, family, error->l4_off + ICMP_HEAD_LEN,
			      error->l4_off + error->l4_len, p);
	if (result != PARSE_OK)
		return result;
	return p->l4_len && !is_later_fragment(family, p) ? PARSE_OK : PARSE_TRUNCATED;
}

#endif
