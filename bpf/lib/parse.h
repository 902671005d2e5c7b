/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a packet to a description of it. Reads go by the network header that the kernel knows, so
 * that they are right on every kind of device; offsets in struct packet count from there too.
 */
#ifndef IPVS_BPF_LIB_PARSE_H
#define IPVS_BPF_LIB_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* <linux/icmp.h> and <sys/socket.h> want a C library for the target. */
#define AF_INET		   2
#define ICMP_DEST_UNREACH  3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_HEAD_LEN	   8

#define IPV4_MORE_FRAGMENTS  bpf_htons(0x2000)
#define IPV4_FRAGMENT_OFFSET bpf_htons(0x1fff)

/* What every request and reply has at least, and every ICMP error quotes at least (RFC 792). */
#define L4_HEAD_LEN  8
#define TCP_HEAD_LEN 20
#define TCP_CHECK_AT 16
#define UDP_CHECK_AT 6

/* Enough for a link header, IP with all options, ICMP, the quoted IP with all options, and TCP. */
#define PULL_LEN 192

/* The first 8 bytes behind the IP header. */
union l4_head {
	struct {
		__be16 sport;
		__be16 dport;
		__be16 udp_len;
		__sum16 udp_check;
	};
	struct {
		__u8 icmp_type;
		__u8 icmp_code;
		__sum16 icmp_check;
	};
};

/* Both heads as they stand in a packet without IP options; lib/nat.h edits and stores them. */
struct ipv4_head {
	struct iphdr ip;
	union l4_head l4;
};

struct packet {
	struct ipv4_head head;
	__u32 ip_off; /* 0, or where an ICMP error quotes a packet */
	__u32 l4_off;
	__u32 l4_len;  /* bytes that the packet has behind l4_off; 0: not even L4_HEAD_LEN */
	bool ethernet; /* seems to stand behind an Ethernet header: link_len() makes sure */
	__u8 family;
	__u8 protocol;
	__u16 frag; /* not 0: a fragment; its offset and more-fragments bit, as in the header */
};

enum parse_result {
	PARSE_OK,
	PARSE_OTHER,	 /* no IP version that is handled here */
	PARSE_TRUNCATED, /* the packet or its header ends too early */
};

static __always_inline void addr_from_v4(struct ipvs_addr *addr, __be32 v4)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = bpf_htonl(0xffff);
	addr->w[3] = v4;
}

static __always_inline void source_of(const struct packet *p, struct ipvs_addr *addr)
{
	addr_from_v4(addr, p->head.ip.saddr);
}

static __always_inline void destination_of(const struct packet *p, struct ipvs_addr *addr)
{
	addr_from_v4(addr, p->head.ip.daddr);
}

static __always_inline bool addr_equal(const struct ipvs_addr *a, const struct ipvs_addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

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
 * Most packets are unicast Ethernet frames with IPv4 without options, and reading them in place costs
 * a fifth of a helper call. What only looks like one (a packet without link header has an odd first
 * byte, 0x45, unless it has options) is found out before anything is written. Answers NULL for all
 * others. The heads are off by two bytes, which the CPUs that this runs on do not mind.
 */
static __always_inline const struct ipv4_head *behind_ethernet(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __u8 *first = data;

	if (data + ETH_HLEN + sizeof(struct ipv4_head) > end || first[0] & 1 ||
	    *(__be16 *)(data + offsetof(struct ethhdr, h_proto)) != bpf_htons(ETH_P_IP) ||
	    first[ETH_HLEN] != 0x45)
		return NULL;
	return __builtin_assume_aligned(data + ETH_HLEN, 4);
}

/*
 * Describes the packet at `off`, which ends at `limit` at the latest. With l4_len 0 what stands in
 * head.l4 means nothing: it may be the padding of a short frame.
 */
static __always_inline enum parse_result parse_packet(struct __sk_buff *skb, __u32 off, __u32 limit,
						      struct packet *p)
{
	struct iphdr *ip = &p->head.ip;
	__u32 ihl, end;
	const struct ipv4_head *head = off ? NULL : behind_ethernet(skb);
	int missing = 0;

	p->ethernet = head;
	if (head) {
		p->head = *head;
	} else {
		missing = load_bytes(skb, off, &p->head, sizeof(p->head));
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

	/* A GSO packet beyond 64 KB has no length in its header (BIG TCP). */
	end = ip->tot_len ? off + bpf_ntohs(ip->tot_len) : limit;
	if (end > limit)
		end = limit;
	if (end < p->l4_off)
		return PARSE_TRUNCATED;
	p->l4_len = end - p->l4_off;
	if (missing || p->l4_len < L4_HEAD_LEN)
		p->l4_len = 0;

	p->family = AF_INET;
	p->protocol = ip->protocol;
	p->frag = ip->frag_off & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	return PARSE_OK;
}

/* True for a fragment that does not begin with the transport header. */
static __always_inline bool is_later_fragment(const struct packet *p)
{
	return p->frag & IPV4_FRAGMENT_OFFSET;
}

static __always_inline bool has_ports(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP;
}

/* False if a TCP or UDP packet ends before its checksum does. */
static __always_inline bool has_whole_l4_head(const struct packet *p)
{
	return p->l4_len >= (p->protocol == IPPROTO_TCP ? TCP_HEAD_LEN : L4_HEAD_LEN);
}

/* The ICMP errors that ip_vs forwards; all of them quote a packet behind 8 bytes. */
static __always_inline bool is_icmp_error(const struct packet *p)
{
	__u8 type = p->head.l4.icmp_type;

	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_TIME_EXCEEDED;
}

/* The packet that an ICMP error quotes, with its ports; a later fragment has none to go by. */
static __always_inline enum parse_result parse_quote(struct __sk_buff *skb,
						     const struct packet *error, struct packet *p)
{
	enum parse_result result;

	result = parse_packet(skb, error->l4_off + ICMP_HEAD_LEN, error->l4_off + error->l4_len, p);
	if (result != PARSE_OK)
		return result;
	return p->l4_len && !is_later_fragment(p) ? PARSE_OK : PARSE_TRUNCATED;
}

/* An ICMP error goes back to who sent the packet that it quotes, as far as it was translated. */
static __always_inline bool quote_is_from_destination(const struct packet *quote,
						      const struct packet *error)
{
	return quote->head.ip.saddr == error->head.ip.daddr;
}

static __always_inline bool reaches(struct __sk_buff *skb, __u32 off)
{
	__u8 byte;

	return !bpf_skb_load_bytes_relative(skb, off, &byte, sizeof(byte), BPF_HDR_START_NET);
}

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
