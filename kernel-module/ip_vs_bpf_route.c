// SPDX-License-Identifier: GPL-2.0-only
/* Which way replies go, and whether they may come in where they do: of IPv4, and of those that have not come yet. */
#include <linux/inetdevice.h>
#include <net/ip.h>
#include <net/ip6_fib.h>
#include <net/route.h>

#include "ip_vs_bpf_internal.h"

/* True if packets with this route would be forwarded, to one host. */
static bool is_forwarded(const struct rtable *rt)
{
	return rt->rt_type == RTN_UNICAST && !rt->dst.error &&
	       !(rt->rt_flags & (RTCF_LOCAL | RTCF_BROADCAST | RTCF_MULTICAST));
}

/* As if this host had sent the translated reply: see ip_vs_route_me_harder. */
static struct rtable *route_to_client(struct ip_vs_conn *cp, u8 tos, u32 mark)
{
	struct flowi4 fl4 = {
		.daddr = cp->caddr.ip,
		.saddr = cp->vaddr.ip,
		.flowi4_tos = RT_TOS(tos),
		.flowi4_mark = mark,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
	};

	return ip_route_output_key(cp->ipvs->net, &fl4);
}

static bool route_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct rtable *rt = route_to_client(cp, ip_hdr(skb)->tos, skb->mark);

	if (IS_ERR(rt))
		return false;
	skb_dst_drop(skb);
	skb_dst_set(skb, &rt->dst);
	return is_forwarded(rt);
}

static int rp_filter_of(const struct net_device *dev)
{
	const struct in_device *in_dev = __in_dev_get_rcu(dev);

	return in_dev ? IN_DEV_RPFILTER(in_dev) : 0;
}

/* True if replies of this real server by this interface have been found valid, and still are. */
static bool are_valid_by(const struct ip_vs_dest *dest, const struct net_device *dev)
{
	return dest->bpf_ifindex == dev->ifindex && dest->bpf_rp_filter == rp_filter_of(dev) &&
	       dest->bpf_genid == rt_genid_ipv4(dev_net(dev));
}

/*
 * Replies of one real server by one interface have their source validated (rp_filter, martians)
 * and forwarding checked once, and again when a route or the interface's rp_filter has changed.
 */
static bool validate_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	int rp_filter = rp_filter_of(skb->dev), genid = rt_genid_ipv4(cp->ipvs->net);
	struct ip_vs_dest *dest = cp->dest;

	if (likely(dest && cp->ipvs->sysctl_snat_reroute && are_valid_by(dest, skb->dev)))
		return true;
	/* Not for another host: LOCAL_IN translates it, or the stack drops it. */
	if (!ip_vs_bpf_route_input(AF_INET, skb) || !is_forwarded(skb_rtable(skb)))
		return false;
	if (dest && !skb->mark) {
		spin_lock_bh(&dest->dst_lock);
		dest->bpf_ifindex = skb->dev->ifindex;
		dest->bpf_rp_filter = rp_filter;
		dest->bpf_genid = genid;
		spin_unlock_bh(&dest->dst_lock);
	}
	return true;
}

bool ip_vs_bpf_route_reply4(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	return validate_reply(cp, skb) &&
	       (!cp->ipvs->sysctl_snat_reroute || route_reply(cp, skb));
}

/* Where the real server's replies come in, 0 if that is not known. IPv6 validates no source by route. */
static int reply_ifindex(const struct ip_vs_conn *cp)
{
	const struct ip_vs_dest *dest = cp->dest;
	const struct net_device *dev;

	if (READ_ONCE(cp->bpf_out_ifindex) || !dest)
		return READ_ONCE(cp->bpf_out_ifindex);
	if (cp->af == AF_INET6)
		return dest->bpf_ifindex;
	dev = dev_get_by_index_rcu(cp->ipvs->net, dest->bpf_ifindex);
	return dev && are_valid_by(dest, dev) ? dev->ifindex : 0;
}

static struct dst_entry *expected_dst(struct ip_vs_conn *cp)
{
	struct rtable *rt = cp->af == AF_INET6 ? NULL : route_to_client(cp, 0, 0);

	if (!rt)
		return ip_vs_bpf_route_to_client6(cp);
	if (IS_ERR(rt) || is_forwarded(rt))
		return IS_ERR(rt) ? NULL : &rt->dst;
	ip_rt_put(rt);
	return NULL;
}

void ip_vs_bpf_expect_reply(struct ip_vs_conn *cp)
{
	int ifindex = reply_ifindex(cp);
	struct dst_entry *dst;

	if (!ifindex || ip_vs_bpf_remembered_reply_dst(cp) || !cp->ipvs->sysctl_snat_reroute)
		return;
	dst = expected_dst(cp);
	if (likely(dst))
		ip_vs_bpf_remember_reply_dst(cp, dst, ifindex);
}
