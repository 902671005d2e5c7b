/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the one-line hooks in the upstream IPVS files call. Everything here does nothing for
 * packets and connections that are not accelerated, and costs them a compare.
 */
#ifndef IP_VS_BPF_H
#define IP_VS_BPF_H

#include <linux/netfilter.h>
#include <linux/skbuff.h>
#include <net/ip_vs.h>

/* Called once, from ip_vs_init: the hook functions that PRE_ROUTING shares with the others. */
void ip_vs_bpf_init(nf_hookfn *in_hook, nf_hookfn *out_hook);

/* Process context. On failure the namespace just has no accelerated mode. */
void ip_vs_bpf_net_init(struct netns_ipvs *ipvs);
/* Process context, before the connections of the namespace are flushed; may sleep. */
void ip_vs_bpf_net_unhook(struct netns_ipvs *ipvs);
/* Process context, after the connections of the namespace are gone; may sleep. */
void ip_vs_bpf_net_cleanup(struct netns_ipvs *ipvs);

bool ip_vs_bpf_take_request(struct ip_vs_conn **cp, struct sk_buff *skb,
			    const struct nf_hook_state *state);
bool ip_vs_bpf_take_connection(struct ip_vs_conn *cp, struct sk_buff *skb,
			       const struct nf_hook_state *state);
bool ip_vs_bpf_take_reply(struct ip_vs_conn *cp, struct sk_buff *skb,
			  const struct nf_hook_state *state);
unsigned int ip_vs_bpf_send_reply(int af, struct sk_buff *skb);
unsigned int ip_vs_bpf_send_request(struct sk_buff *skb, struct ip_vs_conn *cp, int local);
void ip_vs_bpf_remove_session(struct ip_vs_conn *cp);
void ip_vs_bpf_count_timer(struct timer_list *timer);
bool ip_vs_bpf_postpone_expiry(struct ip_vs_conn *cp);
void ip_vs_bpf_forbid_postponing(struct ip_vs_conn *cp);

/* True once the connection has a session, until it is freed. */
static inline bool ip_vs_bpf_conn(const struct ip_vs_conn *cp)
{
	return READ_ONCE(cp->bpf_cookie) != 0;
}

/* Any context; cp is not visible to others yet, and its memory is not zeroed. */
static inline void ip_vs_bpf_conn_init(struct ip_vs_conn *cp)
{
	cp->bpf_in_dst = NULL;
	cp->bpf_out_dst = NULL;
	cp->bpf_in_ifindex = 0;
	cp->bpf_out_ifindex = 0;
	cp->bpf_out_until = 0;
	cp->bpf_cookie = 0;
	cp->bpf_service = 0;
	cp->bpf_until[0] = 0;
	cp->bpf_until[1] = 0;
	cp->bpf_reply_flow = 0;
	cp->bpf_session = NULL;
	timer_setup(&cp->bpf_timer, ip_vs_bpf_count_timer, 0);
}

/*
 * Softirq, under RCU, in ip_vs_in_hook behind the connection look-up. False: PRE_ROUTING does
 * not take the packet, the reference to *cp (may be NULL) is dropped, and the caller accepts.
 * *cp becomes NULL if the packet begins a connection where a native one has been.
 */
static inline bool ip_vs_bpf_request(struct ip_vs_conn **cp, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	return likely(state->hook != NF_INET_PRE_ROUTING) ||
	       ip_vs_bpf_take_request(cp, skb, state);
}

/*
 * Softirq, under RCU, in ip_vs_in_hook once there is a connection, before anything is counted or
 * sent. False: the connection stays on the native path, the reference is dropped, and the caller
 * accepts.
 */
static inline bool ip_vs_bpf_session(struct ip_vs_conn *cp, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	return likely(state->hook != NF_INET_PRE_ROUTING) || ip_vs_bpf_conn(cp) ||
	       ip_vs_bpf_take_connection(cp, skb, state);
}

/* As ip_vs_bpf_request, in ip_vs_out_hook. */
static inline bool ip_vs_bpf_reply(struct ip_vs_conn *cp, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	return likely(state->hook != NF_INET_PRE_ROUTING) ||
	       ip_vs_bpf_take_reply(cp, skb, state);
}

/* Softirq, under RCU: a reply has been translated; PRE_ROUTING sends it on by itself. */
static inline unsigned int ip_vs_bpf_reply_verdict(int af, struct sk_buff *skb,
						   unsigned int hooknum)
{
	if (likely(hooknum != NF_INET_PRE_ROUTING))
		return NF_ACCEPT;
	return ip_vs_bpf_send_reply(af, skb);
}

/* Softirq timer, or process context. True: tc has seen packets lately, and the timer runs again. */
static inline bool ip_vs_bpf_postpone(struct ip_vs_conn *cp)
{
	return ip_vs_bpf_conn(cp) && ip_vs_bpf_postpone_expiry(cp);
}

/* Any context, under RCU: the connection is to end now, whatever tc sees. */
static inline void ip_vs_bpf_kill(struct ip_vs_conn *cp)
{
	if (ip_vs_bpf_conn(cp))
		ip_vs_bpf_forbid_postponing(cp);
}

/* Softirq timer, or process context with BH enabled; cp is unlinked and not referenced. */
static inline void ip_vs_bpf_conn_del(struct ip_vs_conn *cp)
{
	if (ip_vs_bpf_conn(cp))
		ip_vs_bpf_remove_session(cp);
}

#endif
