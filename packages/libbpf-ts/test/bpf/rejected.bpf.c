// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A program that no verifier lets through. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int unbounded(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;

	return *(int *)data;
}

char _license[] SEC("license") = "GPL";
