// SPDX-License-Identifier: GPL-2.0-only
/* Replies: translated by ip_vs_out_hook at PRE_ROUTING, and forwarded from there. */
#include <linux/icmp.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/version.h>
#include <net/checksum.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif
#include <net/icmp.h>
#include <net/ip.h>
#include <net/route.h>

#include "ip_vs_bpf_internal.h"

/* True if packets with this route would be forwarded, to one host. */
static bool is_forwarded(const struct sk_buff *skb)
{
	const struct rtable *rt = skb_rtable(skb);

	return rt->rt_type == RTN_UNICAST && !rt->dst.error &&
	       !(rt->rt_flags & (RTCF_LOCAL | RTCF_BROADCAST | RTCF_MULTICAST));
}

/* As if this host had sent the translated reply: see ip_vs_route_me_harder. */
static bool route_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct flowi4 fl4 = {
		.daddr = cp->caddr.ip,
		.saddr = cp->vaddr.ip,
		.flowi4_tos = RT_TOS(ip_hdr(skb)->tos),
		.flowi4_mark = skb->mark,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
	};
	struct rtable *rt = ip_route_output_key(cp->ipvs->net, &fl4);

	if (IS_ERR(rt))
		return false;
	skb_dst_drop(skb);
	skb_dst_set(skb, &rt->dst);
	return is_forwarded(skb);
}

static void rewrite_destination(struct sk_buff *skb, __be32 address, __be16 port)
{
	struct iphdr *iph = ip_hdr(skb);
	__be16 *dport = (__be16 *)((u8 *)iph + iph->ihl * 4) + 1;
	bool udp = iph->protocol == IPPROTO_UDP;
	__sum16 *check = udp ? &((struct udphdr *)(dport - 1))->check :
			       &((struct tcphdr *)(dport - 1))->check;

	if (!udp || *check || skb->ip_summed == CHECKSUM_PARTIAL) {
		inet_proto_csum_replace4(check, skb, iph->daddr, address, true);
		inet_proto_csum_replace2(check, skb, *dport, port, false);
		if (udp && !*check)
			*check = CSUM_MANGLED_0;
	}
	*dport = port;
	iph->daddr = address;
	ip_send_check(iph);
}

static bool make_l4_writable(struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	unsigned int l4 = iph->protocol == IPPROTO_UDP ? sizeof(struct udphdr) :
							 sizeof(struct tcphdr);

	return !skb_ensure_writable(skb, skb_network_offset(skb) + iph->ihl * 4 + l4);
}

/*
 * Tells the real server why its reply goes no further. What the error quotes must be what the
 * real server sent, so the destination that tc ingress put in is taken out again, in a copy.
 */
static void refuse_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			 int type, int code, __be32 info)
{
	struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC);
	__be32 address;
	__be16 port;

	if (!copy)
		return;
	if (!ip_vs_bpf_snat_end(bpf, cp, &address, &port))
		icmp_send(copy, type, code, info);
	else if (make_l4_writable(copy)) {
		rewrite_destination(copy, address, port);
		icmp_send(copy, type, code, info);
	}
	kfree_skb(copy);
}

static bool exceeds_mtu(const struct sk_buff *skb, unsigned int mtu)
{
	if (skb->len <= mtu || !(ip_hdr(skb)->frag_off & htons(IP_DF)) || skb->ignore_df)
		return false;
	return !skb_is_gso(skb) || !skb_gso_validate_network_len(skb, mtu);
}

/*
 * Replies of one real server by one interface have their source validated (rp_filter, martians)
 * and forwarding checked once, and again when a route or the interface's rp_filter has changed.
 */
static bool validate_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct in_device *in_dev = __in_dev_get_rcu(skb->dev);
	struct ip_vs_dest *dest = cp->dest;
	int rp_filter = in_dev ? IN_DEV_RPFILTER(in_dev) : 0;
	int genid = rt_genid_ipv4(cp->ipvs->net);

	if (likely(dest && cp->ipvs->sysctl_snat_reroute && dest->bpf_genid == genid &&
		   dest->bpf_ifindex == skb->dev->ifindex && dest->bpf_rp_filter == rp_filter))
		return true;
	/* Not for another host: LOCAL_IN translates it, or the stack drops it. */
	if (!ip_vs_bpf_route_input(skb) || !is_forwarded(skb))
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

