// SPDX-License-Identifier: GPL-2.0-only
/* Paths: what lets tc ingress forward connections past the IP stack. */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <net/arp.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/l3mdev.h>
#include <net/lwtunnel.h>
#include <net/ndisc.h>
#include <net/route.h>
#include <net/sch_generic.h>

#include "ip_vs_bpf_internal.h"

#define PATH_LIFE (IPVS_PATH_SECONDS * HZ)
/*
 * States in which a TCP segment without SYN, FIN and RST changes nothing but the timer, in either
 * direction (tcp_states in ip_vs_proto_tcp.c); the programs send the others to IPVS.
 */
#define SETTLED_TCP_STATES                                                      \
	(BIT(IP_VS_TCP_S_ESTABLISHED) | BIT(IP_VS_TCP_S_FIN_WAIT) |             \
	 BIT(IP_VS_TCP_S_TIME_WAIT) | BIT(IP_VS_TCP_S_CLOSE_WAIT))

u8 ip_vs_bpf_tell_of(const struct ip_vs_conn *cp)
{
	int state = READ_ONCE(cp->state);

	if (BIT(state) & SETTLED_TCP_STATES)
		return IPVS_TELL_CHANGES;
	return state == IP_VS_TCP_S_SYN_RECV ? IPVS_TELL_HANDSHAKE : IPVS_TELL_ALL;
}

/* A question by UDP and its answer are not worth a path: the client has to ask again. */
static bool is_settled(const struct ip_vs_conn *cp, int direction)
{
	if (cp->protocol == IPPROTO_TCP)
		return BIT(READ_ONCE(cp->state)) & SETTLED_TCP_STATES;
	if (cp->protocol == IPPROTO_SCTP)
		return READ_ONCE(cp->state) == IP_VS_SCTP_S_ESTABLISHED;
	/* The request that is being sent is not counted yet. */
	return atomic_read(&cp->in_pkts) > (direction == IP_VS_DIR_INPUT ? 0 : 1);
}

static bool is_ethernet(const struct net_device *dev)
{
	return dev->type == ARPHRD_ETHER && dev->header_ops && !netif_is_l3_master(dev);
}

/* Routes by which a packet does nothing but go from one Ethernet device to a neighbour on another. */
static bool is_plain_route(const struct dst_entry *dst, const struct net_device *in)
{
	return in && !dst->error && !dst->lwtstate && is_ethernet(dst->dev) && is_ethernet(in);
}

/* Whether somebody wants to see what is sent by this device, or to shape it: asked here, and of tc by the agent. */
static bool is_watched(const struct net_device *dev)
{
	const struct Qdisc *qdisc = rcu_dereference_bh(netdev_get_tx_queue(dev, 0)->qdisc);

#ifdef CONFIG_NETFILTER_EGRESS
	if (rcu_access_pointer(dev->nf_hooks_egress))
		return true;
#endif
	return qdisc->enqueue || !list_empty(&dev->ptype_all);
}

/* The other end of a pair, if packets may be put there without going through this one. */
static const struct net_device *open_peer(struct ip_vs_bpf *bpf, struct net_device *dev)
{
	struct net_device *peer;
	u32 ifindex = dev->ifindex;

	if (!dev->netdev_ops->ndo_get_peer_dev || !map_lookup(bpf, PEER_IFS, &ifindex) ||
	    is_watched(dev))
		return NULL;
	peer = dev->netdev_ops->ndo_get_peer_dev(dev);
	/* It would drop them if down or in this namespace, and run no XDP program of its driver. */
	if (!peer || !(peer->flags & IFF_UP) || net_eq(dev_net(peer), dev_net(dev)) ||
	    dev_xdp_prog_count(peer))
		return NULL;
	return peer;
}

/* As the kernel has prepared it for the neighbour. */
static bool copy_prepared(u8 *ethernet, struct neighbour *neigh)
{
	struct hh_cache *hh = &neigh->hh;
	unsigned int seq;

	do {
		seq = read_seqbegin(&hh->hh_lock);
		if (READ_ONCE(hh->hh_len) != ETH_HLEN)
			return false;
		memcpy(ethernet, (u8 *)hh->hh_data + HH_DATA_OFF(ETH_HLEN), IPVS_ETHERNET_LEN);
	} while (read_seqretry(&hh->hh_lock, seq));
	return true;
}

