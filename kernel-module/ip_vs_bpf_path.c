// SPDX-License-Identifier: GPL-2.0-only
/*
 * Paths: what lets tc ingress forward established connections past the IP stack, and what keeps IPVS
 * right about connections of which it sees one packet a second: their timers and numbers.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/version.h>
#include <net/arp.h>
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/l3mdev.h>
#include <net/lwtunnel.h>
#include <net/ndisc.h>
#include <net/route.h>
#include <net/sch_generic.h>

#include "ip_vs_bpf_internal.h"

/* Before 6.2 the statistics of a namespace had no struct of their own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define tot_cpustats(ipvs) ((ipvs)->tot_stats.cpustats)
#else
#define tot_cpustats(ipvs) ((ipvs)->tot_stats->s.cpustats)
#endif

#define PATH_LIFE (IPVS_PATH_SECONDS * HZ)
/* So far IPVS's numbers may be behind while a connection has paths. */
#define COUNT_PERIOD (2 * PATH_LIFE)

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define timer_container_of from_timer
#endif

/*
 * States in which a TCP segment without SYN, FIN and RST changes nothing but the timer, in either
 * direction (tcp_states in ip_vs_proto_tcp.c); the programs send the others to IPVS.
 */
#define SETTLED_TCP_STATES                                                      \
	(BIT(IP_VS_TCP_S_ESTABLISHED) | BIT(IP_VS_TCP_S_FIN_WAIT) |             \
	 BIT(IP_VS_TCP_S_TIME_WAIT) | BIT(IP_VS_TCP_S_CLOSE_WAIT))

