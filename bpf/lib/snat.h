/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Chooses the SNAT end of a session, once, when its first packet leaves. */
#ifndef IPVS_BPF_LIB_SNAT_H
#define IPVS_BPF_LIB_SNAT_H

#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/session.h"
#include "lib/stats.h"

/* After an unsuccessful search of a whole pool, further ones fail at once for so long. */
#define EXHAUSTED_HOLD_NS 1000000000ULL

#define CURSORS_LOG2 10

/*
 * Where the search for a port begins, as in RFC 6056, section 3.3.4: a keyed hash of the pool plus a
 * counter that pools with the same hash share. So every port of a pool has its turn before one comes
 * again, which keeps ports apart from connections that the real server still has in TIME_WAIT.
 */
static __u32 snat_cursors[1 << CURSORS_LOG2];
static __u64 snat_seed;

static __always_inline __u32 port_count(void)
{
	__u32 count = 0;

	for (int i = 0; i < IPVS_PORT_RANGES && ipvs_port_ranges[i].last; i++)
		count += ipvs_port_ranges[i].last - ipvs_port_ranges[i].first + 1;
	return count;
}

/* The port number `index` of the ranges; 0 if there is none. */
static __always_inline __be16 port_at(__u32 index)
{
	for (int i = 0; i < IPVS_PORT_RANGES && ipvs_port_ranges[i].last; i++) {
		__u32 count = ipvs_port_ranges[i].last - ipvs_port_ranges[i].first + 1;

		if (index < count)
			return bpf_htons(ipvs_port_ranges[i].first + index);
		index -= count;
	}
	return 0;
}

static __always_inline bool is_snat_port(__be16 port)
{
	__u16 number = bpf_ntohs(port);

	for (int i = 0; i < IPVS_PORT_RANGES && ipvs_port_ranges[i].last; i++)
		if (number >= ipvs_port_ranges[i].first && number <= ipvs_port_ranges[i].last)
			return true;
	return false;
}

static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Same for all sessions of a pool: SNAT address, real server, protocol. */
static __always_inline __u32 first_index(const struct ipvs_reply_key *reply, __u32 count)
{
	__u64 hash;

	if (!snat_seed)
		__sync_val_compare_and_swap(&snat_seed, 0,
					    (__u64)bpf_get_prandom_u32() << 32 |
						    bpf_get_prandom_u32() | 1);
	hash = mix(snat_seed, (__u64)reply->daddr.w[0] << 32 | reply->daddr.w[1]);
	hash = mix(hash, (__u64)reply->daddr.w[2] << 32 | reply->daddr.w[3]);
	hash = mix(hash,
		   (__u64)reply->dport << 32 | (__u32)reply->snat_addr_id << 8 | reply->protocol);
	return ((__u32)hash + __sync_fetch_and_add(&snat_cursors[hash >> (64 - CURSORS_LOG2)], 1)) %
	       count;
}

/*
 * The insertion is the reservation: of two that want the same port, one gets -EEXIST. Before 6.4 the
 * upper half of the result is not the sign's: map operations return an int there.
 */
static __always_inline int take_port(struct port_search *search)
{
	search->reply.snat_port = port_at(search->index);
	search->error =
		(int)bpf_map_update_elem(&ipvs_replies, &search->reply, &search->key, BPF_NOEXIST);
	return search->error;
}

/* -EBUSY: this CPU was interrupted while it held the lock of that bucket. Another port has another. */
static __always_inline bool may_try_next(int error)
{
	return error == -EEXIST || error == -EBUSY;
}

/* What bpf_loop passes on has to be on the stack. */
struct probe {
	struct port_search *search;
};

/* bpf_loop callback: 0 goes on. A look-up first, because a taken port costs less without the lock. */
static long probe_port(__u32 i __attribute__((unused)), struct probe *probe)
{
	struct port_search *search = probe->search;

	if (++search->index >= search->count)
		search->index = 0;
	search->reply.snat_port = port_at(search->index);
	if (bpf_map_lookup_elem(&ipvs_replies, &search->reply))
		return 0;
	return !may_try_next(take_port(search));
}

static __always_inline int refuse_for_a_while(struct port_search *search)
{
	search->until = bpf_ktime_get_ns() + EXHAUSTED_HOLD_NS;
	bpf_map_update_elem(&ipvs_exhausted, &search->pool, &search->until, BPF_ANY);
	return ipvs_drop(IPVS_COUNT_DROP_NO_PORT);
}

