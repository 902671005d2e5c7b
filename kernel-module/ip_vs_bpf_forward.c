// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forwards packets of connections that are known by sight: most of all that tc ingress forwards. What bpf/lib/forward.h does,
 * in one call, and as there nothing has been decided until the first byte is written: what is left is left to the program.
 */
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/tcp.h>

#include "ip_vs_bpf_flow.h"

/* A whole TCP or UDP packet behind an Ethernet header and nothing else, without options. */
struct plain_packet {
	struct flow flow;
	u32 length; /* bytes from the IP header on, as that says; 0: it does not say */
	u32 heads;  /* bytes from the IP header to what the transport carries */
	u8 flags;   /* TCPHDR_* that change a connection's state */
	bool is_first; /* of a TCP connection */
};

static __always_inline bool describe_transport(const struct sk_buff *skb, u32 l4, struct plain_packet *p)
{
	const struct tcphdr *th = (const struct tcphdr *)(skb->data + l4);

	p->heads = l4 - ETH_HLEN + sizeof(struct udphdr);
	p->flags = 0;
	p->is_first = false;
	if (skb_headlen(skb) < l4 + sizeof(struct udphdr))
		return false;
	p->flow.sport = th->source;
	p->flow.dport = th->dest;
	if (p->flow.protocol == IPPROTO_UDP)
		return true;
	if (p->flow.protocol != IPPROTO_TCP || skb_headlen(skb) < l4 + sizeof(*th))
		return false;
	p->heads = l4 - ETH_HLEN + th->doff * 4;
	p->flags = tcp_flag_byte(th) & (TCPHDR_SYN | TCPHDR_FIN | TCPHDR_RST);
	p->is_first = th->syn && !th->ack;
	return th->doff >= sizeof(*th) / 4;
}

static __always_inline bool describe_ipv4(const struct sk_buff *skb, struct plain_packet *p)
{
	const struct iphdr *ip = (const struct iphdr *)(skb->data + ETH_HLEN);

	if (skb_headlen(skb) < ETH_HLEN + sizeof(*ip) || ip->version != 4 || ip->ihl != sizeof(*ip) / 4 ||
	    ip_is_fragment(ip) || ip->ttl <= 1)
		return false;
	p->flow.source = (const union nf_inet_addr *)&ip->saddr;
	p->flow.dest = (const union nf_inet_addr *)&ip->daddr;
	p->flow.protocol = ip->protocol;
	p->length = ntohs(ip->tot_len);
	return describe_transport(skb, ETH_HLEN + sizeof(*ip), p);
}

static __always_inline bool describe_ipv6(const struct sk_buff *skb, struct plain_packet *p)
{
	const struct ipv6hdr *ip = (const struct ipv6hdr *)(skb->data + ETH_HLEN);

	if (skb_headlen(skb) < ETH_HLEN + sizeof(*ip) || ip->version != 6 || ip->hop_limit <= 1)
		return false;
	p->flow.source = (const union nf_inet_addr *)&ip->saddr;
	p->flow.dest = (const union nf_inet_addr *)&ip->daddr;
	p->flow.protocol = ip->nexthdr;
	p->length = ip->payload_len ? sizeof(*ip) + ntohs(ip->payload_len) : 0;
	return describe_transport(skb, ETH_HLEN + sizeof(*ip), p);
}

/* Whether it is as long as its IP header says, and not too long. Datagrams that were merged have more than one header. */
static __always_inline bool fits(const struct sk_buff *skb, const struct plain_packet *p, u32 mtu)
{
	if (likely(!skb_is_gso(skb)))
		return p->length >= p->heads && skb->len >= ETH_HLEN + p->length && p->length <= mtu;
	return p->flow.protocol == IPPROTO_TCP && p->length >= p->heads && skb->len >= ETH_HLEN + p->length &&
	       p->heads + skb_shinfo(skb)->gso_size <= mtu;
}

/* As an IP layer would check it; a frame with a VLAN tag is for another device than the one it is seen on. */
static __always_inline bool may_forward(const struct sk_buff *skb, const struct plain_packet *p,
					const struct ipvs_path *path)
{
	return READ_ONCE(path->in_ifindex) == skb->dev->ifindex &&
	       (s32)(READ_ONCE(path->until) - (u32)jiffies) > 0 && skb->pkt_type == PACKET_HOST &&
	       !skb_vlan_tag_present(skb) && !skb->mark && fits(skb, p, READ_ONCE(path->mtu));
}

/* A SYN has just been scheduled; its answer changes nothing. */
static __always_inline bool is_news(const struct plain_packet *p, u8 tell, enum ipvs_forwarded what)
{
	if (what == IPVS_FORWARDED_SYN ||
	    (tell == IPVS_TELL_HANDSHAKE && what == IPVS_FORWARDED_REPLY && p->flags == TCPHDR_SYN))
		return false;
	return p->flags || tell;
}

static __always_inline void set_ends_of_reply(struct ipvs_ends *ends, int af, const struct ip_vs_conn *cp)
{
	ends->saddr = addr_of(af, &cp->vaddr);
	ends->daddr = addr_of(af, &cp->caddr);
	ends->sport = cp->vport;
	ends->dport = cp->cport;
}

