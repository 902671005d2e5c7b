// SPDX-License-Identifier: GPL-2.0-only
/*
 * Native connections beside sessions. Whoever masquerades looks for a source port that conntrack knows nobody to have,
 * and it knows nothing of sessions. Between the choice and its confirmation, at the end of POST_ROUTING, it can be
 * changed: conntrack translates by the tuple of the replies, as nf_nat_setup_info leaves it.
 */
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_core.h>

#include "ip_vs_bpf_internal.h"

/* The ports that nf_nat_l4proto_unique_tuple chooses from for one that is none of a privileged process. */
#define FIRST_PORT 1024
#define PORTS (65536 - FIRST_PORT)
/* As that function does at most. */
#define TRIES 128
/*
 * From one try to the next: PORTS divided by the golden ratio, and without a divisor of it. Sessions may have all ports of a
 * range, from where one port after the other would not get out.
 */
#define STRIDE 39869

/* Whether replies like this one would be taken for a session's. */
static bool is_snat_end(struct ip_vs_bpf *bpf, int af, const struct nf_conntrack_tuple *reply)
{
	struct ipvs_addr address = addr_of(af, &reply->dst.u3);
	struct ipvs_reply_key key = {
		.daddr = addr_of(af, &reply->src.u3),
		.dport = reply->src.u.all,
		.snat_port = reply->dst.u.all,
		.protocol = reply->dst.protonum,
	};
	u32 *id = map_lookup(bpf, SNAT_IDS, &address);

	if (!id)
		return false;
	key.snat_addr_id = *id;
	return map_lookup(bpf, REPLIES, &key);
}

/* Puts a port that neither a session nor conntrack has into the tuple. */
static bool choose_port(struct ip_vs_bpf *bpf, int af, const struct nf_conn *ct,
			struct nf_conntrack_tuple *reply)
{
	u32 index = get_random_u32() % PORTS;
	int i;

	for (i = 0; i < TRIES; i++, index = (index + STRIDE) % PORTS) {
		reply->dst.u.all = htons(FIRST_PORT + index);
		if (!is_snat_end(bpf, af, reply) && !nf_conntrack_tuple_taken(reply, ct))
			return true;
	}
	return false;
}

static unsigned int leave(struct ip_vs_bpf *bpf, int af, struct nf_conn *ct, struct sk_buff *skb)
{
	struct nf_conntrack_tuple reply = ct->tuplehash[IP_CT_DIR_REPLY].tuple;
	struct ip_vs_iphdr iph;

	if (!choose_port(bpf, af, ct, &reply))
		return NF_ACCEPT;
	if (!ip_vs_fill_iph_skb(af, skb, false, &iph) ||
	    !ip_vs_bpf_make_l4_writable(skb, iph.len, iph.protocol))
		return NF_DROP;
	nf_conntrack_alter_reply(ct, &reply);
	/* One that had its own port until now is not translated otherwise. */
	ct->status |= IPS_SRC_NAT;
	ip_vs_bpf_write_port(skb, iph.len, iph.protocol, IP_VS_BPF_SOURCE_PORT, reply.dst.u.all);
	count(bpf, IPVS_COUNT_NATIVE_MOVED);
	return NF_ACCEPT;
}

unsigned int ip_vs_bpf_post_routing(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	struct ip_vs_bpf *bpf = net_ipvs(state->net)->bpf;
	enum ip_conntrack_info ctinfo;
	struct nf_conn *ct = nf_ct_get(skb, &ctinfo);
	unsigned int verdict = NF_ACCEPT;

	/* Only who has the only reference may change it; without nf_nat nobody would translate. */
	if (likely(!ct || ctinfo != IP_CT_NEW || nf_ct_is_confirmed(ct)) ||
	    !(ct->status & IPS_SRC_NAT_DONE) || !has_ports(nf_ct_protonum(ct)) ||
	    refcount_read(&ct->ct_general.use) != 1)
		return NF_ACCEPT;
	local_bh_disable();
	if (unlikely(is_snat_end(bpf, state->pf, &ct->tuplehash[IP_CT_DIR_REPLY].tuple)))
		verdict = leave(bpf, state->pf, ct, skb);
	local_bh_enable();
	return verdict;
}
