// SPDX-License-Identifier: GPL-2.0-only
/*
 * Flows: which connection a packet belongs to that tc ingress sees, most times without a look-up in a hash table. A cache:
 * a connection has one place for its requests and one for its replies, and whoever takes a place has it until another one
 * comes. Who is not found here is found in the maps.
 */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/log2.h>
#include <linux/mm.h>

#include "ip_vs_bpf_flow.h"

/* Sessions of which a map has room, for each flow: beyond that, few packets in a row are of the same connections. */
#define SESSIONS_A_FLOW 4

int ip_vs_bpf_alloc_flows(struct ip_vs_bpf *bpf)
{
	u32 count = roundup_pow_of_two(max_t(u32, bpf->map[SESSIONS]->max_entries / SESSIONS_A_FLOW, 2));

	bpf->flows = kvcalloc(count, sizeof(*bpf->flows), GFP_KERNEL);
	bpf->flow_bits = ilog2(count);
	return bpf->flows ? 0 : -ENOMEM;
}

void ip_vs_bpf_free_flows(struct ip_vs_bpf *bpf)
{
	kvfree(bpf->flows);
	bpf->flows = NULL;
}

static u32 place_of_requests(const struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp)
{
	return place_of(bpf, folded(cp->af, &cp->caddr), cp->cport, cp->vport);
}

static void take_place(struct ip_vs_bpf *bpf, u32 place, struct ip_vs_conn *cp)
{
	if (rcu_access_pointer(bpf->flows[place]) != cp)
		rcu_assign_pointer(bpf->flows[place], cp);
}

static void leave_place(struct ip_vs_bpf *bpf, u32 place, struct ip_vs_conn *cp)
{
	cmpxchg((struct ip_vs_conn **)&bpf->flows[place], cp, NULL);
}

void ip_vs_bpf_add_flows(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, const struct ipvs_session *session)
{
	u64 word = READ_ONCE(session->snat);
	u32 id = IPVS_SNAT_ADDR_ID(word);

	take_place(bpf, place_of_requests(bpf, cp), cp);
	if (id == IPVS_SNAT_UNDECIDED || id == IPVS_SNAT_NONE)
		return;
	cp->bpf_reply_flow = place_of(bpf, folded(cp->af, &cp->daddr), cp->dport, IPVS_SNAT_PORT(word));
	take_place(bpf, cp->bpf_reply_flow, cp);
}

void ip_vs_bpf_remove_flows(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp)
{
	leave_place(bpf, place_of_requests(bpf, cp), cp);
	leave_place(bpf, cp->bpf_reply_flow, cp);
}

/* What tc programs call a plain packet has this in place; they are not relied on. */
static __always_inline bool describe(const struct sk_buff *skb, int af, struct flow *flow)
{
	const u8 *head = skb_network_header(skb);
	u32 length = af == AF_INET6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __be16 *ports = (const __be16 *)(head + length);

	if (unlikely(head < skb->data || (const u8 *)(ports + 2) > skb_tail_pointer(skb)))
		return false;
	if (af == AF_INET6) {
		flow->source = (const union nf_inet_addr *)&((const struct ipv6hdr *)head)->saddr;
		flow->dest = (const union nf_inet_addr *)&((const struct ipv6hdr *)head)->daddr;
		flow->protocol = ((const struct ipv6hdr *)head)->nexthdr;
	} else {
		flow->source = (const union nf_inet_addr *)&((const struct iphdr *)head)->saddr;
		flow->dest = (const union nf_inet_addr *)&((const struct iphdr *)head)->daddr;
		flow->protocol = ((const struct iphdr *)head)->protocol;
	}
	flow->sport = ports[0];
	flow->dport = ports[1];
	return true;
}

/* A function of its own, because only here something on the stack has an address. */
noinline const struct ipvs_snat_addr *ip_vs_bpf_snat_addr(struct ip_vs_bpf *bpf, u32 id)
{
	return map_lookup(bpf, SNAT_ADDRS, &id);
}

static __always_inline struct ip_vs_conn *find_of(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb, bool reply,
						  u64 *word)
{
	struct flow flow;

	return describe(skb, af, &flow) ? find(bpf, af, &flow, reply, word) : NULL;
}

struct ip_vs_conn *ip_vs_bpf_find_flow(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb, bool reply,
				       u64 *word)
{
	return af == AF_INET6 ? find_of(bpf, AF_INET6, skb, reply, word) :
				find_of(bpf, AF_INET, skb, reply, word);
}

static __always_inline u64 *find_session(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb,
					 struct ipvs_found *found, bool reply)
{
	struct ip_vs_conn *cp = find_of(bpf, af, skb, reply, &found->snat);

	if (!cp)
		return NULL;
	found->key.caddr = addr_of(af, &cp->caddr);
	found->key.service_id = service_id_of(cp);
	found->key.cport = cp->cport;
	found->key.zero = 0;
	return (u64 *)READ_ONCE(cp->bpf_session);
}

__bpf_kfunc u64 *bpf_ip_vs_find(struct __sk_buff *ctx, struct ipvs_found *found, u32 reply, const u32 rdwr_buf_size)
{
	const struct sk_buff *skb = (struct sk_buff *)ctx;
	struct netns_ipvs *ipvs = net_ipvs(dev_net(skb->dev));

	if (unlikely(rdwr_buf_size > sizeof(struct ipvs_session) || !ipvs || !ipvs->bpf ||
		     !READ_ONCE(ipvs->bpf->hooked)))
		return NULL;
	return skb->protocol == htons(ETH_P_IPV6) ? find_session(ipvs->bpf, AF_INET6, skb, found, reply) :
						    find_session(ipvs->bpf, AF_INET, skb, found, reply);
}
