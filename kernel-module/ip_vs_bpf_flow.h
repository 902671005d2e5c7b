/* SPDX-License-Identifier: GPL-2.0-only */
/* Finds the connection of a packet by its flow: inline, because it is done for each packet. */
#ifndef IP_VS_BPF_FLOW_H
#define IP_VS_BPF_FLOW_H

#include <linux/hash.h>

#include "ip_vs_bpf_internal.h"

/* What a packet is known by; the pointers are into its IP header. */
struct flow {
	const union nf_inet_addr *source;
	const union nf_inet_addr *dest;
	__be16 sport;
	__be16 dport;
	u8 protocol;
};

/* Of a packet with this source and these ports. */
static __always_inline u32 place_of(const struct ip_vs_bpf *bpf, u32 source, __be16 sport, __be16 dport)
{
	u32 ports = (__force u32)sport << 16 | (__force u16)dport;

	return hash_64((u64)source << 32 | ports, bpf->flow_bits);
}

static __always_inline u32 folded(int af, const union nf_inet_addr *addr)
{
	return af == AF_INET6 ? addr->ip6[0] ^ addr->ip6[1] ^ addr->ip6[2] ^ addr->ip6[3] : addr->ip;
}

static __always_inline bool is_request(const struct ip_vs_conn *cp, int af, const struct flow *flow)
{
	return cp->cport == flow->sport && cp->vport == flow->dport &&
	       ip_vs_addr_equal(af, &cp->caddr, flow->source) &&
	       ip_vs_addr_equal(af, &cp->vaddr, flow->dest);
}

static __always_inline bool is_reply(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp, int af,
				     const struct flow *flow, u64 word)
{
	const struct ipvs_snat_addr *snat;

	if (cp->dport != flow->sport || IPVS_SNAT_PORT(word) != flow->dport ||
	    !ip_vs_addr_equal(af, &cp->daddr, flow->source))
		return false;
	snat = ip_vs_bpf_snat_addr(bpf, IPVS_SNAT_ADDR_ID(word));
	if (!snat || snat->family != af)
		return false;
	return af == AF_INET6 ? !memcmp(&snat->addr, flow->dest, sizeof(snat->addr)) :
				    snat->addr.w[3] == flow->dest->ip;
}

/*
 * The element is the connection's as long as its SNAT word has the connection's cookie; what the caller reads of it after
 * this counts if the word is still the same then.
 */
static __always_inline struct ip_vs_conn *find(struct ip_vs_bpf *bpf, int af, const struct flow *flow, bool reply, u64 *word)
{
	u32 place = place_of(bpf, folded(af, flow->source), flow->sport, flow->dport);
	struct ip_vs_conn *cp = rcu_dereference(bpf->flows[place]);
	struct ipvs_session *session;

	if (!cp || cp->af != af || cp->protocol != flow->protocol)
		return NULL;
	session = READ_ONCE(cp->bpf_session);
	if (unlikely(!session))
		return NULL;
	*word = READ_ONCE(session->snat);
	if (IPVS_SNAT_COOKIE(*word) != READ_ONCE(cp->bpf_cookie))
		return NULL;
	return (reply ? is_reply(bpf, cp, af, flow, *word) : is_request(cp, af, flow)) ? cp : NULL;
}

#endif