/* A question by UDP and its answer are not worth a path: the client has to ask again. */
static bool is_settled(const struct ip_vs_conn *cp, int direction)
{
	/* The request that is being sent is not counted yet. */
	int earlier = direction == IP_VS_DIR_INPUT ? 0 : 1;

	if (cp->protocol == IPPROTO_TCP)
		return BIT(READ_ONCE(cp->state)) & SETTLED_TCP_STATES;
	return atomic_read(&cp->in_pkts) > earlier;
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

static void set_nexthop4(struct ipvs_path *path, const struct dst_entry *dst, __be32 daddr)
{
	const struct rtable *rt = container_of(dst, struct rtable, dst);

	if (rt->rt_gw_family == AF_INET6) {
		path->nexthop_family = AF_INET6;
		memcpy(&path->nexthop, &rt->rt_gw6, sizeof(path->nexthop));
		return;
	}
	path->nexthop_family = AF_INET;
	path->nexthop = addr4(rt_nexthop(rt, daddr));
}

static void set_nexthop6(struct ipvs_path *path, const struct dst_entry *dst,
			 const union nf_inet_addr *daddr)
{
	union nf_inet_addr target = *daddr;
	const struct in6_addr *nexthop = rt6_nexthop(dst_rt6_info(dst), &target.in6);

	path->nexthop_family = AF_INET6;
	memcpy(&path->nexthop, nexthop, sizeof(path->nexthop));
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

/* The next hop has to be the peer itself: behind a bridge or macvlan there, it is another. */
static void shorten_to_peer(struct ip_vs_bpf *bpf, struct ipvs_path *path, struct net_device *dev)
{
	const struct net_device *peer = open_peer(bpf, dev);
	const struct neighbour *neigh;
	u8 *ethernet = (u8 *)&path->nexthop;

	if (!peer)
		return;
	neigh = path->nexthop_family == AF_INET6 ?
			__ipv6_neigh_lookup_noref(dev, &path->nexthop) :
			__ipv4_neigh_lookup_noref(dev, (__force u32)path->nexthop.w[3]);
	if (!neigh || !(READ_ONCE(neigh->nud_state) & NUD_VALID) ||
	    !ether_addr_equal(neigh->ha, peer->dev_addr))
		return;
	path->nexthop_family = IPVS_NEXTHOP_PEER;
	ether_addr_copy(ethernet, peer->dev_addr);
	ether_addr_copy(ethernet + ETH_ALEN, dev->dev_addr);
}

static struct ipvs_path describe_path(const struct ip_vs_conn *cp, const struct dst_entry *dst,
				      const struct net_device *in, int direction)
{
	const union nf_inet_addr *daddr = direction == IP_VS_DIR_INPUT ? &cp->daddr : &cp->caddr;
	struct ipvs_path path = {
		.in_ifindex = in->ifindex,
		.out_ifindex = dst->dev->ifindex,
		.mtu = min_t(u32, dst_mtu(dst), U16_MAX),
	};

	if (cp->af == AF_INET6)
		set_nexthop6(&path, dst, daddr);
	else
		set_nexthop4(&path, dst, daddr->ip);
	shorten_to_peer(cp->ipvs->bpf, &path, dst->dev);
	return path;
}

/* A program that reads in between finds no path, or one whose every part was right a moment ago. */
static void write_path(struct ipvs_path *to, const struct ipvs_path *from, u32 until)
{
	WRITE_ONCE(to->out_ifindex, 0);
	smp_wmb();
	to->nexthop = from->nexthop;
	to->nexthop_family = from->nexthop_family;
	WRITE_ONCE(to->mtu, from->mtu);
	WRITE_ONCE(to->in_ifindex, from->in_ifindex);
	WRITE_ONCE(to->until, until);
	smp_wmb();
	WRITE_ONCE(to->out_ifindex, from->out_ifindex);
}

static void add_to_stats(struct ip_vs_cpu_stats __percpu *stats, int direction, u32 packets,
			 u64 bytes)
{
	struct ip_vs_cpu_stats *s = this_cpu_ptr(stats);

	u64_stats_update_begin(&s->syncp);
	u64_stats_add(direction == IP_VS_DIR_INPUT ? &s->cnt.inpkts : &s->cnt.outpkts, packets);
	u64_stats_add(direction == IP_VS_DIR_INPUT ? &s->cnt.inbytes : &s->cnt.outbytes, bytes);
	u64_stats_update_end(&s->syncp);
}

/* Nothing that does not fit is counted: connections may outlive their whitelist entry. */
static void count_forwarded(struct ip_vs_bpf *bpf, u32 service_id, u32 packets)
{
	u64 none = 0, *total = map_lookup(bpf, FORWARDED, &service_id);

	if (unlikely(!total)) {
		map_update(bpf, FORWARDED, &service_id, &none, BPF_NOEXIST);
		total = map_lookup(bpf, FORWARDED, &service_id);
	}
	if (total)
		atomic64_add(packets, (atomic64_t *)total);
}

/* As ip_vs_in_stats and ip_vs_out_stats. */
static void take_over_count(struct ip_vs_conn *cp, struct ipvs_path *path, int direction)
{
	u64 counted = READ_ONCE(path->counted) ? xchg(&path->counted, 0) : 0;
	u32 packets = counted >> IPVS_COUNTED_BYTES_BITS;
	u64 bytes = counted & (BIT_ULL(IPVS_COUNTED_BYTES_BITS) - 1);
	struct ip_vs_dest *dest = cp->dest;
	struct ip_vs_service *svc;

	if (!packets)
		return;
	count_forwarded(cp->ipvs->bpf, service_id_of(cp), packets);
	if (direction == IP_VS_DIR_INPUT)
		atomic_add(packets, &cp->in_pkts);
	svc = dest ? rcu_dereference(dest->svc) : NULL;
	if (!svc)
		return;
	add_to_stats(dest->stats.cpustats, direction, packets, bytes);
	add_to_stats(svc->stats.cpustats, direction, packets, bytes);
	add_to_stats(tot_cpustats(cp->ipvs), direction, packets, bytes);
}

void ip_vs_bpf_take_over_counts(struct ip_vs_conn *cp, struct ipvs_session *session)
{
	take_over_count(cp, &session->request, IP_VS_DIR_INPUT);
	take_over_count(cp, &session->reply, IP_VS_DIR_OUTPUT);
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
	take_over_count(cp, to, direction);
	WRITE_ONCE(cp->bpf_until[direction], path->out_ifindex ? until ?: 1 : 0);
	if (path->out_ifindex && !timer_pending(&cp->bpf_timer))
		mod_timer(&cp->bpf_timer, jiffies + COUNT_PERIOD);
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

static bool has_path(const struct ipvs_path *path, u32 now)
{
	return path->out_ifindex && (s32)(path->until - now) > 0;
}

/* Softirq. The connection may have ended meanwhile, but is not freed before this returns. */
void ip_vs_bpf_count_timer(struct timer_list *timer)
{
	struct ip_vs_conn *cp = timer_container_of(cp, timer, bpf_timer);
	struct ipvs_session *session;

	rcu_read_lock();
	session = ip_vs_bpf_lock_session(cp->ipvs->bpf, cp);
	if (session) {
		ip_vs_bpf_take_over_counts(cp, session);
		if (has_path(&session->request, jiffies) || has_path(&session->reply, jiffies))
			mod_timer(&cp->bpf_timer, jiffies + COUNT_PERIOD);
		ip_vs_bpf_unlock_session(cp->ipvs->bpf, cp);
	}
	rcu_read_unlock();
}

/* When the connection ends if nothing more comes; false if tc has seen no packet since it was armed. */
static bool find_expiry(struct ip_vs_conn *cp, unsigned long *expires)
{
	struct ipvs_session *session = ip_vs_bpf_lock_session(cp->ipvs->bpf, cp);
	u64 seen;

	if (!session)
		return false;
	seen = READ_ONCE(session->seen);
	ip_vs_bpf_unlock_session(cp->ipvs->bpf, cp);
	*expires = (unsigned long)seen + cp->timeout;
	return seen && time_after(*expires, jiffies);
}

/*
 * Who deletes a connection does it before its time, or says so by ip_vs_conn_expire_now; that may come
 * while the timer is running, and is looked for again once it is armed.
 */
bool ip_vs_bpf_postpone_expiry(struct ip_vs_conn *cp)
{
	unsigned long expires;
	bool postponed;

	if (!(READ_ONCE(cp->bpf_until[0]) | READ_ONCE(cp->bpf_until[1])) || !cp->timeout ||
	    time_before(jiffies, cp->timer.expires) ||
	    READ_ONCE(cp->bpf_service) & BPF_SERVICE_KILLED)
		return false;
	rcu_read_lock();
	postponed = find_expiry(cp, &expires);
	rcu_read_unlock();
	if (!postponed)
		return false;
	mod_timer(&cp->timer, expires);
	smp_mb();
	if (READ_ONCE(cp->bpf_service) & BPF_SERVICE_KILLED)
		mod_timer_pending(&cp->timer, jiffies);
	return true;
}

void ip_vs_bpf_forbid_postponing(struct ip_vs_conn *cp)
{
	spin_lock_bh(&cp->lock);
	WRITE_ONCE(cp->bpf_service, cp->bpf_service | BPF_SERVICE_KILLED);
	spin_unlock_bh(&cp->lock);
	smp_mb();
}
