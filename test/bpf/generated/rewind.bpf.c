// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Writes what changes in a session, in place: the module holds on to the element that it has found for a connection, and a
 * map that is written to by its file descriptor gives the key another one.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define CHANGING_AT  offsetof(struct ipvs_session, seen)
#define CHANGING_LEN (sizeof(struct ipvs_session) - CHANGING_AT)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct ipvs_session_key);
	__type(value, struct ipvs_session);
} ipvs_sessions SEC(".maps");

/* The frame: behind its Ethernet header a key, and what its session is to have from `seen` on. */
SEC("tc")
int rewind(struct __sk_buff *skb)
{
	struct ipvs_session_key key;
	struct ipvs_session *session;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &key, sizeof(key)))
		return TC_ACT_SHOT;
	session = bpf_map_lookup_elem(&ipvs_sessions, &key);
	if (!session ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(key), (void *)session + CHANGING_AT, CHANGING_LEN))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}
