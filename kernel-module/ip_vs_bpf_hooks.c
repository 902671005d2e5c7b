// SPDX-License-Identifier: GPL-2.0-only
/*
 * PRE_ROUTING and LOCAL_OUT: which packets may be ours, and through which of the hook functions of
 * IPVS they run. POST_ROUTING: what must not look like ours.
 *
 * With bridge-nf-call-iptables a packet passes PRE_ROUTING inside the bridge, and ip_sabotage_in
 * spares it the IP layer's. Of our packets, the bridge's is only kept from conntrack; they are
 * taken at the IP layer's, when the bridge and tc ingress of its device have done their part.
 */
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <net/dst_metadata.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>

#include "ip_vs_bpf_internal.h"

static nf_hookfn *shared_in_hook;
static nf_hookfn *shared_out_hook;

void ip_vs_bpf_init(nf_hookfn *in_hook, nf_hookfn *out_hook)
{
	shared_in_hook = in_hook;
	shared_out_hook = out_hook;
	ip_vs_bpf_register_kfuncs();
}

/* True if the datagram is whole now; otherwise the fragment is kept or freed. */
static bool reassemble(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb)
{
	if (af == AF_INET6)
		return ip_vs_bpf_reassemble6(bpf, skb);
	if (ip_defrag(bpf->ipvs->net, skb, IP_DEFRAG_VS_OUT))
		return false;
	ip_send_check(ip_hdr(skb));
	skb_set_transport_header(skb, skb_network_offset(skb) + ip_hdr(skb)->ihl * 4);
	return true;
}

/* Runs a shared hook function; a packet that it does not take is as it was before. */
static unsigned int run_hook(nf_hookfn *hook, struct ip_vs_bpf_packet *packet,
			     struct sk_buff *skb)
{
	unsigned int verdict = hook(NULL, skb, &packet->state);

	ip_vs_bpf_end_scheduling(packet);
	if (verdict != NF_ACCEPT)
		return verdict;
	/* The stack routes it again, by the address that it has now. */
	skb_dst_drop(skb);
	return packet->verdict;
}

/* tc ingress marks the replies that it has translated: they need no look-up as requests. */
static bool is_marked_reply(struct sk_buff *skb)
{
	u32 *hint = (u32 *)&skb->cb[24];
	bool marked = (*hint & IPVS_HINT_MASK) == IPVS_HINT_MAGIC;

	*hint = 0;
	return marked;
}

static unsigned int take_transport(struct ip_vs_bpf_packet *packet, struct sk_buff *skb,
				   bool fragment)
{
	bool reply_first = is_marked_reply(skb);
	unsigned int verdict;

	if (unlikely(fragment)) {
		if (!reassemble(packet->bpf, packet->state.pf, skb))
			return NF_STOLEN;
		ip_vs_bpf_reverse_reassembled(packet->bpf, packet->state.pf, skb);
	}
	verdict = run_hook(reply_first ? shared_out_hook : shared_in_hook, packet, skb);
	if (packet->taken || verdict != NF_ACCEPT)
		return verdict;
	return run_hook(reply_first ? shared_in_hook : shared_out_hook, packet, skb);
}

/* ICMP errors that quote a packet behind 8 bytes. */
static bool is_icmp_error(int af, u8 type)
{
	if (af == AF_INET6)
		return !(type & ICMPV6_INFOMSG_MASK);
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED;
}

/* The packet that an ICMP error quotes, if its ports are there. */
static __be16 *find_quote(int af, const struct sk_buff *skb, struct ip_vs_iphdr *quoted,
			  __be16 *_ports)
{
	struct ip_vs_iphdr iph;
	struct iphdr _ip4, *ip4;
	u8 _type, *type;

	if (!ip_vs_fill_iph_skb(af, skb, false, &iph))
		return NULL;
	type = skb_header_pointer(skb, iph.len, sizeof(_type), &_type);
	if (!type || !is_icmp_error(af, *type) ||
	    !ip_vs_fill_iph_skb_icmp(af, skb, iph.len + sizeof(struct icmphdr), true, quoted))
		return NULL;
	if (af == AF_INET) {
		ip4 = skb_header_pointer(skb, quoted->off, sizeof(_ip4), &_ip4);
		if (!ip4 || ip4->ihl < 5 || ip4->frag_off & htons(IP_OFFSET))
			return NULL;
	}
	if (quoted->fragoffs || !has_ports(quoted->protocol))
		return NULL;
	return skb_header_pointer(skb, quoted->len, 2 * sizeof(*_ports), _ports);
}

/*
 * The connection that an ICMP error is about. Its quoted packet has both ends the other way
 * round, and so the same parameters fit the look-up of either direction.
 */
