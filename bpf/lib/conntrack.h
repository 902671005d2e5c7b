/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the module nf_conntrack offers to programs, if it is there when they are loaded. */
#ifndef IPVS_BPF_LIB_CONNTRACK_H
#define IPVS_BPF_LIB_CONNTRACK_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct nf_conn {
	unsigned long status;
};

/* The first 12 bytes of struct bpf_ct_opts: more of them came later, and need not be given. */
struct bpf_ct_opts___first {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
				  __u32 tuple_len, struct bpf_ct_opts___first *opts,
				  __u32 opts_len) __ksym __weak;
void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

/* Known when the programs are loaded: the calls are taken out of them where it is not there. */
static __always_inline bool has_conntrack(void)
{
	return bpf_core_type_exists(struct bpf_ct_opts___first);
}

#endif