static __always_inline int search_pool(struct port_search *search)
{
	__u32 most = search->count - 1 < search->left ? search->count - 1 : search->left;
	struct probe probe = { .search = search };
	__u64 *until;

	search->pool.daddr = search->reply.daddr;
	search->pool.dport = search->reply.dport;
	search->pool.snat_addr_id = search->reply.snat_addr_id;
	search->pool.protocol = search->reply.protocol;
	until = bpf_map_lookup_elem(&ipvs_exhausted, &search->pool);
	if (until && bpf_ktime_get_ns() < *until)
		return ipvs_drop(IPVS_COUNT_DROP_NO_PORT);

	search->error = -EEXIST;
	search->left -= bpf_loop(most, probe_port, &probe, 0);
	return may_try_next(search->error) ? refuse_for_a_while(search) : 0;
}

/*
 * Whether a flow of the host has the end that was reserved: one that is natively masqueraded, as those are that were
 * there when the mode was switched on, or the host's own. Its replies would be taken for the session's, and the
 * real server has that connection already. Not asked if there was no conntrack when the programs were loaded.
 */
static __noinline bool is_end_of_host(struct __sk_buff *skb, struct port_search *search)
{
	const struct ipvs_reply_key *reply = &search->reply;
	__u32 id = reply->snat_addr_id, length;
	struct ipvs_snat_addr *snat;
	struct nf_conn *ct;

	if (!has_conntrack())
		return false;
	snat = bpf_map_lookup_elem(&ipvs_snat_addrs, &id);
	if (!snat)
		return false;
	search->opts.netns_id = BPF_F_CURRENT_NETNS;
	search->opts.l4proto = reply->protocol;
	if (snat->family == AF_INET6) {
		__builtin_memcpy(search->tuple.ipv6.saddr, &reply->daddr, sizeof(reply->daddr));
		__builtin_memcpy(search->tuple.ipv6.daddr, &snat->addr, sizeof(snat->addr));
		search->tuple.ipv6.sport = reply->dport;
		search->tuple.ipv6.dport = reply->snat_port;
		length = sizeof(search->tuple.ipv6);
	} else {
		search->tuple.ipv4.saddr = reply->daddr.w[3];
		search->tuple.ipv4.daddr = snat->addr.w[3];
		search->tuple.ipv4.sport = reply->dport;
		search->tuple.ipv4.dport = reply->snat_port;
		length = sizeof(search->tuple.ipv4);
	}
	ct = bpf_skb_ct_lookup(skb, &search->tuple, length, &search->opts, sizeof(search->opts));
	if (!ct)
		return false;
	bpf_ct_release(ct);
	return true;
}

/*
 * So many ports that are the host's are passed over for one packet: the first ones one by one, so that few ports are all
 * looked at. Further ones stand in a row, as those of connections do that were accelerated until modules were exchanged,
 * and are left behind by leaps.
 */
#define HOST_STEPS 8
#define HOST_TRIES 24

/* Walks through the whole pool for one packet, together. */
#define POOL_WALKS 4

static __always_inline int reserve_next_port(struct port_search *search, bool first)
{
	int result;

	if (!first || may_try_next(take_port(search))) {
		result = search_pool(search);
		if (result)
			return result;
	}
	return search->error ? ipvs_drop(IPVS_COUNT_DROP_REPLIES_FULL) : 0;
}

/* What bpf_loop passes on has to be on the stack. */
struct try {
	struct __sk_buff *skb;
	struct port_search *search;
	bool ended;
	int result;
};

/* bpf_loop callback, and so verified once: 0 goes on. */
static long try_port(__u32 i, struct try *try)
{
	struct port_search *search = try->search;

	try->result = reserve_next_port(search, i == 0);
	if (try->result || !is_end_of_host(try->skb, search)) {
		try->ended = true;
		return 1;
	}
	bpf_map_delete_elem(&ipvs_replies, &search->reply);
	if (i >= HOST_STEPS && search->count)
		search->index = bpf_get_prandom_u32() % search->count;
	return 0;
}

/*
 * Reserves a port at reply->snat_addr_id. Always a fresh one, never the client's own: two clients
 * with the same port one after the other would meet in the real server's TIME_WAIT.
 */
