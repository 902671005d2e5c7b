// SPDX-License-Identifier: GPL-2.0-only
/* Replies: translated by ip_vs_out_hook at PRE_ROUTING, and forwarded from there. */
#include <linux/icmp.h>
#include <linux/ip.h>
#include <linux/version.h>
#include <net/checksum.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif
#include <net/icmp.h>
#include <net/ip.h>
#include <net/ip6_fib.h>
#include <net/route.h>

#include "ip_vs_bpf_internal.h"

/* The checksum of a TCP or UDP packet follows its new destination address. */
static void follow_address(int af, struct sk_buff *skb, __sum16 *check, const struct ipvs_addr *address)
{
	/* Of IPv6 such a sum has the header in it: it would have to stay as it is. */
	if (af == AF_INET6 && skb->ip_summed == CHECKSUM_COMPLETE)
		skb->ip_summed = CHECKSUM_NONE;
	if (af == AF_INET6)
		inet_proto_csum_replace16(check, skb, ipv6_hdr(skb)->daddr.s6_addr32, address->w,
					  true);
	else
		inet_proto_csum_replace4(check, skb, ip_hdr(skb)->daddr, address->w[3], true);
	/* The same sum: 0 would say that a UDP packet has none, before its port is written. */
	if (!*check)
		*check = CSUM_MANGLED_0;
}

/* Puts another end into a packet whose transport header is at `l4` and writable. */
static void rewrite_destination(int af, struct sk_buff *skb, unsigned int l4, u8 protocol,
				const struct ipvs_addr *address, __be16 port)
{
	__sum16 *check = ip_vs_bpf_l4_check(skb, l4, protocol);

	if (check)
		follow_address(af, skb, check, address);
	ip_vs_bpf_write_port(skb, l4, protocol, IP_VS_BPF_DEST_PORT, port);
	if (af == AF_INET6) {
		memcpy(&ipv6_hdr(skb)->daddr, address, sizeof(*address));
	} else {
		ip_hdr(skb)->daddr = address->w[3];
		ip_send_check(ip_hdr(skb));
	}
}

static void send_error(int af, struct sk_buff *skb, int type, int code, u32 info)
{
	if (af == AF_INET6)
		icmpv6_send(skb, type, code, info);
	else
		icmp_send(skb, type, code, htonl(info));
}

/*
 * What the error quotes must be what the real server sent, so the destination that tc ingress put in
 * is taken out again, in a copy.
 */
void ip_vs_bpf_refuse_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			    int type, int code, u32 info)
{
	struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC);
	struct ip_vs_iphdr iph;
	struct ipvs_addr address;
	__be16 port;

	if (!copy)
		return;
	if (!ip_vs_bpf_snat_end(bpf, cp, &address, &port)) {
		send_error(cp->af, copy, type, code, info);
	} else if (ip_vs_fill_iph_skb(cp->af, copy, false, &iph) &&
		   ip_vs_bpf_make_l4_writable(copy, iph.len, iph.protocol)) {
		rewrite_destination(cp->af, copy, iph.len, iph.protocol, &address, port);
		send_error(cp->af, copy, type, code, info);
	}
	kfree_skb(copy);
}

static bool exceeds_mtu(const struct sk_buff *skb, unsigned int mtu)
{
	if (skb->len <= mtu || !(ip_hdr(skb)->frag_off & htons(IP_DF)) || skb->ignore_df)
		return false;
	return !skb_is_gso(skb) || !skb_gso_validate_network_len(skb, mtu);
}

/* What ip_forward does, in its order. */
static bool forward_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct net *net = cp->ipvs->net;
	unsigned int mtu;

	if (unlikely(ip_hdr(skb)->ttl <= 1)) {
		IP_INC_STATS(net, IPSTATS_MIB_INHDRERRORS);
		ip_vs_bpf_refuse_reply(bpf, cp, skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
		return false;
	}
	mtu = ip_dst_mtu_maybe_forward(skb_dst(skb), true);
	if (unlikely(exceeds_mtu(skb, mtu))) {
		IP_INC_STATS(net, IPSTATS_MIB_FRAGFAILS);
		ip_vs_bpf_refuse_reply(bpf, cp, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu);
		return false;
	}
	if (skb_ensure_writable(skb, skb_network_offset(skb) + sizeof(struct iphdr)))
		return false;
	ip_decrease_ttl(ip_hdr(skb));
	return true;
}

static bool find_route(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	return cp->af == AF_INET6 ? ip_vs_bpf_route_reply6(cp, skb) : ip_vs_bpf_route_reply4(cp, skb);
}

static bool forward(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	return cp->af == AF_INET6 ? ip_vs_bpf_forward_reply6(bpf, cp, skb) :
				    forward_reply(bpf, cp, skb);
}

