/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds the session of a packet, in either direction. */
#ifndef IPVS_BPF_LIB_SESSION_H
#define IPVS_BPF_LIB_SESSION_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/maps.h"
#include "lib/packet.h"

/* The real server's end of a session as a packet shows it. */
struct real_end {
	struct ipvs_addr addr;
	__be16 port;
	__u8 protocol;
	bool port_unknown; /* later fragments */
};

/* The SNAT word as it is now: tc programs and module write it at any time. */
static __always_inline __u64 session_snat(const struct ipvs_session *session)
{
	return *(const volatile __u64 *)&session->snat;
}

/*
 * Elements of a preallocated hash map are given to another session as soon as they are free, also
 * under the pointer that a program holds. So what is used of a session is compared with the packet,
 * or hangs on the cookie in its SNAT word; writing `seen` into the wrong session does no harm.
 */
static __always_inline bool session_fits(const struct ipvs_session *session,
					 const struct real_end *real)
{
	return session->protocol == real->protocol &&
	       (real->port_unknown || session->dport == real->port) &&
	       addr_equal(&session->daddr, &real->addr);
}

/* Only a new time is written, for the sake of the other CPUs' caches. */
static __always_inline void session_touch(struct ipvs_session *session)
{
	__u64 now = bpf_jiffies64();

	if (session->seen != now)
		session->seen = now;
}

/*
 * The ports of virtual servers that have had a session since the programs were loaded, a bit each: of most
 * packets, that is all that has to be known. Written by tc egress, where a session's first packet always
 * passes; nothing is lost with it but the time until the next packet that goes through ip_vs.
 */
static __u64 vports[65536 / 64];

static __always_inline bool is_vport(__be16 port)
{
	return vports[port / 64] >> port % 64 & 1;
}

static __always_inline void remember_vport(__be16 port)
{
	if (!is_vport(port))
		__sync_fetch_and_or(&vports[port / 64], 1ULL << port % 64);
}

#define ADDRESS_GUESSES 256

/* Id of the SNAT address that packets from an interface were sent to the last time. */
static __u16 address_guesses[ADDRESS_GUESSES];

/*
 * Id of a SNAT address of ours, or 0. Nearly always it is the one of the packet before, and to compare
 * that costs a fifth of a look-up.
 */
static __always_inline __u16 find_address(struct __sk_buff *skb, const struct ipvs_addr *addr)
{
	__u16 *guess = &address_guesses[skb->ifindex % ADDRESS_GUESSES];
	struct ipvs_snat_addr *snat;
	__u32 id = *guess, *found;

	snat = bpf_map_lookup_elem(&ipvs_snat_addrs, &id);
	if (snat && snat->family && addr_equal(&snat->addr, addr))
		return id;
	found = bpf_map_lookup_elem(&ipvs_snat_ids, addr);
	if (!found)
		return 0;
	*guess = *found;
	return *found;
}

/* Without the id of the address that the packet is for. */
static __always_inline struct ipvs_reply_key reply_key_of(__u8 family, const struct packet *p)
{
	struct ipvs_reply_key key = {
		.dport = p->head.l4.sport,
		.snat_port = p->head.l4.dport,
		.protocol = p->protocol,
	};

	source_of(family, p, &key.daddr);
	return key;
}

/*
 * The session that a real server answers to by sending to this SNAT end. A reply entry whose session
 * is gone, or has another SNAT end, is on its way out and does not count.
 */
static __always_inline struct ipvs_session *session_of_reply(const struct ipvs_reply_key *reply,
							     struct ipvs_session_key *key)
{
	struct ipvs_session_key *found;
	struct ipvs_session *session;

	found = bpf_map_lookup_elem(&ipvs_replies, reply);
	if (!found)
		return NULL;
	*key = *found;
	session = bpf_map_lookup_elem(&ipvs_sessions, key);
	if (!session || (__u32)session_snat(session) !=
				(__u32)IPVS_SNAT_WORD(0, reply->snat_addr_id, reply->snat_port))
		return NULL;
	return session;
}

#endif
