// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One of each that the tests of maps, global variables and program runs need. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct address {
	__be32 words[4];
};

struct key {
	struct address addr;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

enum mode { MODE_NEVER = 0, MODE_ALWAYS = 2 };

struct value {
	__u64 packets;
	__s32 balance;
	enum mode mode;
	__u8 mac[6];
	__u16 low : 5, high : 11;
	union {
		__u32 word;
		__u8 bytes[4];
	} u;
	struct address next[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, struct value);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu_hash SEC(".maps");

struct prefix {
	__u32 length;
	__u8 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} prefixes SEC(".maps");

/* Has no batch operations in any kernel so far. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} samples SEC(".maps");

struct range {
	__u16 first;
	__u16 last;
};

const volatile struct range ranges[2] = { { 1, 2 } };
const volatile __u32 answer = 1;
const volatile __u64 wide;
const volatile char label[8] = "label";
const volatile _Bool enabled;
__u64 seen;
__u32 total = 7;

/* Returns the answer; writes a byte of the packet, a word of the context and the counters. */
SEC("tc")
int count(struct __sk_buff *skb)
{
	__u8 mark = 0xab;
	__u32 zero = 0;
	__u32 *counter = bpf_map_lookup_elem(&counters, &zero);

	if (counter)
		*counter += 1;
	bpf_skb_store_bytes(skb, 0, &mark, 1, 0);
	skb->mark = skb->cb[4] + 1;
	skb->cb[0] = ranges[1].last;
	__sync_fetch_and_add(&seen, 1);
	__sync_fetch_and_add(&total, 1);
	return enabled ? (int)answer : -1;
}

/* Makes the packet 14 bytes longer. */
SEC("tc")
int grow(struct __sk_buff *skb)
{
	return bpf_skb_change_tail(skb, skb->len + 14, 0) ? TC_ACT_SHOT : TC_ACT_OK;
}

/* Sends the length of the packet. */
SEC("tc")
int sample(struct __sk_buff *skb)
{
	__u32 *record = bpf_ringbuf_reserve(&samples, sizeof(*record), 0);

	if (!record)
		return TC_ACT_SHOT;
	*record = skb->len;
	bpf_ringbuf_submit(record, 0);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