static void remember_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	ip_vs_bpf_remember_dst(cp, skb, &cp->bpf_out_dst, &cp->bpf_out_ifindex);
	/* Of IPv4, validate_reply has done it. */
	if (cp->af == AF_INET6 && cp->dest)
		WRITE_ONCE(cp->dest->bpf_ifindex, skb->dev->ifindex);
}

bool ip_vs_bpf_take_reply(struct ip_vs_conn *cp, struct sk_buff *skb,
			  const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);

	if (!cp || !ip_vs_bpf_conn(cp))
		goto leave;
	packet->taken = true;
	ip_vs_bpf_set_untracked(skb);
	if (unlikely(ip_vs_bpf_needs_native_path(cp->af, state->net, skb)))
		goto leave;
	if (unlikely(ip_vs_bpf_begins_multihomed(cp, skb))) {
		/* What the client begins anew would meet the same again. */
		if (cp->dest)
			WRITE_ONCE(cp->dest->bpf_multihomed, 1);
		ip_vs_bpf_refuse_multihomed(packet, cp);
		goto leave;
	}
	if (unlikely(!ip_vs_bpf_use_dst(skb, ip_vs_bpf_remembered_reply_dst(cp),
					cp->bpf_out_ifindex, cp->bpf_out_cookie))) {
		if (!find_route(cp, skb))
			goto leave;
		if (likely(!skb->mark))
			remember_reply(cp, skb);
	}
	if (likely(forward(packet->bpf, cp, skb))) {
		ip_vs_bpf_offer_path(packet->bpf, cp, skb, IP_VS_DIR_OUTPUT);
		return true;
	}
	packet->verdict = NF_DROP;
leave:
	if (cp)
		__ip_vs_conn_put(cp);
	return false;
}

/* The session whose SNAT end a packet with ports is sent to, by a real server of it. */
static const struct ipvs_session_key *session_of_reply(struct ip_vs_bpf *bpf, int af,
						       const struct sk_buff *skb,
						       struct ip_vs_iphdr *iph)
{
	struct ipvs_reply_key key = {};
	struct ipvs_addr address;
	__be16 _ports[2], *ports;
	u32 *id;

	if (!ip_vs_fill_iph_skb(af, skb, false, iph))
		return NULL;
	address = addr_of(af, &iph->daddr);
	id = map_lookup(bpf, SNAT_IDS, &address);
	if (!id)
		return NULL;
	ports = skb_header_pointer(skb, iph->len, sizeof(_ports), _ports);
	if (!ports)
		return NULL;
	key.daddr = addr_of(af, &iph->saddr);
	key.protocol = iph->protocol;
	key.dport = ports[0];
	key.snat_port = ports[1];
	key.snat_addr_id = *id;
	return map_lookup(bpf, REPLIES, &key);
}

bool ip_vs_bpf_is_to_snat_end(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb)
{
	struct ip_vs_iphdr iph;

	return session_of_reply(bpf, af, skb, &iph);
}

/* tc ingress leaves fragmented replies alone; here they are whole again. */
void ip_vs_bpf_reverse_reassembled(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb)
{
	struct ip_vs_iphdr iph;
	const struct ipvs_session_key *session = session_of_reply(bpf, af, skb, &iph);

	if (!session || !ip_vs_bpf_make_l4_writable(skb, iph.len, iph.protocol))
		return;
	rewrite_destination(af, skb, iph.len, iph.protocol, &session->caddr, session->cport);
	count(bpf, IPVS_COUNT_REPLY_REASSEMBLED);
}

static void count_forwarded6(struct net *net, struct sk_buff *skb)
{
	IP6CB(skb)->flags |= IP6SKB_FORWARDED;
	IP6_INC_STATS(net, ip6_dst_idev(skb_dst(skb)), IPSTATS_MIB_OUTFORWDATAGRAMS);
}

static void count_forwarded4(struct net *net, struct sk_buff *skb)
{
	IPCB(skb)->flags |= IPSKB_FORWARDED;
	if (READ_ONCE(net->ipv4.sysctl_ip_fwd_update_priority))
		skb->priority = rt_tos2priority(ip_hdr(skb)->tos);
	IP_INC_STATS(net, IPSTATS_MIB_OUTFORWDATAGRAMS);
}

/* Softirq, under RCU: the reply has the virtual server's address now, and its route. */
unsigned int ip_vs_bpf_send_reply(int af, struct sk_buff *skb)
{
	struct net *net = dev_net(skb->dev);

	ip_vs_bpf_set_untracked(skb);
	if (af == AF_INET6)
		count_forwarded6(net, skb);
	else
		count_forwarded4(net, skb);
	return ip_vs_bpf_output(net, af, skb, IPVS_HINT_REPLY);
}