static struct ip_vs_conn *find_quoted(struct netns_ipvs *ipvs, int af, struct sk_buff *skb,
				      nf_hookfn **hook)
{
	struct ip_vs_conn_param param;
	struct ip_vs_iphdr quoted;
	struct ip_vs_conn *cp;
	__be16 _ports[2], *ports = find_quote(af, skb, &quoted, _ports);

	if (!ports)
		return NULL;
	ip_vs_conn_fill_param(ipvs, af, quoted.protocol, &quoted.daddr, ports[1], &quoted.saddr,
			      ports[0], &param);
	*hook = shared_in_hook;
	cp = ip_vs_conn_in_get(&param);
	if (cp)
		return cp;
	*hook = shared_out_hook;
	return ip_vs_conn_out_get(&param);
}

/* Drops the reference. */
static bool put_accelerated(struct ip_vs_conn *cp)
{
	bool accelerated = ip_vs_bpf_conn(cp);

	__ip_vs_conn_put(cp);
	return accelerated;
}

/* Of an error only ip_vs asks for a route; see ip_vs_bpf_set_any_route6. */
static bool route_icmp(int af, struct sk_buff *skb)
{
	if (af != AF_INET6)
		return ip_vs_bpf_route_input(AF_INET, skb);
	ip_vs_bpf_set_any_route6(skb);
	return true;
}

static unsigned int take_icmp(struct ip_vs_bpf_packet *packet, struct sk_buff *skb, bool fragment)
{
	int af = packet->state.pf;
	struct ip_vs_conn *cp;
	nf_hookfn *hook;
	unsigned int verdict;

	if (!atomic_read(&packet->bpf->conns) || fragment)
		return NF_ACCEPT;
	cp = find_quoted(packet->bpf->ipvs, af, skb, &hook);
	if (!cp)
		return NF_ACCEPT;
	if (!put_accelerated(cp))
		return NF_ACCEPT;
	ip_vs_bpf_set_untracked(skb);
	if (ip_vs_bpf_needs_native_path(af, packet->state.net, skb) || !route_icmp(af, skb))
		return NF_ACCEPT;
	/* An error for the client keeps its route: with its new source it would be a martian. */
	verdict = hook(NULL, skb, &packet->state);
	if (verdict == NF_ACCEPT &&
	    (af == AF_INET6 || hook == shared_in_hook || !skb->ipvs_property))
		skb_dst_drop(skb);
	if (verdict == NF_ACCEPT)
		ip_vs_bpf_set_untracked(skb);
	return verdict;
}

/* For the look-up of the connection of a packet with ports, as request and as reply. */
static bool fill_param(struct netns_ipvs *ipvs, int af, const struct sk_buff *skb,
		       struct ip_vs_conn_param *param, struct ip_vs_iphdr *iph)
{
	__be16 _ports[2], *ports;

	if (!ip_vs_fill_iph_skb(af, skb, false, iph) || iph->fragoffs)
		return false;
	ports = skb_header_pointer(skb, iph->len, sizeof(_ports), _ports);
	if (!ports)
		return false;
	ip_vs_conn_fill_param(ipvs, af, iph->protocol, &iph->saddr, ports[0], &iph->daddr,
			      ports[1], param);
	return true;
}

static bool is_accelerated_reply(const struct ip_vs_conn_param *param)
{
	struct ip_vs_conn *cp = ip_vs_conn_out_get(param);

	return cp && put_accelerated(cp);
}

/* Whether PRE_ROUTING of the IP layer is likely to take this packet. */
static bool is_for_ip_layer(struct ip_vs_bpf *bpf, const struct sk_buff *skb,
			    const struct ip_vs_conn_param *param)
{
	struct ip_vs_conn *cp = ip_vs_conn_in_get(param);

	if (cp)
		return put_accelerated(cp);
	return (READ_ONCE(bpf->on) && ip_vs_bpf_find_service(bpf, param->af, skb)) ||
	       is_accelerated_reply(param) || ip_vs_bpf_is_to_snat_end(bpf, param->af, skb);
}

/*
 * PRE_ROUTING inside a bridge. A reply of one of its ports to another is translated at FORWARD. It
 * is no packet for the bridge itself, though br_netfilter makes it look like one here.
 */
static unsigned int leave_to_ip_layer(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb,
				      bool fragment)
{
	bool bridged = nf_bridge_info_get(skb)->pkt_otherhost;
	struct ip_vs_conn_param param;
	struct ip_vs_iphdr iph;

	if (!READ_ONCE(bpf->on) && !atomic_read(&bpf->conns))
		return NF_ACCEPT;
	if (unlikely(fragment)) {
		if (bridged)
			return NF_ACCEPT;
		if (!reassemble(bpf, af, skb))
			return NF_STOLEN;
	}
	if (!fill_param(bpf->ipvs, af, skb, &param, &iph))
		return NF_ACCEPT;
	if (bridged) {
		if (is_accelerated_reply(&param))
			ip_vs_bpf_set_untracked(skb);
	} else if (is_for_ip_layer(bpf, skb, &param)) {
		ip_vs_bpf_set_untracked(skb);
		nf_bridge_info_get(skb)->sabotage_in_done = 1;
	}
	return NF_ACCEPT;
}

