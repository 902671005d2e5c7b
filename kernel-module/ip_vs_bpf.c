// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accelerated mode of IPVS: requests of whitelisted virtual servers are taken at PRE_ROUTING,
 * before conntrack, and every connection made there is a session in an eBPF map, from which the
 * tc programs do SNAT. The contract with them is abi.h.
 *
 * The packets run through ip_vs_in_hook and ip_vs_out_hook as on the native path; the route that those expect is looked
 * up for the first packet of a connection and direction, and remembered. What is not sure is left to the native path.
 */
#include <linux/ip.h>
#include <net/dst_metadata.h>
#include <net/ip.h>
#include <net/ip6_fib.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/route.h>

#include "ip_vs_bpf_internal.h"

bool ip_vs_bpf_dst_is_valid(struct dst_entry *dst, u32 cookie)
{
	return !dst->obsolete || dst->ops->check(dst, cookie);
}

/* Uses the remembered route if it was found for packets of the same interface. */
bool ip_vs_bpf_use_dst(struct sk_buff *skb, struct dst_entry *dst, int ifindex, u32 cookie)
{
	if (unlikely(!dst || ifindex != skb->dev->ifindex || !ip_vs_bpf_dst_is_valid(dst, cookie)))
		return false;
	skb_dst_drop(skb);
	skb_dst_set_noref(skb, dst);
	return true;
}

/*
 * The route that replies had last, if it may be used again. Of IPv6, rules and more specific routes of other tables
 * leave a route as valid as it was; IPv4 has all routes looked up again then.
 */
struct dst_entry *ip_vs_bpf_remembered_reply_dst(const struct ip_vs_conn *cp)
{
	if (cp->af == AF_INET6 && (s32)(READ_ONCE(cp->bpf_out_until) - (u32)jiffies) <= 0)
		return NULL;
	return READ_ONCE(cp->bpf_out_dst);
}

/* Takes the reference over. `in`: the packets that have this route come in there. */
static void replace_dst(struct ip_vs_conn *cp, struct dst_entry *dst, int in, struct dst_entry **slot,
			int *ifindex)
{
	spin_lock_bh(&cp->lock);
	WRITE_ONCE(*ifindex, 0);
	/* Of IPv6 only the route of the replies is remembered, so there is room for this. */
	if (cp->af == AF_INET6) {
		WRITE_ONCE(cp->bpf_out_cookie, rt6_get_cookie(dst_rt6_info(dst)));
		WRITE_ONCE(cp->bpf_out_until, (u32)jiffies + IPVS_PATH_SECONDS * HZ);
	}
	dst = xchg(slot, dst);
	WRITE_ONCE(*ifindex, in);
	spin_unlock_bh(&cp->lock);
	dst_release(dst);
}

void ip_vs_bpf_remember_dst(struct ip_vs_conn *cp, const struct sk_buff *skb, struct dst_entry **slot,
			    int *ifindex)
{
	struct dst_entry *dst = skb_dst(skb);

	if (dst_hold_safe(dst))
		replace_dst(cp, dst, skb->dev->ifindex, slot, ifindex);
}

void ip_vs_bpf_remember_reply_dst(struct ip_vs_conn *cp, struct dst_entry *dst, int in)
{
	replace_dst(cp, dst, in, &cp->bpf_out_dst, &cp->bpf_out_ifindex);
}

/* The route that the stack would find: validates the source (IPv4: rp_filter, martians) as well. */
bool ip_vs_bpf_route_input(int af, struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);

	if (af == AF_INET6)
		return ip_vs_bpf_route_input6(skb);
	return !ip_route_input_noref(skb, iph->daddr, iph->saddr, iph->tos, skb->dev);
}

void ip_vs_bpf_set_untracked(struct sk_buff *skb)
{
	nf_reset_ct(skb);
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
}

/* What only the native path does right: IP options (not parsed yet), extension headers, IPsec, what LRO has merged. */
bool ip_vs_bpf_needs_native_path(int af, const struct net *net, const struct sk_buff *skb)
{
	if (unlikely(af == AF_INET6 ? ip_vs_bpf_needs_native_path6(skb) : ip_hdr(skb)->ihl != 5))
		return true;
	if (unlikely(skb_warn_if_lro(skb)))
		return true;
#ifdef CONFIG_XFRM
	if (unlikely(net->xfrm.policy_count[XFRM_POLICY_OUT] ||
		     net->xfrm.policy_count[XFRM_POLICY_FWD]))
		return true;
#endif
	return false;
}

