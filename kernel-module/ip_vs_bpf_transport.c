// SPDX-License-Identifier: GPL-2.0-only
/*
 * What TCP, UDP and SCTP differ in: how a connection begins, when its client may use its port again, the further
 * addresses that an end of an SCTP association may list, and checksums.
 */
#include <linux/sctp.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/sctp/checksum.h>

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

bool ip_vs_bpf_make_l4_writable(struct sk_buff *skb, unsigned int l4, u8 protocol)
{
	if (protocol == IPPROTO_SCTP)
		l4 += sizeof(struct sctphdr);
	else
		l4 += protocol == IPPROTO_UDP ? sizeof(struct udphdr) : sizeof(struct tcphdr);
	return !skb_ensure_writable(skb, l4);
}

__sum16 *ip_vs_bpf_l4_check(struct sk_buff *skb, unsigned int l4, u8 protocol)
{
	void *head = skb->data + l4;
	struct udphdr *udp = head;

	if (protocol == IPPROTO_TCP)
		return &((struct tcphdr *)head)->check;
	if (protocol != IPPROTO_UDP || (!udp->check && skb->ip_summed != CHECKSUM_PARTIAL))
		return NULL;
	return &udp->check;
}

/* As IPVS does for a new port. A checksum that is still to be made will be right. */
static void renew_sctp_check(struct sk_buff *skb, unsigned int l4)
{
	struct sctphdr *head = (struct sctphdr *)(skb->data + l4);

	if (skb_is_gso(skb) || skb->ip_summed == CHECKSUM_PARTIAL)
		return;
	head->checksum = sctp_compute_cksum(skb, l4);
	skb->ip_summed = CHECKSUM_UNNECESSARY;
}

void ip_vs_bpf_write_port(struct sk_buff *skb, unsigned int l4, u8 protocol,
			  enum ip_vs_bpf_port which, __be16 port)
{
	__sum16 *check = ip_vs_bpf_l4_check(skb, l4, protocol);
	__be16 *at = (__be16 *)(skb->data + l4) + which;

	if (check) {
		inet_proto_csum_replace2(check, skb, *at, port, false);
		if (protocol == IPPROTO_UDP && !*check)
			*check = CSUM_MANGLED_0;
	}
	*at = port;
	if (protocol == IPPROTO_SCTP)
		renew_sctp_check(skb, l4);
}
