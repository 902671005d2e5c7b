// SPDX-License-Identifier: GPL-2.0-only
/*
 * What TCP, UDP and SCTP differ in: how a connection begins, when its client may use its port again, and the
 * further addresses that an end of an SCTP association may list.
 */
#include <linux/sctp.h>
#include <linux/tcp.h>

#include "ip_vs_bpf_internal.h"

/* Of a packet that does not begin with one: NULL, too. */
static const struct sctp_chunkhdr *first_chunk(int af, const struct sk_buff *skb,
					       struct sctp_chunkhdr *_chunk, unsigned int *at)
{
	struct ip_vs_iphdr iph;

	if (!ip_vs_fill_iph_skb(af, skb, false, &iph))
		return NULL;
	*at = iph.len + sizeof(struct sctphdr);
	return skb_header_pointer(skb, *at, sizeof(*_chunk), _chunk);
}

/* A SYN or an INIT. */
static bool begins_connection(int af, const struct sk_buff *skb, u8 protocol)
{
	const struct sctp_chunkhdr *chunk;
	struct sctp_chunkhdr _chunk;
	struct tcphdr _th, *th;
	struct ip_vs_iphdr iph;
	unsigned int at;

	if (protocol == IPPROTO_SCTP) {
		chunk = first_chunk(af, skb, &_chunk, &at);
		return chunk && chunk->type == SCTP_CID_INIT;
	}
	if (!ip_vs_fill_iph_skb(af, skb, false, &iph))
		return false;
	th = skb_header_pointer(skb, iph.len, sizeof(_th), &_th);
	return th && th->syn;
}

static bool may_begin_anew(const struct ip_vs_conn *cp, int reuse)
{
	int state = READ_ONCE(cp->state);

	if (cp->protocol == IPPROTO_SCTP)
		return state == IP_VS_SCTP_S_CLOSED;
	return cp->protocol == IPPROTO_TCP &&
	       (state == IP_VS_TCP_S_TIME_WAIT || state == IP_VS_TCP_S_CLOSE ||
		(reuse & 2 && state == IP_VS_TCP_S_FIN_WAIT && cp->flags & IP_VS_CONN_F_NOOUTPUT));
}

bool ip_vs_bpf_is_over(const struct ip_vs_conn *cp, const struct sk_buff *skb)
{
	int reuse = sysctl_conn_reuse_mode(cp->ipvs);

	/* Not one of a persistent client, or one that others depend on: IPVS keeps them. */
	if (cp->control || atomic_read(&cp->n_control))
		return false;
	return reuse && may_begin_anew(cp, reuse) && begins_connection(cp->af, skb, cp->protocol);
}

/* Whether a list of chunk types in a parameter, RFC 5061, section 4.2.7, has the one that adds addresses. */
static bool lists_asconf(const struct sk_buff *skb, unsigned int at, unsigned int length)
{
	u8 _type, *type;

	for (; length; at++, length--) {
		type = skb_header_pointer(skb, at, sizeof(_type), &_type);
		if (type && *type == SCTP_CID_ASCONF)
			return true;
	}
	return false;
}

/* More parameters than these, of which there are a dozen kinds, are not looked at: they are taken for addresses. */
#define PARAMETERS 64

static bool lists_addresses(const struct sk_buff *skb, unsigned int at, unsigned int end, u8 chunk)
{
	struct sctp_paramhdr _param, *param;
	unsigned int length;
	int i;

	for (i = 0; i < PARAMETERS; i++) {
		param = at < end ? skb_header_pointer(skb, at, sizeof(_param), &_param) : NULL;
		length = param ? ntohs(param->length) : 0;
		if (length < sizeof(_param))
			return false;
		if (param->type == SCTP_PARAM_IPV4_ADDRESS || param->type == SCTP_PARAM_IPV6_ADDRESS)
			return true;
		/* Without the client, the server may not add any. */
		if (chunk == SCTP_CID_INIT && param->type == SCTP_PARAM_SUPPORTED_EXT &&
		    lists_asconf(skb, at + sizeof(_param), length - sizeof(_param)))
			return true;
		at += ALIGN(length, 4);
	}
	return true;
}

bool ip_vs_bpf_is_multihomed(int af, const struct sk_buff *skb)
{
	const struct sctp_chunkhdr *chunk;
	struct sctp_chunkhdr _chunk;
	unsigned int at;

	chunk = first_chunk(af, skb, &_chunk, &at);
	if (!chunk || (chunk->type != SCTP_CID_INIT && chunk->type != SCTP_CID_INIT_ACK))
		return false;
	return lists_addresses(skb, at + sizeof(struct sctp_init_chunk), at + ntohs(chunk->length),
			       chunk->type);
}

bool ip_vs_bpf_begins_multihomed(const struct ip_vs_conn *cp, const struct sk_buff *skb)
{
	return cp->protocol == IPPROTO_SCTP &&
	       READ_ONCE(cp->state) != IP_VS_SCTP_S_ESTABLISHED &&
	       ip_vs_bpf_is_multihomed(cp->af, skb);
}

/* What comes next of this client is scheduled anew, and left to the native path. */
void ip_vs_bpf_refuse_multihomed(struct ip_vs_bpf_packet *packet, struct ip_vs_conn *cp)
{
	count(packet->bpf, IPVS_COUNT_BYPASS_MULTIHOMED);
	packet->verdict = NF_DROP;
	ip_vs_conn_expire_now(cp);
}
