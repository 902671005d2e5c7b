// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What ip_vs does before tc egress: gives the packets of one client the hint of service 1. */
#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* As in struct ipvs_addr. */
const volatile struct ipvs_addr hint_client;

static __always_inline bool is_from_client(const __be32 *w, int first)
{
	for (int i = first; i < 4; i++)
		if (w[i] != hint_client.w[i])
			return false;
	return true;
}

SEC("tc")
int leave_hint(struct __sk_buff *skb)
{
	struct ipv6hdr ip = {};
	__be32 saddr[4] = {};

	if (bpf_skb_load_bytes_relative(skb, 0, &ip, sizeof(struct iphdr), BPF_HDR_START_NET))
		return TC_ACT_UNSPEC;
	if (ip.version == 4) {
		saddr[3] = ((struct iphdr *)&ip)->saddr;
		if (is_from_client(saddr, 3)) {
			skb->cb[3] = IPVS_HINT_REROUTED;
			skb->cb[4] = IPVS_HINT_MAGIC | 1;
		}
	} else if (!bpf_skb_load_bytes_relative(skb, offsetof(struct ipv6hdr, saddr), saddr,
						sizeof(saddr), BPF_HDR_START_NET) &&
		   is_from_client(saddr, 0)) {
		skb->cb[2] = IPVS_HINT_REROUTED6;
		skb->cb[4] = IPVS_HINT_MAGIC | 1;
	}
	return TC_ACT_UNSPEC;
}