/* False without a SNAT end, which the program chooses. */
static __always_inline bool set_ends_of_request(struct ipvs_ends *ends, struct ip_vs_bpf *bpf, int af,
						const struct ip_vs_conn *cp, u64 word)
{
	u32 id = IPVS_SNAT_ADDR_ID(word);
	const struct ipvs_snat_addr *snat;

	ends->daddr = addr_of(af, &cp->daddr);
	ends->dport = cp->dport;
	if (id == IPVS_SNAT_NONE) {
		ends->saddr = addr_of(af, &cp->caddr);
		ends->sport = cp->cport;
		return true;
	}
	snat = ip_vs_bpf_snat_addr(bpf, id);
	if (id == IPVS_SNAT_UNDECIDED || !snat || snat->family != af)
		return false;
	ends->saddr = snat->addr;
	ends->sport = IPVS_SNAT_PORT(word);
	return true;
}

/* Only a new time is written, for the sake of the other CPUs' caches. */
static __always_inline void note_packet(struct ipvs_session *session, u64 *counted, u32 bytes)
{
	u64 now = get_jiffies_64();

	atomic64_add(IPVS_COUNTED(1, bytes), (atomic64_t *)counted);
	if (READ_ONCE(session->seen) != now)
		WRITE_ONCE(session->seen, now);
}

static __always_inline bool set_ends(struct ipvs_ends *ends, struct ip_vs_bpf *bpf, int af, const struct ip_vs_conn *cp,
				     u64 word, bool reply)
{
	if (!reply)
		return set_ends_of_request(ends, bpf, af, cp, word);
	set_ends_of_reply(ends, af, cp);
	return true;
}

/* Of a TCP connection, whether IPVS knows now what it has to know. */
static __always_inline bool is_told(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, const struct plain_packet *p,
				    struct ip_vs_conn *cp, u8 tell, enum ipvs_forwarded what)
{
	return !is_news(p, tell, what) ||
	       (p->flow.protocol == IPPROTO_TCP && ip_vs_bpf_tell(bpf, af, skb, cp, what == IPVS_FORWARDED_REPLY));
}

/* The answer will be known by sight, too. Who runs a program by hand need not have BH disabled. */
static noinline void expect_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp)
{
	struct ipvs_session *session = in_softirq() ? ip_vs_bpf_lock_session(bpf, cp) : NULL;

	if (!session)
		return;
	ip_vs_bpf_add_flows(bpf, cp, session);
	ip_vs_bpf_unlock_session(bpf, cp);
}

static __always_inline u64 forward_by(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, const struct plain_packet *p,
				      struct ip_vs_conn *cp, u64 word, enum ipvs_forwarded what)
{
	struct ipvs_session *session = READ_ONCE(cp->bpf_session);
	bool reply = what == IPVS_FORWARDED_REPLY, to_peer;
	const struct ipvs_path *path;
	/* All of it is set below. */
	struct ipvs_ends ends __attribute__((uninitialized));
	u32 out_ifindex;

	if (unlikely(!session))
		return 0;
	path = reply ? &session->reply : &session->request;
	out_ifindex = smp_load_acquire(&path->out_ifindex);
	to_peer = READ_ONCE(path->to_peer);
	if (!out_ifindex || !may_forward(skb, p, path) || !set_ends(&ends, bpf, af, cp, word, reply))
		return 0;
	memcpy(ends.ethernet, path->ethernet, sizeof(ends.ethernet));
	/* The session is another one by now, or what was read of it is. */
	if (!is_told(bpf, af, skb, p, cp, READ_ONCE(path->tell), what) || READ_ONCE(session->snat) != word ||
	    ip_vs_bpf_translate(skb, af == AF_INET6, &ends))
		return 0;
	if (what == IPVS_FORWARDED_SYN)
		expect_reply(bpf, cp);
	note_packet(session, reply ? &session->counted_replies : &session->counted_requests,
		    skb_is_gso(skb) ? skb->len - ETH_HLEN : p->length);
	return out_ifindex | (to_peer ? IPVS_FORWARD_TO_PEER : 0);
}

static __always_inline u64 forward(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, enum ipvs_forwarded what)
{
	struct plain_packet p __attribute__((uninitialized));
	struct ip_vs_conn *cp;
	u64 word;

	if (skb_network_offset(skb) != ETH_HLEN ||
	    !(af == AF_INET6 ? describe_ipv6(skb, &p) : describe_ipv4(skb, &p)) ||
	    p.is_first != (what == IPVS_FORWARDED_SYN))
		return 0;
	cp = find(bpf, af, &p.flow, what == IPVS_FORWARDED_REPLY, &word);
	return cp ? forward_by(bpf, af, skb, &p, cp, word, what) : 0;
}

__bpf_kfunc u64 bpf_ip_vs_forward(struct __sk_buff *ctx, enum ipvs_forwarded what)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	struct netns_ipvs *ipvs = net_ipvs(dev_net(skb->dev));
	u64 by;

	if (unlikely(!ipvs || !ipvs->bpf || !READ_ONCE(ipvs->bpf->hooked)))
		return 0;
	by = skb->protocol == htons(ETH_P_IPV6) ? forward(ipvs->bpf, AF_INET6, skb, what) :
						  forward(ipvs->bpf, AF_INET, skb, what);
	bpf_compute_data_pointers(skb);
	return by;
}
