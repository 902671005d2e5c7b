// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * SNAT for packets that ip_vs forwards (tc egress), its reverse for the replies (tc ingress), and
 * forwarding of established sessions in both directions (tc ingress).
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/forward.h"
#include "lib/hold.h"
#include "lib/kfuncs.h"
#include "lib/maps.h"
#include "lib/nat.h"
#include "lib/nat_error.h"
#include "lib/packet.h"
#include "lib/parse.h"
#include "lib/reply.h"
#include "lib/sctp.h"
#include "lib/session.h"
#include "lib/snat.h"
#include "lib/stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A packet from ip_vs, and the session that it says it belongs to. */
struct request {
	struct packet packet;
	struct packet quote; /* of an ICMP error: it names the session, seen from the other side */
	struct ipvs_session_key key;
	struct real_end real;
	bool is_error;
};

static __always_inline int identify_by_hint(__u8 family, struct request *r, __u32 service_id)
{
	const struct packet *p = &r->packet;

	source_of(family, p, &r->key.caddr);
	r->key.service_id = service_id;
	r->key.cport = p->head.l4.sport;
	destination_of(family, p, &r->real.addr);
	r->real.port = p->head.l4.dport;
	r->real.protocol = p->protocol;
	if (!has_whole_l4_head(p))
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	return ipvs_done(IPVS_COUNT_SNAT);
}

/* The quote is a packet from the real server to the client. */
static __always_inline int identify_error(struct __sk_buff *skb, __u8 family, struct request *r,
					  __u32 service_id)
{
	const struct packet *p = &r->packet, *quote = &r->quote;

	if (!p->l4_len)
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	if (!is_icmp_error(family, p))
		return IPVS_NOT_MINE;
	if (parse_quote(skb, family, p, &r->quote) != PARSE_OK)
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	if (!quote_is_from_destination(family, quote, p))
		return ipvs_drop(IPVS_COUNT_DROP_NO_SESSION);

	r->is_error = true;
	destination_of(family, quote, &r->key.caddr);
	r->key.service_id = service_id;
	r->key.cport = quote->head.l4.dport;
	source_of(family, quote, &r->real.addr);
	r->real.port = quote->head.l4.sport;
	r->real.protocol = quote->protocol;
	return ipvs_done(IPVS_COUNT_ICMP_EGRESS);
}

/*
 * Fragments of IPv4 have lost the hint, but the first one (it may be the socket buffer that had it), and
 * most have no ports, so the module has left the session's key under the datagram's identity.
 */
static __always_inline int identify_fragment(__u8 family, struct request *r, bool hinted)
{
	const struct packet *p = &r->packet;
	struct ipvs_frag_key datagram = { .protocol = p->protocol };
	bool truncated = !is_later_fragment(family, p) && !has_whole_l4_head(p);
	struct ipvs_frag *whole;

	source_of(family, p, &datagram.saddr);
	destination_of(family, p, &datagram.daddr);
	datagram.id = family == AF_INET6 ? p->id : p->head.ip.id;
	whole = bpf_map_lookup_elem(&ipvs_frags, &datagram);
	if (!whole)
		return hinted ? ipvs_drop(IPVS_COUNT_DROP_NO_SESSION) : IPVS_NOT_MINE;
	r->key = whole->session;
	/* What a checksum covers that has to follow the ports. */
	r->packet.l4_len = whole->length;
	if (is_last_fragment(family, p))
		bpf_map_delete_elem(&ipvs_frags, &datagram);

	destination_of(family, p, &r->real.addr);
	r->real.port = p->head.l4.dport;
	r->real.protocol = p->protocol;
	r->real.port_unknown = is_later_fragment(family, p);
	return truncated ? ipvs_drop(IPVS_COUNT_DROP_MALFORMED) : ipvs_done(IPVS_COUNT_FRAGMENT_EGRESS);
}

/*
 * The hint is cleared on the way: behind a VLAN or bond device the same packet passes tc egress
 * again, and then it is translated already. It also says that the packet is IP, whatever tags
 * skb->protocol stands for.
 */
static __always_inline int identify_request(struct __sk_buff *skb, __u8 family, struct request *r)
{
	__u32 hint = skb->cb[4], service_id = hint & ~IPVS_HINT_MASK;
	bool hinted = (hint & IPVS_HINT_MASK) == IPVS_HINT_MAGIC;
	enum parse_result parsed;

	if (!hinted && skb->protocol != ethertype_of(family))
		return IPVS_NOT_MINE;
	parsed = parse_packet(skb, family, 0, skb->len, &r->packet);
	if (parsed == PARSE_TRUNCATED && hinted)
		return ipvs_drop(IPVS_COUNT_DROP_MALFORMED);
	if (parsed != PARSE_OK)
		return IPVS_NOT_MINE;

	if (hinted)
		skb->cb[4] = 0;
	if (r->packet.frag)
		return identify_fragment(family, r, hinted);
	if (!hinted)
		return IPVS_NOT_MINE;
	if (has_ports(&r->packet))
		return identify_by_hint(family, r, service_id);
	if (is_icmp(family, &r->packet))
		return identify_error(skb, family, r, service_id);
	/* The module looks behind more extension headers than are looked behind here. */
	return family == AF_INET6 ? ipvs_drop(IPVS_COUNT_DROP_NO_SESSION) : IPVS_NOT_MINE;
}

