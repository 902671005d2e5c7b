/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known of a packet. `family` is a constant wherever it is an argument: everything is
 * compiled once for AF_INET and once for AF_INET6.
 */
#ifndef IPVS_BPF_LIB_PACKET_H
#define IPVS_BPF_LIB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* <linux/icmp.h> and <sys/socket.h> want a C library for the target. */
#define AF_INET		   2
#define AF_INET6	   10
#define ICMP_DEST_UNREACH  3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_HEAD_LEN	   8
#define ICMPV6_INFORMATION 128 /* the first type that is no error (RFC 4443, section 2.1) */

#define IPV4_MORE_FRAGMENTS  bpf_htons(0x2000)
#define IPV4_FRAGMENT_OFFSET bpf_htons(0x1fff)
#define IPV6_MORE_FRAGMENTS  bpf_htons(0x0001)
#define IPV6_FRAGMENT_OFFSET bpf_htons(0xfff8)

/* What every request and reply has at least, and every ICMP error quotes at least (RFC 792). */
#define L4_HEAD_LEN  8
#define TCP_HEAD_LEN 20
#define TCP_CHECK_AT 16
#define UDP_CHECK_AT 6
#define SCTP_HEAD_LEN 12
#define SCTP_CHECK_AT 8

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

/*
 * Both heads as they stand in a packet without IP options or extension headers; lib/nat.h edits and
 * stores them. IPv4's begins where both end at the same place.
 */
struct heads {
	union {
		struct {
			__u8 unused[sizeof(struct ipv6hdr) - sizeof(struct iphdr)];
			struct iphdr ip;
		};
		struct ipv6hdr ip6;
	};
	union l4_head l4;
};

#define IPV4_HEADS_AT offsetof(struct heads, ip)

struct packet {
	struct heads head;
	__u32 ip_off; /* 0, or where an ICMP error quotes a packet */
	__u32 l4_off;
	__u32 l4_len;  /* bytes that the packet has behind l4_off; 0: not even L4_HEAD_LEN */
	__be32 id;     /* IPv6: identification in the fragment header */
	bool ethernet; /* seems to stand behind an Ethernet header: link_len() makes sure */
	__u8 protocol;
	__u16 frag; /* not 0: a fragment; its offset and more-fragments bit, as in the header */
};

static __always_inline void addr_from_v4(struct ipvs_addr *addr, __be32 v4)
{
	addr->w[0] = 0;
	addr->w[1] = 0;
	addr->w[2] = bpf_htonl(0xffff);
	addr->w[3] = v4;
}

static __always_inline void addr_from_v6(struct ipvs_addr *addr, const struct in6_addr *v6)
{
	__builtin_memcpy(addr, v6, sizeof(*addr));
}

static __always_inline void source_of(__u8 family, const struct packet *p, struct ipvs_addr *addr)
{
	if (family == AF_INET6)
		addr_from_v6(addr, &p->head.ip6.saddr);
	else
		addr_from_v4(addr, p->head.ip.saddr);
}

static __always_inline void destination_of(__u8 family, const struct packet *p,
					   struct ipvs_addr *addr)
{
	if (family == AF_INET6)
		addr_from_v6(addr, &p->head.ip6.daddr);
	else
		addr_from_v4(addr, p->head.ip.daddr);
}

static __always_inline bool addr_equal(const struct ipvs_addr *a, const struct ipvs_addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

static __always_inline __be16 ethertype_of(__u8 family)
{
	return family == AF_INET6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
}

/* Length of a whole packet, as its IP header tells it; a lower limit for a jumbogram. */
static __always_inline __u32 ip_length(__u8 family, const struct packet *p)
{
	return family == AF_INET6 ? sizeof(p->head.ip6) + bpf_ntohs(p->head.ip6.payload_len) :
				    bpf_ntohs(p->head.ip.tot_len);
}

/* True for a fragment that does not begin with the transport header. */
static __always_inline bool is_later_fragment(__u8 family, const struct packet *p)
{
	return p->frag & (family == AF_INET6 ? IPV6_FRAGMENT_OFFSET : IPV4_FRAGMENT_OFFSET);
}

/* True for the fragment with which a datagram ends. */
static __always_inline bool is_last_fragment(__u8 family, const struct packet *p)
{
	return !(p->frag & (family == AF_INET6 ? IPV6_MORE_FRAGMENTS : IPV4_MORE_FRAGMENTS));
}

static __always_inline bool has_ports(const struct packet *p)
{
	return p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP ||
	       p->protocol == IPPROTO_SCTP;
}

static __always_inline bool is_icmp(__u8 family, const struct packet *p)
{
	return p->protocol == (family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/* The part of a transport header that has to be there before a packet is translated. */
static __always_inline __u32 l4_head_len(__u8 protocol)
{
	if (protocol == IPPROTO_SCTP)
		return SCTP_HEAD_LEN;
	return protocol == IPPROTO_TCP ? TCP_HEAD_LEN : L4_HEAD_LEN;
}

/* False if a packet with ports ends before its checksum does. */
static __always_inline bool has_whole_l4_head(const struct packet *p)
{
	return p->l4_len >= l4_head_len(p->protocol);
}

/* The ICMP errors that ip_vs forwards; all of them quote a packet behind 8 bytes. */
static __always_inline bool is_icmp_error(__u8 family, const struct packet *p)
{
	__u8 type = p->head.l4.icmp_type;

	if (family == AF_INET6)
		return type < ICMPV6_INFORMATION;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
	       type == ICMP_TIME_EXCEEDED;
}

/* An ICMP error goes back to who sent the packet that it quotes, as far as it was translated. */
static __always_inline bool quote_is_from_destination(__u8 family, const struct packet *quote,
						      const struct packet *error)
{
	if (family == AF_INET6)
		return addr_equal((const struct ipvs_addr *)&quote->head.ip6.saddr,
				  (const struct ipvs_addr *)&error->head.ip6.daddr);
	return quote->head.ip.saddr == error->head.ip.daddr;
}

#endif