/* Undoes what keeps a packet from conntrack inside the bridge: what is ours is marked again. */
static void give_to_conntrack(struct sk_buff *skb)
{
	enum ip_conntrack_info ctinfo;

	nf_ct_get(skb, &ctinfo);
	if (ctinfo == IP_CT_UNTRACKED)
		nf_reset_ct(skb);
}

static __always_inline unsigned int pre_routing(int af, struct sk_buff *skb,
						const struct nf_hook_state *state, int protocol,
						bool fragment)
{
	struct netns_ipvs *ipvs = net_ipvs(state->net);
	struct ip_vs_bpf_packet packet;
	bool by_bridge = nf_bridge_info_exists(skb);

	if (skb->ipvs_property || skb->pkt_type != PACKET_HOST || skb_valid_dst(skb))
		return NF_ACCEPT;
	packet = (struct ip_vs_bpf_packet){
		.state = *state, .bpf = ipvs->bpf, .verdict = NF_ACCEPT,
	};
	if (likely(has_ports(protocol))) {
		if (nf_bridge_in_prerouting(skb))
			return leave_to_ip_layer(ipvs->bpf, af, skb, fragment);
		if (by_bridge)
			give_to_conntrack(skb);
		return take_transport(&packet, skb, fragment);
	}
	if (protocol == (af == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) && !by_bridge)
		return take_icmp(&packet, skb, fragment);
	return NF_ACCEPT;
}

static unsigned int pre_routing_hook(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	return pre_routing(AF_INET, skb, state, ip_hdr(skb)->protocol, ip_is_fragment(ip_hdr(skb)));
}

static unsigned int pre_routing_hook6(void *priv, struct sk_buff *skb,
				      const struct nf_hook_state *state)
{
	struct netns_ipvs *ipvs = net_ipvs(state->net);
	struct ip_vs_bpf_transport transport;

	/* Nobody else may want the fragments of this host put together. */
	if (!READ_ONCE(ipvs->num_services6) && !atomic_read(&ipvs->bpf->ipv6_conns))
		return NF_ACCEPT;
	transport = ip_vs_bpf_find_transport6(skb);
	return pre_routing(AF_INET6, skb, state, transport.protocol, transport.fragment);
}

/* Keeps conntrack from replies of real servers on this host; ip_vs_out_hook translates them. */
static __always_inline unsigned int local_out(int af, struct sk_buff *skb,
					      const struct nf_hook_state *state)
{
	struct netns_ipvs *ipvs = net_ipvs(state->net);
	struct ip_vs_conn_param param;
	struct ip_vs_iphdr iph;

	if (likely(!atomic_read(&ipvs->bpf->local_conns)) || skb->ipvs_property)
		return NF_ACCEPT;
	if (!fill_param(ipvs, af, skb, &param, &iph) || !has_ports(iph.protocol))
		return NF_ACCEPT;
	if (is_accelerated_reply(&param))
		ip_vs_bpf_set_untracked(skb);
	return NF_ACCEPT;
}

static unsigned int local_out_hook(void *priv, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	return local_out(AF_INET, skb, state);
}

static unsigned int local_out_hook6(void *priv, struct sk_buff *skb,
				    const struct nf_hook_state *state)
{
	return local_out(AF_INET6, skb, state);
}

#define HOOK(function, family, number, at)             \
	{                                              \
		.hook = function, .pf = family,        \
		.hooknum = number, .priority = at,     \
	}
#define BEFORE_DEFRAG (NF_IP_PRI_CONNTRACK_DEFRAG - 1)
#define BEFORE_DEFRAG6 (NF_IP6_PRI_CONNTRACK_DEFRAG - 1)

const struct nf_hook_ops ip_vs_bpf_hook_ops[IP_VS_BPF_HOOKS] = {
	HOOK(pre_routing_hook, NFPROTO_IPV4, NF_INET_PRE_ROUTING, BEFORE_DEFRAG),
	HOOK(local_out_hook, NFPROTO_IPV4, NF_INET_LOCAL_OUT, BEFORE_DEFRAG),
	HOOK(pre_routing_hook6, NFPROTO_IPV6, NF_INET_PRE_ROUTING, BEFORE_DEFRAG6),
	HOOK(local_out_hook6, NFPROTO_IPV6, NF_INET_LOCAL_OUT, BEFORE_DEFRAG6),
	HOOK(ip_vs_bpf_post_routing, NFPROTO_IPV4, NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC + 1),
	HOOK(ip_vs_bpf_post_routing, NFPROTO_IPV6, NF_INET_POST_ROUTING, NF_IP6_PRI_NAT_SRC + 1),
};
