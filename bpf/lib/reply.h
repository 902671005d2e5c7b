/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The reverse of SNAT at tc ingress, for replies and ICMP errors that the module forwards. */
#ifndef IPVS_BPF_LIB_REPLY_H
#define IPVS_BPF_LIB_REPLY_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/nat.h"
#include "lib/nat_error.h"
#include "lib/packet.h"
#include "lib/parse.h"
#include "lib/session.h"
#include "lib/snat.h"
#include "lib/stats.h"

/* A packet from a real server, and the SNAT end that it was sent to. */
struct reply {
	struct packet packet;
	struct packet quote;
	struct ipvs_reply_key key;
	bool is_error;
};

static __always_inline bool identify_reply(__u8 family, struct reply *r)
{
	if (!is_snat_port(r->packet.head.l4.dport))
		return false;
	r->key = reply_key_of(family, &r->packet);
	return true;
}

/* The quote is a request as the real server, or a router before it, has seen it. */
static __always_inline bool identify_reply_error(struct __sk_buff *skb, __u8 family,
						 struct reply *r)
{
	const struct packet *quote = &r->quote;

	if (!is_icmp_error(family, &r->packet) ||
	    parse_quote(skb, family, &r->packet, &r->quote) != PARSE_OK ||
	    !quote_is_from_destination(family, quote, &r->packet))
		return false;
	if (!has_ports(quote) || !is_snat_port(quote->head.l4.sport))
		return false;
	r->is_error = true;
	r->key = (struct ipvs_reply_key){
		.dport = quote->head.l4.dport,
		.snat_port = quote->head.l4.sport,
		.protocol = quote->protocol,
	};
	destination_of(family, quote, &r->key.daddr);
	return true;
}

/* Whom a packet may be for, as far as its port tells. */
enum addressee {
	TO_SNAT_END, /* or there is no telling yet */
	TO_VIRTUAL_SERVER,
	TO_OTHERS,
};

/* Before anything is copied, because most packets are none of ours. */
static __always_inline enum addressee addressee_of(struct __sk_buff *skb, __u8 family)
{
	const struct heads *head = behind_ethernet(skb, family);
	__u8 protocol;

	if (!head)
		return TO_SNAT_END;
	protocol = family == AF_INET6 ? head->ip6.nexthdr : head->ip.protocol;
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP) ||
	    is_snat_port(head->l4.dport))
		return TO_SNAT_END;
	return is_vport(head->l4.dport) ? TO_VIRTUAL_SERVER : TO_OTHERS;
}

/* Fragments are left to the module, which has the whole datagram. */
static __always_inline struct ipvs_session *find_reply(struct __sk_buff *skb, __u8 family,
						       struct reply *r,
						       struct ipvs_session_key *key)
{
	const struct packet *p = &r->packet;
	struct ipvs_addr daddr;
	bool identified = false;
	__u16 id;

	if (parse_packet(skb, family, 0, skb->len, &r->packet) != PARSE_OK || p->frag || !p->l4_len)
		return NULL;
	if (has_ports(p))
		identified = identify_reply(family, r);
	else if (is_icmp(family, p))
		identified = identify_reply_error(skb, family, r);
	if (!identified)
		return NULL;
	destination_of(family, p, &daddr);
	id = find_address(skb, &daddr);
	if (!id)
		return NULL;
	r->key.snat_addr_id = id;
	return session_of_reply(&r->key, key);
}

static __always_inline int translate_reply(struct __sk_buff *skb, __u8 family)
{
	struct ipvs_session_key key;
	struct ipvs_session *session;
	struct reply r;
	struct nat nat;
	int result;

	r.is_error = false;
	session = find_reply(skb, family, &r, &key);
	/* An IPv6 packet may have IPv4 addresses that are mapped into its own. */
	if (!session || session->family != family)
		return IPVS_NOT_MINE;
	session_touch(session);
	skb->cb[4] = IPVS_HINT_MAGIC | key.service_id;
	nat.addr = key.caddr;
	nat.port = key.cport;
	if (r.is_error) {
		result = nat_icmp_error(skb, family, &r.packet, &r.quote, NAT_DEST, &nat);
		return result ? result : ipvs_done(IPVS_COUNT_ICMP_INGRESS);
	}
	if (!has_whole_l4_head(&r.packet))
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	result = nat_packet(skb, family, &r.packet, NAT_DEST, &nat);
	return result < 0 ? result : ipvs_done(IPVS_COUNT_SNAT_REVERSED) | result;
}

#endif
