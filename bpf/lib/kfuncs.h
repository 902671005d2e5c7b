/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the module ip_vs offers to programs. Who calls it keeps the module from being removed, so there are two
 * objects: ipvs_tc_kfuncs.bpf.o calls, and ipvs_tc.bpf.o leaves to the module's hooks what it would be told.
 */
#ifndef IPVS_BPF_LIB_KFUNCS_H
#define IPVS_BPF_LIB_KFUNCS_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#ifdef IPVS_KFUNCS
#define HAS_KFUNCS true
/* kernel-module/ip_vs_bpf_kfuncs.c */
extern int bpf_ip_vs_begin(struct __sk_buff *skb) __ksym;
extern int bpf_ip_vs_tell(struct __sk_buff *skb, const struct ipvs_event *event) __ksym;
extern __u64 *bpf_ip_vs_find(struct __sk_buff *skb, struct ipvs_found *found, __u32 reply,
			     const __u32 rdwr_buf_size) __ksym;
extern int bpf_ip_vs_translate(struct __sk_buff *skb, const struct ipvs_ends *ends) __ksym;
extern __u64 bpf_ip_vs_forward(struct __sk_buff *skb, enum ipvs_forwarded what) __ksym;
#else
#define HAS_KFUNCS false
static __always_inline int bpf_ip_vs_begin(struct __sk_buff *skb)
{
	(void)skb;
	return -EOPNOTSUPP;
}

static __always_inline int bpf_ip_vs_tell(struct __sk_buff *skb, const struct ipvs_event *event)
{
	(void)skb;
	(void)event;
	return -EOPNOTSUPP;
}

static __always_inline __u64 *bpf_ip_vs_find(struct __sk_buff *skb, struct ipvs_found *found,
					     __u32 reply, const __u32 rdwr_buf_size)
{
	(void)skb;
	(void)found;
	(void)reply;
	(void)rdwr_buf_size;
	return NULL;
}

static __always_inline int bpf_ip_vs_translate(struct __sk_buff *skb, const struct ipvs_ends *ends)
{
	(void)skb;
	(void)ends;
	return -EOPNOTSUPP;
}

static __always_inline __u64 bpf_ip_vs_forward(struct __sk_buff *skb, enum ipvs_forwarded what)
{
	(void)skb;
	(void)what;
	return 0;
}
#endif

#endif