static __always_inline int write_request(struct __sk_buff *skb, __u8 family, struct request *r,
					 __u64 word)
{
	__u32 id = IPVS_SNAT_ADDR_ID(word);
	struct ipvs_snat_addr *snat = bpf_map_lookup_elem(&ipvs_snat_addrs, &id);
	struct nat nat = { .port = IPVS_SNAT_PORT(word) };

	if (!snat || snat->family != family)
		return ipvs_drop(IPVS_COUNT_DROP_NO_ADDRESS);
	nat.addr = snat->addr;
	return r->is_error ?
		       nat_icmp_error(skb, family, &r->packet, &r->quote, NAT_SOURCE, &nat) :
		       nat_packet(skb, family, &r->packet, NAT_SOURCE, &nat);
}

/* From here on the packet is a session's: it is translated, or kept by decision, or dropped. */
static __always_inline int translate_request(struct __sk_buff *skb, __u8 family)
{
	struct snat_choice choice = { .out_ifindex = skb->ifindex };
	struct ipvs_session *session;
	int identified, result;
	struct request r;

	/* Not the whole struct: the packets in it are some 20 words. */
	r.key = (struct ipvs_session_key){};
	r.real = (struct real_end){};
	r.is_error = false;
	identified = identify_request(skb, family, &r);
	if (identified <= 0)
		return identified;
	session = bpf_map_lookup_elem(&ipvs_sessions, &r.key);
	if (!session || !session_fits(session, &r.real))
		return ipvs_drop(IPVS_COUNT_DROP_NO_SESSION);
	choice.word = session_snat(session);
	if (!IPVS_SNAT_COOKIE(choice.word))
		return ipvs_drop(IPVS_COUNT_DROP_NO_SESSION);

	if (IPVS_SNAT_ADDR_ID(choice.word) == IPVS_SNAT_UNDECIDED) {
		result = choose_snat(skb, session, &r.key, &choice);
		if (result)
			return result;
	}
	session_touch(session);
	remember_vport(session->vport);
	if (IPVS_SNAT_ADDR_ID(choice.word) == IPVS_SNAT_NONE)
		return ipvs_done(IPVS_COUNT_SNAT_KEPT);
	result = write_request(skb, family, &r, choice.word);
	return result < 0 ? result : identified | result;
}

/* Functions of their own, because their stacks do not fit into one. */
static __noinline int translate_ipv4_request(struct __sk_buff *skb)
{
	return translate_request(skb, AF_INET);
}

static __noinline int translate_ipv6_request(struct __sk_buff *skb)
{
	return translate_request(skb, AF_INET6);
}

static __noinline int translate_ipv4_reply(struct __sk_buff *skb)
{
	return translate_reply(skb, AF_INET);
}

static __noinline int translate_ipv6_reply(struct __sk_buff *skb)
{
	return translate_reply(skb, AF_INET6);
}

static __noinline int forward_ipv4(struct __sk_buff *skb)
{
	return forward(skb, AF_INET);
}

static __noinline int forward_ipv6(struct __sk_buff *skb)
{
	return forward(skb, AF_INET6);
}

/* Of a frame with a tag in line, only the packet tells. */
static __always_inline bool is_ipv6(struct __sk_buff *skb)
{
	__u8 first;

	if (skb->protocol == bpf_htons(ETH_P_IP) || skb->protocol == bpf_htons(ETH_P_IPV6))
		return skb->protocol == bpf_htons(ETH_P_IPV6);
	return !load_bytes(skb, 0, &first, sizeof(first)) && first >> 4 == 6;
}

/* A frame for another host was bridged here, and what it has in cb is not IP's. */
SEC("tc")
int ipvs_tc_egress(struct __sk_buff *skb)
{
	bool ipv4 = skb->cb[3] & IPVS_HINT_REROUTED, ipv6 = skb->cb[2] & IPVS_HINT_REROUTED6;
	int result;

	if (!(ipv4 || ipv6) || skb->cb[4] == IPVS_HINT_REPLY || skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	/* Either word means something else to the other family. */
	if (is_ipv6(skb))
		result = ipv6 ? translate_ipv6_request(skb) : IPVS_NOT_MINE;
	else
		result = ipv4 ? translate_ipv4_request(skb) : IPVS_NOT_MINE;
	return ipvs_verdict(with_crc(skb, result));
}

SEC("tc")
int ipvs_tc_ingress(struct __sk_buff *skb)
{
	bool ipv6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	enum addressee to = TO_OTHERS;
	int result = IPVS_NOT_MINE;

	if (ipv6)
		to = addressee_of(skb, AF_INET6);
	else if (skb->protocol == bpf_htons(ETH_P_IP))
		to = addressee_of(skb, AF_INET);
	if (to != TO_OTHERS)
		result = forward_by_sight(skb, to == TO_SNAT_END ? IPVS_FORWARDED_REPLY :
							   IPVS_FORWARDED_REQUEST);
	if (!result && to != TO_OTHERS)
		result = ipv6 ? forward_ipv6(skb) : forward_ipv4(skb);
	if (!result && is_holding() && is_held(skb, is_ipv6(skb) ? AF_INET6 : AF_INET))
		result = ipvs_drop(IPVS_COUNT_DROP_HELD);
	if (!result && to == TO_SNAT_END)
		result = ipv6 ? translate_ipv6_reply(skb) : translate_ipv4_reply(skb);
	return ipvs_verdict(with_crc(skb, result));
}
