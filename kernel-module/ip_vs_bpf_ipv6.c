// SPDX-License-Identifier: GPL-2.0-only
/*
 * What IPv6 does in another way than IPv4: extension headers in place of options, no validation of
 * the source when a packet is routed, fragments that get their identification when they are made.
 */
#include <linux/icmpv6.h>
#include <linux/ipv6.h>
#include <linux/netfilter_bridge.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif
#include <net/ip6_route.h>
#include <net/ipv6.h>
#include <net/ipv6_frag.h>
#include <net/ipv6_stubs.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>

#include "ip_vs_bpf_internal.h"

struct ip_vs_bpf_transport ip_vs_bpf_find_transport6(const struct sk_buff *skb)
{
	struct ip_vs_bpf_transport transport = { .protocol = ipv6_hdr(skb)->nexthdr };
	unsigned int offset = 0;
	unsigned short fragment_offset;
	int flags = 0;

	if (unlikely(ipv6_ext_hdr(transport.protocol))) {
		transport.protocol = ipv6_find_hdr(skb, &offset, -1, &fragment_offset, &flags);
		transport.fragment = flags & IP6_FH_F_FRAG;
	}
	return transport;
}

/* Whoever has such an address is found by the interface as well, which no session has. */
static bool is_link_local(const struct in6_addr *address)
{
	return (address->s6_addr32[0] & htonl(0xffc00000)) == htonl(0xfe800000);
}

/* Extension headers but for those of fragments, which are gone when a packet is whole. */
bool ip_vs_bpf_needs_native_path6(const struct sk_buff *skb)
{
	const struct ipv6hdr *iph = ipv6_hdr(skb);

	return ipv6_ext_hdr(iph->nexthdr) || is_link_local(&iph->saddr) ||
	       is_link_local(&iph->daddr);
}

/* The route that the stack would find. A virtual server's address without one is no obstacle. */
bool ip_vs_bpf_route_input6(struct sk_buff *skb)
{
	int err = ipv6_stub->ipv6_route_input(skb);

	return !err || err == -ENETUNREACH;
}

/*
 * ip_vs looks at the route of a packet that it translates to see whether it was for this host, and
 * does not mind the answer. With IPv6 nothing else hangs on it.
 */
void ip_vs_bpf_set_any_route6(struct sk_buff *skb)
{
	skb_dst_drop(skb);
	skb_dst_set_noref(skb, &dev_net(skb->dev)->ipv6.ip6_null_entry->dst);
}

/*
 * True if the datagram is whole now; otherwise the fragment is kept or freed. The queue is the one
 * of conntrack's hook behind this one, which gets those fragments that do not show what they are.
 */
bool ip_vs_bpf_reassemble6(struct ip_vs_bpf *bpf, struct sk_buff *skb)
{
	u32 user = nf_bridge_in_prerouting(skb) ? IP6_DEFRAG_CONNTRACK_BRIDGE_IN :
						  IP6_DEFRAG_CONNTRACK_IN;
	int err = nf_ct_frag6_gather(bpf->ipvs->net, skb, user);

	if (err && err != -EINPROGRESS)
		kfree_skb(skb);
	return !err;
}

/* True if packets with this route are forwarded, to one host. */
static bool is_forwarded(struct net *net, const struct dst_entry *dst)
{
	const struct rt6_info *rt = dst_rt6_info(dst);

	return READ_ONCE(net->ipv6.devconf_all->forwarding) && !rt->dst.error &&
	       !(rt->rt6i_flags & (RTF_LOCAL | RTF_ANYCAST)) && !(rt->dst.dev->flags & IFF_LOOPBACK);
}

/* As if this host had sent the translated reply. Takes a reference. */
static struct dst_entry *route_to_client(struct ip_vs_conn *cp, __be32 flowinfo, u32 mark)
{
	struct flowi6 fl6 = {
		.daddr = cp->caddr.in6,
		.saddr = cp->vaddr.in6,
		.flowlabel = flowinfo,
		.flowi6_mark = mark,
		.flowi6_proto = cp->protocol,
	};

	return ip6_route_output(cp->ipvs->net, NULL, &fl6);
}

/* Unless snat_reroute is off. */
bool ip_vs_bpf_route_reply6(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct net *net = cp->ipvs->net;

	if (!cp->ipvs->sysctl_snat_reroute)
		return ip_vs_bpf_route_input6(skb) && is_forwarded(net, skb_dst(skb));
	skb_dst_drop(skb);
	skb_dst_set(skb, route_to_client(cp, ip6_flowinfo(ipv6_hdr(skb)), skb->mark));
	return is_forwarded(net, skb_dst(skb));
}

struct dst_entry *ip_vs_bpf_route_to_client6(struct ip_vs_conn *cp)
{
	struct dst_entry *dst = route_to_client(cp, 0, 0);

	if (is_forwarded(cp->ipvs->net, dst))
		return dst;
	dst_release(dst);
	return NULL;
}