const struct ipvs_service *ip_vs_bpf_find_service(struct ip_vs_bpf *bpf, int af,
						  const struct sk_buff *skb)
{
	const struct iphdr *ip4 = ip_hdr(skb);
	struct ipvs_service_key key = {};
	struct ip_vs_iphdr iph;
	__be16 _ports[2], *ports;
	unsigned int offset;

	/* Most packets that come here are none of a virtual server. */
	if (likely(af == AF_INET)) {
		offset = skb_network_offset(skb) + ip4->ihl * 4;
		key.vaddr = addr4(ip4->daddr);
		key.protocol = ip4->protocol;
	} else {
		if (!ip_vs_fill_iph_skb(af, skb, false, &iph))
			return NULL;
		key.vaddr = addr_of(af, &iph.daddr);
		key.protocol = iph.protocol;
		offset = iph.len;
	}
	ports = skb_header_pointer(skb, offset, sizeof(_ports), _ports);
	if (!ports)
		return NULL;
	key.vport = ports[1];
	return map_lookup(bpf, SERVICES, &key);
}

bool ip_vs_bpf_take_first(struct ip_vs_bpf_packet *packet, struct sk_buff *skb)
{
	int af = packet->state.pf;

	if (READ_ONCE(packet->bpf->on))
		packet->service = ip_vs_bpf_find_service(packet->bpf, af, skb);
	if (unlikely(packet->service && ip_vs_bpf_is_sctp(af, skb) &&
		     ip_vs_bpf_is_multihomed(af, skb))) {
		count(packet->bpf, IPVS_COUNT_BYPASS_MULTIHOMED);
		return false;
	}
	packet->taken = packet->service &&
			!ip_vs_bpf_needs_native_path(af, packet->state.net, skb) &&
			ip_vs_bpf_route_input(af, skb);
	return packet->taken;
}

/* As ip_vs_in_hook does; what conntrack knows of it ends by its own timeout. */
static void end_native(struct ip_vs_conn *cp)
{
	spin_lock_bh(&cp->lock);
	cp->flags &= ~IP_VS_CONN_F_NFCT;
	spin_unlock_bh(&cp->lock);
	ip_vs_conn_expire_now(cp);
	__ip_vs_conn_put(cp);
}

/* True if the packet begins an accelerated connection where this native one has been, which it ends. */
static bool replaces_native(struct ip_vs_bpf_packet *packet, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	/* Refused a moment ago, when a program had it scheduled for this packet. */
	if (unlikely(!cp->timeout && !(cp->flags & IP_VS_CONN_F_ONE_PACKET)))
		packet->verdict = NF_DROP;
	if (likely(!ip_vs_bpf_is_over(cp, skb)) || !ip_vs_bpf_take_first(packet, skb))
		return false;
	end_native(cp);
	return true;
}

bool ip_vs_bpf_take_request(struct ip_vs_conn **conn, struct sk_buff *skb,
			    const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);
	struct ip_vs_conn *cp = *conn;
	int af = state->pf;

	if (unlikely(!cp)) {
		if (!ip_vs_bpf_take_first(packet, skb))
			return false;
		cp = ip_vs_bpf_begin_scheduling(packet, skb);
		if (likely(!cp))
			return true;
		*conn = cp;
	}
	if (unlikely(!ip_vs_bpf_conn(cp)) && !atomic_read(&cp->in_pkts))
		ip_vs_bpf_await_session(packet, skb);
	if (!ip_vs_bpf_conn(cp)) {
		if (!replaces_native(packet, cp, skb))
			goto leave;
		*conn = NULL;
		return true;
	}
	packet->taken = true;
	if (unlikely(ip_vs_bpf_needs_native_path(af, state->net, skb))) {
		ip_vs_bpf_set_untracked(skb);
		goto leave;
	}
	if (unlikely(ip_vs_bpf_begins_multihomed(cp, skb))) {
		ip_vs_bpf_refuse_multihomed(packet, cp);
		goto leave;
	}
	if (af == AF_INET6) {
		ip_vs_bpf_set_any_route6(skb);
		return true;
	}
	if (likely(ip_vs_bpf_use_dst(skb, cp->bpf_in_dst, cp->bpf_in_ifindex, 0)))
		return true;
	if (!ip_vs_bpf_route_input(AF_INET, skb))
		goto leave;
	ip_vs_bpf_remember_dst(cp, skb, &cp->bpf_in_dst, &cp->bpf_in_ifindex);
	return true;
leave:
	__ip_vs_conn_put(cp);
	return false;
}

/* Kinds of connections that have no client port yet, more than one, or a helper. */
static bool is_supported(const struct ip_vs_conn *cp)
{
	const unsigned int other = IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_ONE_PACKET |
				   IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_SYNC;

	return cp->af == cp->daf && !(cp->flags & other) && !cp->app &&
	       IP_VS_FWD_METHOD(cp) == IP_VS_CONN_F_MASQ;
}

