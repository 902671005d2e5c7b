/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the transport header of a plain packet says, as far as forwarding goes. */
#ifndef IPVS_BPF_LIB_TRANSPORT_H
#define IPVS_BPF_LIB_TRANSPORT_H

#include <linux/bpf.h>

#include "lib/packet.h"
#include "lib/sctp.h"

#define TCP_DATA_OFFSET_AT 12
#define TCP_FIN		   0x01 /* in the byte behind */
#define TCP_SYN		   0x02
#define TCP_RST		   0x04
#define TCP_ACK		   0x10

struct transport {
	__u32 head_len; /* bytes; 0 if it does not stand in place */
	__u8 flags;	/* of TCP */
};

static __always_inline struct transport transport_of(struct __sk_buff *skb, const struct packet *p)
{
	const __u8 *l4 = (void *)(long)skb->data + ETH_HLEN + p->l4_off;

	if (p->protocol == IPPROTO_UDP)
		return (struct transport){ .head_len = L4_HEAD_LEN };
	if (p->protocol == IPPROTO_SCTP && l4 + SCTP_CHUNK_AT < (__u8 *)(long)skb->data_end &&
	    is_plain_chunk(l4[SCTP_CHUNK_AT]))
		return (struct transport){ .head_len = SCTP_HEAD_LEN };
	if (p->protocol != IPPROTO_TCP || l4 + TCP_HEAD_LEN > (__u8 *)(long)skb->data_end)
		return (struct transport){};
	return (struct transport){
		.head_len = l4[TCP_DATA_OFFSET_AT] >> 4 << 2,
		.flags = l4[TCP_DATA_OFFSET_AT + 1],
	};
}

/* Nothing that belongs to a connection which is there. */
static __always_inline bool begins_connection(const struct transport *t)
{
	return (t->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool answers_syn(const struct transport *t)
{
	return (t->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

static __always_inline bool changes_state(const struct transport *t)
{
	return t->flags & (TCP_FIN | TCP_SYN | TCP_RST);
}

#endif
