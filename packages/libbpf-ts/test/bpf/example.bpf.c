// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The object that the examples of README.md work on. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 answer;
const volatile struct range { __u16 first, last; } ranges[2];

struct flow { __be32 address; __be16 port; __u16 zero; };
struct traffic { __u64 packets, bytes; };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow);
	__type(value, struct traffic);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} samples SEC(".maps");

/* Counts the packet, sends its length to user space and marks it. */
SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 slot = 0;
	__u32 length = skb->len;
	__u64 *packets = bpf_map_lookup_elem(&counters, &slot);

	if (packets)
		*packets += 1;
	bpf_ringbuf_output(&samples, &length, sizeof(length), 0);
	skb->mark = ranges[1].first + skb->cb[4];
	return (int)answer;
}

/* Lets go on what another program has marked. */
SEC("tc")
int pass(struct __sk_buff *skb)
{
	return skb->mark ? TC_ACT_OK : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