static bool add_session(struct ip_vs_conn *cp, struct sk_buff *skb, struct ip_vs_bpf_packet *packet)
{
	struct ip_vs_bpf *bpf = packet->bpf;

	/* ip_vs_in_hook may have ended the connection of this packet and scheduled another one. */
	if (!packet->service && READ_ONCE(bpf->on))
		packet->service = ip_vs_bpf_find_service(bpf, packet->state.pf, skb);
	if (!packet->service || !is_supported(cp)) {
		count(bpf, IPVS_COUNT_BYPASS_UNSUPPORTED);
	} else if (unlikely(cp->protocol == IPPROTO_SCTP && cp->dest &&
			    READ_ONCE(cp->dest->bpf_multihomed))) {
		count(bpf, IPVS_COUNT_BYPASS_MULTIHOMED);
	} else if (likely(!ip_vs_bpf_add_session(bpf, cp, packet->service))) {
		spin_lock_bh(&cp->lock);
		cp->flags &= ~IP_VS_CONN_F_NFCT;
		spin_unlock_bh(&cp->lock);
		if (cp->af == AF_INET)
			ip_vs_bpf_remember_dst(cp, skb, &cp->bpf_in_dst, &cp->bpf_in_ifindex);
		return true;
	} else if (packet->service->flags & IPVS_SERVICE_DROP_ON_FULL) {
		count(bpf, IPVS_COUNT_DROP_MAP_FULL);
		packet->verdict = NF_DROP;
		/* Nothing was sent; the next packet of this client is scheduled anew. */
		cp->timeout = 0;
	} else {
		count(bpf, IPVS_COUNT_BYPASS_MAP_FULL);
	}
	return false;
}

bool ip_vs_bpf_take_connection(struct ip_vs_conn *cp, struct sk_buff *skb,
			       const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);
	bool added = add_session(cp, skb, packet);

	ip_vs_bpf_end_scheduling(packet);
	if (!added)
		ip_vs_conn_put(cp);
	return added;
}

/*
 * Before IP fragments a packet: fragments carry no control block, so tc egress finds their
 * session by what identifies the datagram.
 */
static void announce_fragments(struct sk_buff *skb, struct ip_vs_conn *cp)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct ipvs_frag whole = {
		.session = ip_vs_bpf_session_key(cp, service_id_of(cp)),
		.length = skb->len - ip_hdrlen(skb),
	};
	struct ipvs_frag_key key = {
		.saddr = addr4(iph->saddr),
		.daddr = addr4(iph->daddr),
		.id = (__force __be32)(__force u16)iph->id,
		.protocol = iph->protocol,
	};

	map_update(cp->ipvs->bpf, FRAGS, &key, &whole, BPF_ANY);
}

/* Sends without OUTPUT and POSTROUTING. */
unsigned int ip_vs_bpf_output(struct net *net, int af, struct sk_buff *skb, u32 hint)
{
	BUILD_BUG_ON(sizeof(struct inet_skb_parm) > 24);
	BUILD_BUG_ON(sizeof(struct inet6_skb_parm) > 24);
	BUILD_BUG_ON(offsetof(struct inet6_skb_parm, flags) != 16);
	BUILD_BUG_ON(sizeof(skb->cb) < 28);
	*(u32 *)&skb->cb[24] = hint;
	if (af == AF_INET6)
		IP6CB(skb)->flags |= IP6SKB_REROUTED;
	else
		IPCB(skb)->flags |= IPSKB_REROUTED;
	skb_forward_csum(skb);
	skb_clear_tstamp(skb);
	dst_output(net, NULL, skb);
	return NF_STOLEN;
}

/*
 * Softirq, under RCU: instead of ip_vs_nat_send_or_cont, for requests and for ICMP errors of the
 * client's side. Returns NF_STOLEN, or NF_ACCEPT if the real server is on this host.
 */
unsigned int ip_vs_bpf_send_request(struct sk_buff *skb, struct ip_vs_conn *cp, int local)
{
	skb->ipvs_property = 1;
	ip_vs_bpf_set_untracked(skb);
	skb_orphan(skb);
	if (unlikely(local)) {
		spin_lock_bh(&cp->lock);
		if (!(cp->bpf_service & BPF_SERVICE_LOCAL)) {
			cp->bpf_service |= BPF_SERVICE_LOCAL;
			atomic_inc(&cp->ipvs->bpf->local_conns);
		}
		spin_unlock_bh(&cp->lock);
		return NF_ACCEPT;
	}
	if (cp->af == AF_INET6 && READ_ONCE(cp->bpf_out_dst))
		ip_vs_bpf_expect_reply(cp);
	/* Or an ICMP error of the client's side. */
	if (likely(cp->protocol == (cp->af == AF_INET6 ? ipv6_hdr(skb)->nexthdr :
							 ip_hdr(skb)->protocol)))
		ip_vs_bpf_offer_path(cp->ipvs->bpf, cp, skb, IP_VS_DIR_INPUT);
	if (cp->af == AF_INET6)
		return ip_vs_bpf_send_request6(skb, cp);
	if (unlikely(!skb_is_gso(skb) &&
		     (IPCB(skb)->frag_max_size || skb->len > dst_mtu(skb_dst(skb)))))
		announce_fragments(skb, cp);
	return ip_vs_bpf_output(cp->ipvs->net, AF_INET, skb, IPVS_HINT_MAGIC | service_id_of(cp));
}