static __always_inline int reserve_port(struct __sk_buff *skb, struct port_search *search)
{
	struct try try = { .skb = skb, .search = search };

	search->count = port_count();
	if (!search->count)
		return ipvs_drop(IPVS_COUNT_DROP_NO_PORT);
	search->left = search->count * POOL_WALKS;
	search->index = first_index(&search->reply, search->count);
	bpf_loop(HOST_TRIES, try_port, &try, 0);
	if (try.ended)
		return try.result;
	/* Of a large pool this was bad luck, and of a small one all that there is. */
	return search->count > HOST_TRIES ? ipvs_drop(IPVS_COUNT_DROP_NO_PORT) :
					    refuse_for_a_while(search);
}

/* Both ends at one address: the real server would answer itself without a translation. */
static __always_inline bool is_snat_wanted(const struct ipvs_session *session,
					   const struct ipvs_session_key *key,
					   const struct ipvs_addr *daddr, struct ipvs_prefix *client)
{
	client->prefix_len = 128;
	client->addr = key->caddr;
	if (addr_equal(&key->caddr, daddr))
		return true;
	switch (session->flags & IPVS_SERVICE_SNAT_MASK) {
	case IPVS_SNAT_NEVER:
		return false;
	case IPVS_SNAT_EXTERNAL:
		return !bpf_map_lookup_elem(&ipvs_cluster, client);
	default:
		return true;
	}
}

/* What choose_snat is to decide for, and what it has decided. */
struct snat_choice {
	__u64 word;	   /* the session's: undecided, then with its SNAT end */
	__u32 out_ifindex; /* the packet leaves by this interface */
};

/* Id of the SNAT address of the interface that the packet leaves by; 0 if it has none. */
static __always_inline __u32 egress_address_id(__u32 ifindex, __u8 family)
{
	struct ipvs_snat_if key = { .ifindex = ifindex, .family = family };
	__u32 *id = bpf_map_lookup_elem(&ipvs_snat_ifs, &key);

	return id && *id < IPVS_SNAT_ADDRS ? *id : 0;
}

static __always_inline int reserve_end(struct __sk_buff *skb, struct port_search *search,
				       __u8 family, __u32 out_ifindex, __u64 *word)
{
	__u32 cookie = IPVS_SNAT_COOKIE(*word), id = egress_address_id(out_ifindex, family);
	int result;

	if (!id)
		return ipvs_drop(IPVS_COUNT_DROP_NO_ADDRESS);
	search->reply.snat_addr_id = id;
	result = reserve_port(skb, search);
	if (result)
		return result;
	*word = IPVS_SNAT_WORD(cookie, id, search->reply.snat_port);
	return 0;
}

/*
 * Decides, reserves, and publishes with one compare-and-exchange against the undecided word that was read. Who
 * loses against another CPU gives its own reservation back and takes that CPU's decision; who loses against the
 * module has no session any more, and what was read of it hung on the cookie in the word.
 */
static __noinline int choose_snat(struct __sk_buff *skb, struct ipvs_session *session,
				  const struct ipvs_session_key *key, struct snat_choice *choice)
{
	__u32 only = 0;
	struct port_search *search = bpf_map_lookup_elem(&ipvs_port_search, &only);
	__u64 undecided = choice->word, chosen = undecided, before;
	bool wanted;
	int result;

	if (!search)
		return ipvs_drop(IPVS_COUNT_DROP_NO_PORT);
	search->reply.daddr = session->daddr;
	wanted = is_snat_wanted(session, key, &search->reply.daddr, &search->client);
	if (wanted) {
		search->reply.dport = session->dport;
		search->reply.protocol = session->protocol;
		search->key = *key;
		result = reserve_end(skb, search, session->family, choice->out_ifindex, &chosen);
		if (result)
			return result;
	} else {
		chosen = IPVS_SNAT_WORD(IPVS_SNAT_COOKIE(undecided), IPVS_SNAT_NONE, 0);
	}

	before = __sync_val_compare_and_swap(&session->snat, undecided, chosen);
	if (before == undecided) {
		choice->word = chosen;
		return 0;
	}
	if (wanted)
		bpf_map_delete_elem(&ipvs_replies, &search->reply);
	if (IPVS_SNAT_COOKIE(before) != IPVS_SNAT_COOKIE(undecided))
		return ipvs_drop(IPVS_COUNT_DROP_NO_SESSION);
	choice->word = before;
	return 0;
}

#endif
