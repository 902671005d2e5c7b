// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What ip_vs does before tc egress: gives the packets of one client the hint of service 1. */
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __be32 hint_client;

SEC("tc")
int leave_hint(struct __sk_buff *skb)
{
	__be32 saddr;

	if (!bpf_skb_load_bytes_relative(skb, offsetof(struct iphdr, saddr), &saddr, sizeof(saddr),
					 BPF_HDR_START_NET) &&
	    saddr == hint_client) {
		skb->cb[3] = IPVS_HINT_REROUTED;
		skb->cb[4] = IPVS_HINT_MAGIC | 1;
	}
	return TC_ACT_UNSPEC;
}