static bool exceeds_mtu(const struct sk_buff *skb, unsigned int mtu)
{
	if (skb->len <= mtu)
		return false;
	if (IP6CB(skb)->frag_max_size)
		return IP6CB(skb)->frag_max_size > mtu;
	return !skb->ignore_df && (!skb_is_gso(skb) || !skb_gso_validate_network_len(skb, mtu));
}

/* What ip6_forward does, in its order. */
bool ip_vs_bpf_forward_reply6(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct net *net = cp->ipvs->net;
	struct inet6_dev *idev = ip6_dst_idev(skb_dst(skb));
	unsigned int mtu;

	if (unlikely(ipv6_hdr(skb)->hop_limit <= 1)) {
		IP6_INC_STATS(net, idev, IPSTATS_MIB_INHDRERRORS);
		ip_vs_bpf_refuse_reply(bpf, cp, skb, ICMPV6_TIME_EXCEED, ICMPV6_EXC_HOPLIMIT, 0);
		return false;
	}
	mtu = max_t(unsigned int, ip6_dst_mtu_maybe_forward(skb_dst(skb), true), IPV6_MIN_MTU);
	if (unlikely(exceeds_mtu(skb, mtu))) {
		IP6_INC_STATS(net, idev, IPSTATS_MIB_INTOOBIGERRORS);
		IP6_INC_STATS(net, idev, IPSTATS_MIB_FRAGFAILS);
		ip_vs_bpf_refuse_reply(bpf, cp, skb, ICMPV6_PKT_TOOBIG, 0, mtu);
		return false;
	}
	if (skb_ensure_writable(skb, skb_network_offset(skb) + sizeof(struct ipv6hdr)))
		return false;
	ipv6_hdr(skb)->hop_limit--;
	return true;
}

/* What this CPU is sending as fragments. */
struct fragmented {
	struct ip_vs_conn *cp;
	u32 length; /* bytes behind the IPv6 header */
};
static DEFINE_PER_CPU(struct fragmented, fragmented);

/* tc egress finds the session of the fragments by what identifies the datagram. */
static void announce_fragments(struct sk_buff *skb, struct fragmented sent)
{
	struct ip_vs_conn *cp = sent.cp;
	struct ipvs_frag whole = {
		.session = ip_vs_bpf_session_key(cp, service_id_of(cp)),
		.length = sent.length,
	};
	struct ipvs_frag_key key = {
		.saddr = addr_of(AF_INET6, (union nf_inet_addr *)&ipv6_hdr(skb)->saddr),
		.daddr = addr_of(AF_INET6, (union nf_inet_addr *)&ipv6_hdr(skb)->daddr),
		.protocol = cp->protocol,
	};
	struct frag_hdr _header, *header;
	unsigned int offset = 0;

	if (ipv6_find_hdr(skb, &offset, NEXTHDR_FRAGMENT, NULL, NULL) < 0)
		return;
	header = skb_header_pointer(skb, offset, sizeof(_header), &_header);
	/* Only the first; and one that is all has ports to go by. */
	if (!header || (header->frag_off & htons(IP6_OFFSET | IP6_MF)) != htons(IP6_MF))
		return;
	key.id = header->identification;
	map_update(cp->ipvs->bpf, FRAGS, &key, &whole, BPF_ANY);
}

/* A fragment's control block is empty, or the whole packet's. */
static int send_fragment(struct net *net, struct sock *sk, struct sk_buff *skb)
{
	struct fragmented sent = *this_cpu_ptr(&fragmented);

	memset(IP6CB(skb), 0, sizeof(struct inet6_skb_parm));
	announce_fragments(skb, sent);
	ip_vs_bpf_output(net, AF_INET6, skb, IPVS_HINT_MAGIC | service_id_of(sent.cp));
	return 0;
}

/*
 * Fragments are made here and not by ip6_output: it chooses their identification when it makes them,
 * and so nobody could be told of them before.
 */
unsigned int ip_vs_bpf_send_request6(struct sk_buff *skb, struct ip_vs_conn *cp)
{
	struct net *net = cp->ipvs->net;
	unsigned int limit = IP6CB(skb)->frag_max_size ?: UINT_MAX;
	struct fragmented outer;

	limit = min_t(unsigned int, limit, dst_mtu(skb_dst(skb)));
	if (likely(skb_is_gso(skb) || skb->len <= limit))
		return ip_vs_bpf_output(net, AF_INET6, skb,
					IPVS_HINT_MAGIC | service_id_of(cp));
	outer = *this_cpu_ptr(&fragmented);
	*this_cpu_ptr(&fragmented) = (struct fragmented){
		.cp = cp, .length = skb->len - sizeof(struct ipv6hdr),
	};
	ipv6_stub->ipv6_fragment(net, NULL, skb, send_fragment);
	*this_cpu_ptr(&fragmented) = outer;
	return NF_STOLEN;
}