/* What ip_forward does, in its order. */
static bool forward_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct net *net = cp->ipvs->net;
	unsigned int mtu;

	if (unlikely(ip_hdr(skb)->ttl <= 1)) {
		IP_INC_STATS(net, IPSTATS_MIB_INHDRERRORS);
		refuse_reply(bpf, cp, skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
		return false;
	}
	mtu = ip_dst_mtu_maybe_forward(skb_dst(skb), true);
	if (unlikely(exceeds_mtu(skb, mtu))) {
		IP_INC_STATS(net, IPSTATS_MIB_FRAGFAILS);
		refuse_reply(bpf, cp, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, htonl(mtu));
		return false;
	}
	if (skb_ensure_writable(skb, skb_network_offset(skb) + sizeof(struct iphdr)))
		return false;
	ip_decrease_ttl(ip_hdr(skb));
	return true;
}

bool ip_vs_bpf_take_reply(struct ip_vs_conn *cp, struct sk_buff *skb,
			  const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);

	if (!cp || !ip_vs_bpf_conn(cp))
		goto leave;
	packet->taken = true;
	ip_vs_bpf_set_untracked(skb);
	if (unlikely(ip_vs_bpf_needs_native_path(state->net, skb)))
		goto leave;
	if (unlikely(!ip_vs_bpf_use_dst(skb, cp->bpf_out_dst, cp->bpf_out_ifindex))) {
		if (!validate_reply(cp, skb))
			goto leave;
		if (cp->ipvs->sysctl_snat_reroute && !route_reply(cp, skb))
			goto leave;
		if (likely(!skb->mark))
			ip_vs_bpf_remember_dst(cp, skb, &cp->bpf_out_dst, &cp->bpf_out_ifindex);
	}
	if (likely(forward_reply(packet->bpf, cp, skb)))
		return true;
	packet->verdict = NF_DROP;
leave:
	if (cp)
		__ip_vs_conn_put(cp);
	return false;
}

/* The session whose SNAT end a TCP or UDP packet is sent to, by a real server of it. */
static const struct ipvs_session_key *session_of_reply(struct ip_vs_bpf *bpf,
						       const struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct ipvs_addr address = addr4(iph->daddr);
	struct ipvs_reply_key key = { .daddr = addr4(iph->saddr), .protocol = iph->protocol };
	u32 *id = map_lookup(bpf, SNAT_IDS, &address);
	__be16 _ports[2], *ports;

	if (!id)
		return NULL;
	ports = skb_header_pointer(skb, skb_network_offset(skb) + iph->ihl * 4, sizeof(_ports),
				   _ports);
	if (!ports)
		return NULL;
	key.dport = ports[0];
	key.snat_port = ports[1];
	key.snat_addr_id = *id;
	return map_lookup(bpf, REPLIES, &key);
}

bool ip_vs_bpf_is_to_snat_end(struct ip_vs_bpf *bpf, const struct sk_buff *skb)
{
	return session_of_reply(bpf, skb);
}

/* tc ingress leaves fragmented replies alone; here they are whole again. */
void ip_vs_bpf_reverse_reassembled(struct ip_vs_bpf *bpf, struct sk_buff *skb)
{
	const struct ipvs_session_key *session = session_of_reply(bpf, skb);

	if (!session || !make_l4_writable(skb))
		return;
	rewrite_destination(skb, session->caddr.w[3], session->cport);
	count(bpf, IPVS_COUNT_REPLY_REASSEMBLED);
}

/* Softirq, under RCU: the reply has the virtual server's address now, and its route. */
unsigned int ip_vs_bpf_send_reply(struct sk_buff *skb)
{
	struct net *net = dev_net(skb->dev);

	ip_vs_bpf_set_untracked(skb);
	IPCB(skb)->flags |= IPSKB_FORWARDED;
	if (READ_ONCE(net->ipv4.sysctl_ip_fwd_update_priority))
		skb->priority = rt_tos2priority(ip_hdr(skb)->tos);
	IP_INC_STATS(net, IPSTATS_MIB_OUTFORWDATAGRAMS);
	return ip_vs_bpf_output(net, skb, IPVS_HINT_REPLY);
}
