/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map of the session contract, with who writes and who reads it. */
#ifndef IPVS_BPF_LIB_MAPS_H
#define IPVS_BPF_LIB_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "lib/conntrack.h"

/* Default size of ipvs_sessions and ipvs_replies; the loader may set another one before it loads. */
#define IPVS_SESSIONS_DEFAULT 262144

/* Written by the agent, read by the module. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct ipvs_service_key);
	__type(value, struct ipvs_service);
} ipvs_services SEC(".maps");

/*
 * Entries are added and removed by the module; tc writes `snat` and `seen` in place. Not an LRU map:
 * a live session must never be evicted, a full map has to be an error that the module can act on.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IPVS_SESSIONS_DEFAULT);
	__type(key, struct ipvs_session_key);
	__type(value, struct ipvs_session);
} ipvs_sessions SEC(".maps");

/* Added by tc egress, read by tc ingress and the module, removed by the module. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IPVS_SESSIONS_DEFAULT);
	__type(key, struct ipvs_reply_key);
	__type(value, struct ipvs_session_key);
} ipvs_replies SEC(".maps");

/* Written by the module, read and cleared by tc egress. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ipvs_frag_key);
	__type(value, struct ipvs_frag);
} ipvs_frags SEC(".maps");

/* Written by the agent, read by tc egress. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IPVS_SNAT_ADDRS);
	__type(key, __u32);
	__type(value, struct ipvs_snat_addr);
} ipvs_snat_addrs SEC(".maps");

/* Written by the agent, read by tc ingress and the module. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IPVS_SNAT_ADDRS);
	__type(key, struct ipvs_addr);
	__type(value, __u32);
} ipvs_snat_ids SEC(".maps");

/* Written by the agent, read by tc egress. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct ipvs_snat_if);
	__type(value, __u32);
} ipvs_snat_ifs SEC(".maps");

/* Written by the agent, read by tc egress; the value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct ipvs_prefix);
	__type(value, __u32);
} ipvs_cluster SEC(".maps");

/* Written and read by tc egress only. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ipvs_pool_key);
	__type(value, __u64);
} ipvs_exhausted SEC(".maps");

/* What the stack has no room for while tc egress searches a port: struct port_search. */
struct port_search {
	struct ipvs_reply_key reply;
	struct ipvs_session_key key;
	__u32 index;
	__u32 count;
	__u32 left; /* ports that may still be looked at for this packet */
	int error;  /* of the last insertion */
	struct ipvs_pool_key pool;
	__u64 until; /* the pool is exhausted */
	struct ipvs_prefix client;
	struct bpf_sock_tuple tuple;
	struct bpf_ct_opts___first opts;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct port_search);
} ipvs_port_search SEC(".maps");

/* Written by tc and the module, read by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, IPVS_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} ipvs_counters SEC(".maps");

/*
 * Packets that tc ingress has forwarded, by the id of their whitelist entry: added to by the module, read by
 * the agent, and removed by it with the entry.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} ipvs_forwarded SEC(".maps");

/*
 * Interfaces at whose tc egress nobody but us has a program. Written by the agent, read by the module: what
 * is for the peer of a veth or netkit device may skip them. The value means nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} ipvs_peer_ifs SEC(".maps");

/*
 * Both ends of every virtual server while modules are exchanged: its own, and those of its real servers. Written by the
 * agent, read by tc ingress; the value means nothing.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct ipvs_service_key);
	__type(value, __u32);
} ipvs_held SEC(".maps");

/* Until when packets from and to those ends are held back, as bpf_ktime_get_ns() has it; 0: they are not. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ipvs_hold SEC(".maps");

/* Ports that SNAT ends are taken from. Set by the loader, disjoint and ascending. */
const volatile struct ipvs_port_range ipvs_port_ranges[IPVS_PORT_RANGES] = {};

#endif
