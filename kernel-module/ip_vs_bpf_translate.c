// SPDX-License-Identifier: GPL-2.0-only
/* Writes both ends of a plain packet at tc ingress, and one hop less: what the programs do by a few helpers. */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/ipv6.h>

#include "ip_vs_bpf_internal.h"

/* Sums of 16 bits may be taken over words. */
static __wsum change_of(__be32 from, __be32 to)
{
	return csum_sub((__force __wsum)to, (__force __wsum)from);
}

static __wsum change_of_addr6(const struct in6_addr *from, const struct ipvs_addr *to)
{
	return csum_add(csum_add(change_of(from->s6_addr32[0], to->w[0]),
				 change_of(from->s6_addr32[1], to->w[1])),
			csum_add(change_of(from->s6_addr32[2], to->w[2]),
				 change_of(from->s6_addr32[3], to->w[3])));
}

/* Those below answer what they add to a sum over the addresses. The hop count is the first byte of its word. */
static __always_inline __wsum write_ipv4(struct iphdr *ip, const struct ipvs_ends *ends)
{
	__wsum change = csum_add(change_of(ip->saddr, ends->saddr.w[3]),
				 change_of(ip->daddr, ends->daddr.w[3]));

	csum_replace_by_diff(&ip->check, csum_add(change, ~(__force __wsum)htons(0x100)));
	ip->ttl--;
	ip->saddr = ends->saddr.w[3];
	ip->daddr = ends->daddr.w[3];
	return change;
}

static __always_inline __wsum write_ipv6(struct ipv6hdr *ip, const struct ipvs_ends *ends)
{
	__wsum change = csum_add(change_of_addr6(&ip->saddr, &ends->saddr),
				 change_of_addr6(&ip->daddr, &ends->daddr));

	ip->hop_limit--;
	memcpy(&ip->saddr, &ends->saddr, sizeof(ip->saddr));
	memcpy(&ip->daddr, &ends->daddr, sizeof(ip->daddr));
	return change;
}

/* SCTP's is no sum, and is made right afterwards. Of UDP, 0 is none. */
static __always_inline __sum16 *check_of(u8 *l4, u8 protocol)
{
	struct udphdr *udp = (struct udphdr *)l4;

	if (likely(protocol == IPPROTO_TCP))
		return &((struct tcphdr *)l4)->check;
	return protocol == IPPROTO_UDP && udp->check ? &udp->check : NULL;
}

/*
 * In a sum that the device took over the whole packet, checksums make up for what they cover: IPv4's own for the addresses
 * in its header; of IPv6, nothing does for the hop count, the second byte of its word.
 */
static noinline void correct_complete(struct sk_buff *skb, __wsum addrs, __wsum ports, bool has_check)
{
	__wsum change = has_check ? 0 : csum_add(addrs, ports);

	change = skb->protocol == htons(ETH_P_IPV6) ? csum_add(change, ~(__force __wsum)htons(1)) :
						      csum_sub(change, addrs);
	skb->csum = csum_add(skb->csum, change);
}

/* A checksum that is left to the device covers addresses only. One of UDP that becomes 0 is all ones (RFC 768). */
static __always_inline void write_l4(struct sk_buff *skb, u8 *l4, u8 protocol, __wsum addrs,
				     const struct ipvs_ends *ends)
{
	__be32 *ports = (__be32 *)l4, to;
	__sum16 *check = check_of(l4, protocol);
	__wsum change;

	memcpy(&to, &ends->sport, sizeof(to));
	change = change_of(*ports, to);
	*ports = to;
	if (unlikely(skb->ip_summed == CHECKSUM_COMPLETE))
		correct_complete(skb, addrs, change, check);
	if (unlikely(!check))
		return;
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		*check = ~csum_fold(csum_add(addrs, csum_unfold(*check)));
		return;
	}
	csum_replace_by_diff(check, csum_add(addrs, change));
	if (unlikely(!*check && protocol == IPPROTO_UDP))
		*check = CSUM_MANGLED_0;
}

static __always_inline int translate(struct sk_buff *skb, bool ipv6, const struct ipvs_ends *ends)
{
	u32 length = ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	u32 l4 = skb_network_offset(skb) + length;
	u8 *head = skb_network_header(skb);
	__wsum addrs;
	u8 protocol;
	int err;

	/* A program may call this for whatever it likes. */
	if (unlikely(skb_network_offset(skb) < ETH_HLEN || l4 > skb_headlen(skb)))
		return -EINVAL;
	protocol = ipv6 ? ((struct ipv6hdr *)head)->nexthdr : ((struct iphdr *)head)->protocol;
	err = skb_ensure_writable(skb, l4 + (protocol == IPPROTO_TCP ? sizeof(struct tcphdr) :
								       sizeof(struct udphdr)));
	if (unlikely(err))
		return err;
	head = skb_network_header(skb);
	memcpy(skb->data, ends->ethernet, IPVS_ETHERNET_LEN);
	addrs = ipv6 ? write_ipv6((struct ipv6hdr *)head, ends) : write_ipv4((struct iphdr *)head, ends);
	write_l4(skb, head + length, protocol, addrs, ends);
	return 0;
}

int ip_vs_bpf_translate(struct sk_buff *skb, bool ipv6, const struct ipvs_ends *ends)
{
	return ipv6 ? translate(skb, true, ends) : translate(skb, false, ends);
}

__bpf_kfunc int bpf_ip_vs_translate(struct __sk_buff *ctx, const struct ipvs_ends *ends)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	int err = ip_vs_bpf_translate(skb, skb->protocol == htons(ETH_P_IPV6), ends);

	bpf_compute_data_pointers(skb);
	return err;
}
