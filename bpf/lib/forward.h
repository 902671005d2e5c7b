/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translates both ends of a packet at tc ingress and sends it to the next hop, past the IP stack. Only what
 * the module has offered a path for, and only packets that tell IPVS nothing new, or of which it can be told.
 * Until the first byte is written, any doubt leaves a packet to the module.
 */
#ifndef IPVS_BPF_LIB_FORWARD_H
#define IPVS_BPF_LIB_FORWARD_H

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/flow.h"
#include "lib/hold.h"
#include "lib/kfuncs.h"
#include "lib/nat_both.h"
#include "lib/packet.h"
#include "lib/parse.h"
#include "lib/session.h"
#include "lib/snat.h"
#include "lib/stats.h"
#include "lib/transport.h"

/*
 * Describes a whole packet that stands in place behind an Ethernet header and nothing else, without
 * options. On a device without such headers it describes what is none, but only those that have them
 * are in paths (is_plain_route in the module).
 */
static __always_inline bool describe_plain(struct __sk_buff *skb, __u8 family, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 skipped = family == AF_INET6 ? 0 : IPV4_HEADS_AT, length;
	const struct heads *head = __builtin_assume_aligned(data + ETH_HLEN - skipped, 4);

	if (data + ETH_HLEN + sizeof(struct heads) - skipped > end)
		return false;
	if (family == AF_INET6) {
		p->head.ip6 = head->ip6;
		p->protocol = head->ip6.nexthdr;
		p->l4_off = sizeof(head->ip6);
		length = head->ip6.payload_len ? ip_length(family, p) : 0;
	} else {
		p->head.ip = head->ip;
		p->protocol = head->ip.protocol;
		p->l4_off = sizeof(head->ip);
		length = ip_length(family, p);
	}
	p->head.l4 = head->l4;
	p->ip_off = 0;
	/* Only what is cut up later may be too long for the length in its header. */
	if (!length && !skb->gso_size)
		return false;
	if (family == AF_INET6 ? p->head.ip6.version != 6 :
				 ((const __u8 *)&p->head.ip)[0] != 0x45 ||
					 p->head.ip.frag_off & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return false;
	return set_l4_len(p, length, skb->len - ETH_HLEN, false) == PARSE_OK && has_whole_l4_head(p);
}

static __always_inline __u8 hops_left(__u8 family, const struct packet *p)
{
	return family == AF_INET6 ? p->head.ip6.hop_limit : p->head.ip.ttl;
}

/* Datagrams that were merged have more than one header. */
static __always_inline bool fits_mtu(struct __sk_buff *skb, __u8 family, const struct packet *p,
				     __u32 l4_head_len, __u32 mtu)
{
	if (!skb->gso_size)
		return ip_length(family, p) <= mtu;
	return p->protocol == IPPROTO_TCP && p->l4_off + l4_head_len + skb->gso_size <= mtu;
}

/* As an IP layer would check it; a frame with a VLAN tag is for another device than the one it is seen on. */
static __always_inline bool may_forward(struct __sk_buff *skb, __u8 family, const struct packet *p,
					__u32 l4_head_len, const struct ipvs_path *path)
{
	return path->in_ifindex == skb->ifindex && is_in_force(path) && skb->pkt_type == PACKET_HOST &&
	       !skb->vlan_present && !skb->mark && hops_left(family, p) > 1 &&
	       skb->len >= ETH_HLEN + ip_length(family, p) &&
	       fits_mtu(skb, family, p, l4_head_len, path->mtu);
}

/* Bytes as IPVS counts them. */
static __always_inline __u32 counted_bytes(struct __sk_buff *skb, __u8 family,
					   const struct packet *p)
{
	return skb->gso_size ? skb->len - ETH_HLEN : ip_length(family, p);
}

/* What a packet is forwarded by: what it gets, and the path as it is. */
struct forwarding {
	struct flow flow;
	const struct ipvs_path *path;
	__u64 *counted;
	__u32 out_ifindex; /* of the path, when it was looked at */
	struct ipvs_ends ends; /* the source of a request is not known before its SNAT end */
	enum ipvs_counter counter;
	bool begun; /* by this packet */
};

static __always_inline int send(struct __sk_buff *skb, __u32 out_ifindex, bool to_peer)
{
	if (to_peer)
		return bpf_redirect_peer(out_ifindex, 0);
	/* What the driver has left there is no hint for tc egress. */
	skb->cb[2] = 0;
	skb->cb[3] = 0;
	skb->cb[4] = 0;
	return bpf_redirect(out_ifindex, 0);
}

/* All that follows by one call, for most packets; IPVS_NOT_MINE: it is left to do. */
static __always_inline int forward_by_sight(struct __sk_buff *skb, enum ipvs_forwarded what)
{
	__u64 by = bpf_ip_vs_forward(skb, what);

	if (!by)
		return IPVS_NOT_MINE;
	if (send(skb, by, by & IPVS_FORWARD_TO_PEER) != TC_ACT_REDIRECT)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return ipvs_sent(what == IPVS_FORWARDED_REPLY ? IPVS_COUNT_FORWARD_REPLY : IPVS_COUNT_FORWARD_REQUEST);
}

static __always_inline bool is_reply(const struct forwarding *f)
{
	return f->counter == IPVS_COUNT_FORWARD_REPLY;
}

static __always_inline void take_path(struct forwarding *f, const struct ipvs_path *path)
{
	f->path = path;
	f->out_ifindex = *(volatile __u32 *)&path->out_ifindex;
	__builtin_memcpy(f->ends.ethernet, path->ethernet, IPVS_ETHERNET_LEN);
}

/* To the real server. */
static __always_inline bool find_forwarding_of_request(struct __sk_buff *skb, __u8 family,
						       const struct packet *p,
						       const struct transport *t,
						       struct forwarding *f)
{
	struct flow *flow = &f->flow;

	if (!is_vport(p->head.l4.dport))
		return false;
	/* It may end one that was there, whose session must not be found. */
	f->begun = begins_connection(t) && !bpf_ip_vs_begin(skb);
	if (!is_known(skb, flow, false) && !look_up_request(family, p, flow))
		return false;
	take_path(f, &flow->session->request);
	f->counted = &flow->session->counted_requests;
	f->ends.daddr = flow->session->daddr;
	f->ends.dport = flow->session->dport;
	f->counter = IPVS_COUNT_FORWARD_REQUEST;
	return true;
}

/* To the client, from the virtual server's end. */
static __always_inline bool find_forwarding_of_reply(struct __sk_buff *skb, __u8 family,
						     const struct packet *p, struct forwarding *f)
{
	struct flow *flow = &f->flow;

	if (!is_snat_port(p->head.l4.dport) ||
	    (!is_known(skb, flow, true) && !look_up_reply(skb, family, p, flow)))
		return false;
	take_path(f, &flow->session->reply);
	f->counted = &flow->session->counted_replies;
	f->ends.saddr = flow->session->vaddr;
	f->ends.sport = flow->session->vport;
	f->ends.daddr = flow->found.key.caddr;
	f->ends.dport = flow->found.key.cport;
	f->counter = IPVS_COUNT_FORWARD_REPLY;
	f->begun = false;
	return true;
}

/* A function of its own, because its stack is gone when a SNAT end is chosen. */
static __noinline int tell_ip_vs(struct __sk_buff *skb, const struct ipvs_session *session,
				 const struct ipvs_session_key *key, __u32 cookie, __u16 reply)
{
	struct ipvs_event event = {
		.key = *key,
		.vaddr = session->vaddr,
		.vport = session->vport,
		.reply = reply,
		.cookie = cookie,
	};

	return bpf_ip_vs_tell(skb, &event);
}

/* A SYN has just been scheduled; its answer changes nothing. */
static __always_inline bool is_news(const struct transport *t, const struct forwarding *f)
{
	__u8 tell = f->path->tell;

	if (f->begun || (tell == IPVS_TELL_HANDSHAKE && is_reply(f) && answers_syn(t)))
		return false;
	return changes_state(t) || tell;
}

/* 0: IPVS knows, or need not. */
static __always_inline int tell(struct __sk_buff *skb, const struct transport *t,
				const struct forwarding *f)
{
	const struct ipvs_found *found = &f->flow.found;

	if (!is_news(t, f))
		return 0;
	if (!HAS_KFUNCS)
		return -EOPNOTSUPP;
	return tell_ip_vs(skb, f->flow.session, &found->key, IPVS_SNAT_COOKIE(found->snat), is_reply(f));
}

/* Who the real server is to see: the client, or the SNAT end, unless there is none yet, or no more. */
static __always_inline bool find_source(__u8 family, struct forwarding *f)
{
	const struct ipvs_found *found = &f->flow.found;
	__u32 id = IPVS_SNAT_ADDR_ID(found->snat);
	struct ipvs_snat_addr *snat;

	if (id == IPVS_SNAT_NONE) {
		f->ends.saddr = found->key.caddr;
		f->ends.sport = found->key.cport;
		return true;
	}
	snat = bpf_map_lookup_elem(&ipvs_snat_addrs, &id);
	if (id == IPVS_SNAT_UNDECIDED || !snat || snat->family != family)
		return false;
	f->ends.saddr = snat->addr;
	f->ends.sport = IPVS_SNAT_PORT(found->snat);
	return true;
}

/* Chooses the SNAT end if this packet begins its session, or does so again. */
static __always_inline int choose_source(struct __sk_buff *skb, const struct transport *t,
					 struct forwarding *f)
{
	struct ipvs_found *found = &f->flow.found;
	struct snat_choice choice = { .word = found->snat, .out_ifindex = f->out_ifindex };
	int result;

	if (IPVS_SNAT_ADDR_ID(choice.word) != IPVS_SNAT_UNDECIDED || !begins_connection(t))
		return 0;
	result = choose_snat(skb, f->flow.session, &found->key, &choice);
	found->snat = choice.word;
	return result;
}

/* Translates and sends. IPVS_NOT_MINE: the session is another one by now, and nothing has been done. */
static __always_inline int forward_by(struct __sk_buff *skb, __u8 family, struct packet *p,
				      const struct forwarding *f)
{
	bool to_peer = f->path->to_peer;
	int crc, result;

	if (session_snat(f->flow.session) != f->flow.found.snat)
		return IPVS_NOT_MINE;
	__sync_fetch_and_add(f->counted, IPVS_COUNTED(1, counted_bytes(skb, family, p)));
	session_touch(f->flow.session);
	crc = p->protocol == IPPROTO_SCTP ?
		      leave_crc(ETH_HLEN + p->l4_off, p->l4_len, p->head.l4.sport ^ f->ends.sport,
				p->head.l4.dport ^ f->ends.dport) :
		      0;
	if (crc < 0)
		return crc;
	result = family == AF_INET6 ? nat_both_ends_ipv6(skb, p, &f->ends) :
				      nat_both_ends(skb, family, p, &f->ends);
	if (result)
		return result;
	if (send(skb, f->out_ifindex, to_peer) != TC_ACT_REDIRECT)
		return ipvs_drop(IPVS_COUNT_DROP_REWRITE);
	return ipvs_sent(f->counter) | crc;
}

/* IPVS_NOT_MINE if the packet has to go through ip_vs, or is no session's. */
static __always_inline int forward(struct __sk_buff *skb, __u8 family)
{
	struct transport transport;
	struct forwarding f;
	struct packet p;
	int result;

	if (!describe_plain(skb, family, &p))
		return IPVS_NOT_MINE;
	transport = transport_of(skb, &p);
	if (!transport.head_len || (!find_forwarding_of_reply(skb, family, &p, &f) &&
				    !find_forwarding_of_request(skb, family, &p, &transport, &f)))
		return IPVS_NOT_MINE;
	/* An IPv6 packet may have IPv4 addresses that are mapped into its own. */
	if (f.flow.session->family != family)
		return IPVS_NOT_MINE;
	if (!f.out_ifindex || !may_forward(skb, family, &p, transport.head_len, f.path) ||
	    tell(skb, &transport, &f))
		return IPVS_NOT_MINE;
	if (!is_reply(&f)) {
		result = choose_source(skb, &transport, &f);
		if (!result && f.begun)
			result = forward_by_sight(skb, IPVS_FORWARDED_SYN);
		if (result || !find_source(family, &f))
			return result;
	}
	return forward_by(skb, family, &p, &f);
}

#endif