/* Nothing is prepared before the first packet, and never on VLAN devices: they put a tag behind what all others have, too. */
static bool copy_ethernet(u8 *ethernet, struct neighbour *neigh, const struct net_device *dev)
{
	unsigned int seq;

	if (likely(copy_prepared(ethernet, neigh)))
		return true;
	if (dev->header_ops->create != eth_header && !is_vlan_dev(dev))
		return false;
	do {
		seq = read_seqbegin(&neigh->ha_lock);
		ether_addr_copy(ethernet, neigh->ha);
	} while (read_seqretry(&neigh->ha_lock, seq));
	ether_addr_copy(ethernet + ETH_ALEN, dev->dev_addr);
	return true;
}

static struct neighbour *nexthop4(const struct dst_entry *dst, __be32 daddr)
{
	const struct rtable *rt = container_of(dst, struct rtable, dst);

	return rt->rt_gw_family == AF_INET6 ?
		       __ipv6_neigh_lookup_noref(dst->dev, &rt->rt_gw6) :
		       __ipv4_neigh_lookup_noref(dst->dev, (__force u32)rt_nexthop(rt, daddr));
}

static struct neighbour *nexthop6(const struct dst_entry *dst, const union nf_inet_addr *daddr)
{
	union nf_inet_addr target = *daddr;

	return __ipv6_neigh_lookup_noref(dst->dev, rt6_nexthop(dst_rt6_info(dst), &target.in6));
}

/*
 * False if it is not known where the next hop is: the packet that goes through the IP stack finds it out. To the kernel
 * this is a use of the neighbour: it goes on to probe it. A peer has to be the next hop itself: behind a bridge or macvlan
 * there, it is another.
 */
static bool set_nexthop(struct ip_vs_bpf *bpf, struct ipvs_path *path, struct neighbour *neigh,
			struct net_device *dev)
{
	const struct net_device *peer;

	if (!neigh || neigh_event_send(neigh, NULL))
		return false;
	peer = open_peer(bpf, dev);
	path->to_peer = peer && ether_addr_equal(neigh->ha, peer->dev_addr);
	return copy_ethernet(path->ethernet, neigh, dev);
}

static struct ipvs_path describe_path(const struct ip_vs_conn *cp, const struct dst_entry *dst,
				      const struct net_device *in, int direction)
{
	const union nf_inet_addr *daddr = direction == IP_VS_DIR_INPUT ? &cp->daddr : &cp->caddr;
	struct ipvs_path path = {
		.in_ifindex = in->ifindex,
		.mtu = min_t(u32, dst_mtu(dst), U16_MAX),
	};
	struct neighbour *neigh = cp->af == AF_INET6 ? nexthop6(dst, daddr) : nexthop4(dst, daddr->ip);

	if (likely(set_nexthop(cp->ipvs->bpf, &path, neigh, dst->dev)))
		path.out_ifindex = dst->dev->ifindex;
	return path;
}

/* A program that reads in between finds no path, or one whose every part was right a moment ago. */
static void write_path(struct ipvs_path *to, const struct ipvs_path *from, u32 until)
{
	WRITE_ONCE(to->out_ifindex, 0);
	smp_wmb();
	memcpy(to->ethernet, from->ethernet, sizeof(to->ethernet));
	to->to_peer = from->to_peer;
	WRITE_ONCE(to->mtu, from->mtu);
	WRITE_ONCE(to->tell, from->tell);
	WRITE_ONCE(to->in_ifindex, from->in_ifindex);
	WRITE_ONCE(to->until, until);
	smp_wmb();
	WRITE_ONCE(to->out_ifindex, from->out_ifindex);
}

/* Most packets that come here are a connection's last ones, while its paths are good. */
static bool is_due(u32 until, u32 now, bool wanted)
{
	if (!wanted)
		return until;
	return !until || (s32)(until - now) < PATH_LIFE / 2;
}

