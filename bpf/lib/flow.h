/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds the session by which a plain packet is forwarded: in the module, if it knows it by sight, or in the maps. */
#ifndef IPVS_BPF_LIB_FLOW_H
#define IPVS_BPF_LIB_FLOW_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/kfuncs.h"
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/session.h"

struct flow {
	struct ipvs_session *session;
	struct ipvs_found found;
};

/* Not known is no answer. */
static __always_inline bool is_known(struct __sk_buff *skb, struct flow *f, bool reply)
{
	f->session = NULL;
	if (!HAS_KFUNCS)
		return false;
	/* The verifier wants it all written before. */
	f->found = (struct ipvs_found){};
	f->session = (void *)bpf_ip_vs_find(skb, &f->found, reply, sizeof(*f->session));
	return f->session;
}

static __always_inline bool look_up_request(__u8 family, const struct packet *p, struct flow *f)
{
	struct ipvs_service_key server = { .vport = p->head.l4.dport, .protocol = p->protocol };
	struct ipvs_service *service;

	destination_of(family, p, &server.vaddr);
	service = bpf_map_lookup_elem(&ipvs_services, &server);
	if (!service)
		return false;
	f->found.key = (struct ipvs_session_key){ .service_id = service->id, .cport = p->head.l4.sport };
	source_of(family, p, &f->found.key.caddr);
	f->session = bpf_map_lookup_elem(&ipvs_sessions, &f->found.key);
	if (!f->session)
		return false;
	f->found.snat = session_snat(f->session);
	return true;
}

static __always_inline bool look_up_reply(struct __sk_buff *skb, __u8 family, const struct packet *p,
					  struct flow *f)
{
	struct ipvs_reply_key reply = reply_key_of(family, p);
	struct ipvs_addr daddr;

	destination_of(family, p, &daddr);
	reply.snat_addr_id = find_address(skb, &daddr);
	if (!reply.snat_addr_id)
		return false;
	f->session = session_of_reply(&reply, &f->found.key);
	if (!f->session)
		return false;
	f->found.snat = session_snat(f->session);
	return true;
}

#endif