/* Under the session's lock; a path without out_ifindex takes the one back that there is. */
static void put_path(struct ip_vs_conn *cp, struct ipvs_session *session,
		     const struct ipvs_path *path, int direction)
{
	struct ipvs_path *to = direction == IP_VS_DIR_INPUT ? &session->request : &session->reply;
	u32 until = jiffies + PATH_LIFE;

	write_path(to, path, until);
	ip_vs_bpf_take_over_counts(cp, session);
	ip_vs_bpf_add_flows(cp->ipvs->bpf, cp, session);
	WRITE_ONCE(cp->bpf_until[direction], path->out_ifindex ? until ?: 1 : 0);
	if (path->out_ifindex)
		ip_vs_bpf_count_later(cp);
}

/*
 * The route that replies of this connection have, and that the next one would use: so nearly none of a
 * connection that the client keeps talking on has to come through here.
 */
static struct ipvs_path remembered_reply_path(const struct ip_vs_conn *cp)
{
	const struct net_device *in =
		dev_get_by_index_rcu(cp->ipvs->net, READ_ONCE(cp->bpf_out_ifindex));
	struct dst_entry *dst = ip_vs_bpf_remembered_reply_dst(cp);

	if (!dst || !ip_vs_bpf_dst_is_valid(dst, cp->bpf_out_cookie) || !is_plain_route(dst, in))
		return (struct ipvs_path){};
	return describe_path(cp, dst, in, IP_VS_DIR_OUTPUT);
}

void ip_vs_bpf_offer_path(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			  int direction)
{
	bool wanted = is_settled(cp, direction) && !skb->mark && skb->dev &&
		      is_plain_route(skb_dst(skb), skb->dev) &&
		      !ip_vs_bpf_needs_native_path(cp->af, cp->ipvs->net, skb);
	struct ipvs_path path = {}, reply = {};
	struct ipvs_session *session;

	if (likely(!is_due(READ_ONCE(cp->bpf_until[direction]), jiffies, wanted)))
		return;
	if (wanted)
		path = describe_path(cp, skb_dst(skb), skb->dev, direction);
	if (wanted && direction == IP_VS_DIR_INPUT)
		reply = remembered_reply_path(cp);
	session = ip_vs_bpf_lock_session(bpf, cp);
	if (!session)
		return;
	put_path(cp, session, &path, direction);
	if (reply.out_ifindex)
		put_path(cp, session, &reply, IP_VS_DIR_OUTPUT);
	ip_vs_bpf_unlock_session(bpf, cp);
}

/* The route that the real server's other connections have; NULL if there is none, or it has changed. */
static struct dst_entry *route_to_dest(const struct ip_vs_dest *dest)
{
	const struct ip_vs_dest_dst *dest_dst = dest ? rcu_dereference(dest->dest_dst) : NULL;

	if (!dest_dst || !ip_vs_bpf_dst_is_valid(dest_dst->dst_cache, dest_dst->dst_cookie))
		return NULL;
	return dest_dst->dst_cache;
}

void ip_vs_bpf_offer_first_paths(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp,
				 const struct sk_buff *skb)
{
	struct dst_entry *dst = route_to_dest(cp->dest);
	struct ipvs_path request, reply;
	struct ipvs_session *session;

	if (!dst || !is_plain_route(dst, skb->dev))
		return;
	request = describe_path(cp, dst, skb->dev, IP_VS_DIR_INPUT);
	ip_vs_bpf_expect_reply(cp);
	reply = remembered_reply_path(cp);
	request.tell = reply.tell = ip_vs_bpf_tell_of(cp);
	session = ip_vs_bpf_lock_session(bpf, cp);
	if (!session)
		return;
	put_path(cp, session, &request, IP_VS_DIR_INPUT);
	if (reply.out_ifindex)
		put_path(cp, session, &reply, IP_VS_DIR_OUTPUT);
	ip_vs_bpf_unlock_session(bpf, cp);
}

void ip_vs_bpf_update_tell(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp)
{
	struct ipvs_session *session = ip_vs_bpf_lock_session(bpf, cp);
	u8 tell = ip_vs_bpf_tell_of(cp);

	if (!session)
		return;
	WRITE_ONCE(session->request.tell, tell);
	WRITE_ONCE(session->reply.tell, tell);
	ip_vs_bpf_add_flows(bpf, cp, session);
	ip_vs_bpf_unlock_session(bpf, cp);
}
