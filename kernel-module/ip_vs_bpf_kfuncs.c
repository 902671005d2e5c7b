// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kfuncs: tc ingress has IPVS schedule a connection, and tells it of segments that change one, and forwards
 * them all the same. What is not plain is refused: the segment then goes through the IP stack to PRE_ROUTING,
 * which can do everything. Others find a packet's session and translate it, for less than the programs would. A packet's
 * network header is behind skb->data here.
 */
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/netfilter_bridge.h>
#include <linux/tcp.h>
#include <net/ip.h>

#include "ip_vs_bpf_internal.h"

/* linux/btf_ids.h: since 6.9 a set says what it is of. */
#ifndef BTF_KFUNCS_START
#define BTF_KFUNCS_START BTF_SET8_START
#define BTF_KFUNCS_END BTF_SET8_END
#endif

/* A namespace whose packets may be dropped by IPVS's own decision, or are synchronised to others: rare. */
static bool is_plain(const struct netns_ipvs *ipvs)
{
	return !ipvs->sync_state && !ipvs->drop_rate && READ_ONCE(ipvs->bpf->hooked);
}

/* One that the IP layer would see as it is, and have come in by the same device. */
static bool is_plain_packet(const struct sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST && !skb->mark && !skb_dst(skb) && !skb->ipvs_property &&
	       !skb_vlan_tag_present(skb) && !nf_bridge_info_exists(skb) &&
	       !rcu_access_pointer(skb->dev->rx_handler) && !netif_is_l3_slave(skb->dev);
}

/*
 * Who has a hook before ours sees what begins a connection, if it may be a firewall: iptables, nftables and eBPF programs
 * have something of theirs in `priv`, and br_netfilter, whose hook is the very first, has nothing.
 */
static bool may_pass_hooks(const struct net *net, int af)
{
	nf_hookfn *ours = ip_vs_bpf_hook_ops[af == AF_INET6 ? 2 : 0].hook;
	struct nf_hook_entries __rcu *const *hooks = af == AF_INET6 ? net->nf.hooks_ipv6 :
								      net->nf.hooks_ipv4;
	const struct nf_hook_entries *entries = rcu_dereference(hooks[NF_INET_PRE_ROUTING]);
	int i;

	for (i = 0; entries && i < entries->num_hook_entries; i++) {
		if (likely(entries->hooks[i].hook == ours))
			return true;
		if (entries->hooks[i].priv)
			return false;
	}
	return false;
}

static struct ip_vs_conn *schedule_tcp(struct ip_vs_bpf_packet *packet, struct sk_buff *skb,
				       struct ip_vs_iphdr *iph, struct ip_vs_proto_data *pd)
{
	int af = packet->state.pf, ignored;
	struct ip_vs_service *svc;
	__be16 _ports[2], *ports;

	ports = skb_header_pointer(skb, iph->len, sizeof(_ports), _ports);
	if (!ports)
		return NULL;
	svc = ip_vs_service_find(packet->bpf->ipvs, af, 0, IPPROTO_TCP, &iph->daddr, ports[1]);
	return svc ? ip_vs_schedule(svc, skb, pd, &ignored, iph) : NULL;
}

/*
 * True if the packet may begin a connection where this one has been, which is ended then, as ip_vs_in_hook would: a client
 * with few ports comes back by one while its last connection is in TIME_WAIT. Drops the reference.
 */
static bool ends(struct ip_vs_conn *cp, const struct sk_buff *skb)
{
	bool over = ip_vs_bpf_conn(cp) && ip_vs_bpf_is_over(cp, skb);

	if (over)
		ip_vs_conn_expire_now(cp);
	__ip_vs_conn_put(cp);
	return over;
}

/* A connection with its session, or NULL. Takes a reference. */
static struct ip_vs_conn *begin(struct ip_vs_bpf_packet *packet, struct sk_buff *skb,
				struct ip_vs_iphdr *iph, struct ip_vs_proto_data *pd)
{
	struct ip_vs_conn *cp = ip_vs_bpf_begin_scheduling(packet, skb);

	if (cp && !ends(cp, skb))
		return NULL;
	cp = schedule_tcp(packet, skb, iph, pd);
	if (likely(cp))
		return ip_vs_bpf_take_connection(cp, skb, &packet->state) ? cp : NULL;
	ip_vs_bpf_end_scheduling(packet);
	return NULL;
}

static int begin_connection(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb)
{
	struct ip_vs_bpf_packet packet = {
		.state = { .hook = NF_INET_PRE_ROUTING, .pf = af, .net = bpf->ipvs->net },
		.bpf = bpf,
	};
	struct ip_vs_proto_data *pd = ip_vs_proto_data_get(bpf->ipvs, IPPROTO_TCP);
	struct ip_vs_iphdr iph;
	struct ip_vs_conn *cp;

	if (!pd || !may_pass_hooks(bpf->ipvs->net, af) ||
	    !ip_vs_fill_iph_skb(af, skb, false, &iph) || !ip_vs_bpf_take_first(&packet, skb))
		return -EAGAIN;
	cp = begin(&packet, skb, &iph, pd);
	if (!cp)
		return -EAGAIN;
	pd->pp->state_transition(cp, IP_VS_DIR_INPUT, skb, pd, iph.len);
	ip_vs_bpf_offer_first_paths(bpf, cp, skb);
	ip_vs_conn_put(cp);
	count(bpf, IPVS_COUNT_BEGUN);
	return 0;
}

/* The connection of an event, by the packet itself or, if its flow is not known, by the session's key. Takes a reference. */
static struct ip_vs_conn *find_connection(struct netns_ipvs *ipvs, int af, const struct sk_buff *skb,
					  const struct ipvs_event *event)
{
	union nf_inet_addr caddr, vaddr;
	struct ip_vs_conn_param param;
	bool ipv6 = af == AF_INET6;
	struct ip_vs_conn *cp;
	u64 word;

	cp = ip_vs_bpf_find_flow(ipvs->bpf, af, skb, event->reply, &word);
	if (likely(cp && IPVS_SNAT_COOKIE(word) == event->cookie))
		return __ip_vs_conn_get(cp) ? cp : NULL;
	memcpy(&caddr, ipv6 ? event->key.caddr.w : &event->key.caddr.w[3], ipv6 ? 16 : 4);
	memcpy(&vaddr, ipv6 ? event->vaddr.w : &event->vaddr.w[3], ipv6 ? 16 : 4);
	ip_vs_conn_fill_param(ipvs, af, IPPROTO_TCP, &caddr, event->key.cport, &vaddr, event->vport,
			      &param);
	cp = ip_vs_conn_in_get(&param);
	if (likely(cp && cp->bpf_cookie == event->cookie && cp->bpf_cookie))
		return cp;
	if (cp)
		__ip_vs_conn_put(cp);
	return NULL;
}

/* Nothing but the state and the timer of the connection is to change. */
static bool is_told(const struct ip_vs_conn *cp, const struct tcphdr *th)
{
	if (cp->dest && !(cp->dest->cflags & IP_VS_DEST_CF_AVAILABLE))
		return false;
	/* Another one is a new connection by the client's old port. */
	return !th->syn || th->ack || READ_ONCE(cp->state) == IP_VS_TCP_S_SYN_RECV;
}

/* Takes the reference over. */
static int tell(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, struct ip_vs_conn *cp, bool reply)
{
	struct ip_vs_proto_data *pd = ip_vs_proto_data_get(bpf->ipvs, IPPROTO_TCP);
	u32 l4 = skb_network_offset(skb) + (af == AF_INET6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	struct tcphdr _th, *th = skb_header_pointer(skb, l4, sizeof(_th), &_th);
	u8 before;

	if (unlikely(!pd || !th || !is_told(cp, th))) {
		__ip_vs_conn_put(cp);
		return -EAGAIN;
	}
	before = ip_vs_bpf_tell_of(cp);
	pd->pp->state_transition(cp, reply ? IP_VS_DIR_OUTPUT : IP_VS_DIR_INPUT, skb, pd, l4);
	if (ip_vs_bpf_tell_of(cp) != before)
		ip_vs_bpf_update_tell(bpf, cp);
	ip_vs_conn_put(cp);
	count(bpf, IPVS_COUNT_TOLD);
	return 0;
}

/*
 * The mode's namespace of a packet of this family, if a kfunc may act on it. Whoever runs a program by hand (BPF_PROG_RUN)
 * need not have BH disabled, as the locks behind this want it.
 */
static bool may_act_on(const struct netns_ipvs *ipvs, const struct sk_buff *skb)
{
	return in_softirq() && is_plain(ipvs) && is_plain_packet(skb);
}

static struct ip_vs_bpf *bpf_of(const struct sk_buff *skb, int *af)
{
	struct netns_ipvs *ipvs = net_ipvs(dev_net(skb->dev));

	*af = skb->protocol == htons(ETH_P_IPV6) ? AF_INET6 : AF_INET;
	return ipvs && ipvs->bpf && may_act_on(ipvs, skb) ? ipvs->bpf : NULL;
}

bool ip_vs_bpf_tell(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, struct ip_vs_conn *cp, bool reply)
{
	return may_act_on(bpf->ipvs, skb) && __ip_vs_conn_get(cp) && !tell(bpf, af, skb, cp, reply);
}

__bpf_kfunc_start_defs();

/*
 * Has IPVS schedule a connection for a SYN, unless there is one that is not over. 0: it has a session now, and its paths if
 * tc ingress can forward it; another value: PRE_ROUTING is to see the segment. Softirq, under RCU, as the other one.
 */
__bpf_kfunc int bpf_ip_vs_begin(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	int af, err = -EAGAIN;
	struct ip_vs_bpf *bpf = bpf_of(skb, &af);

	if (!bpf || (af == AF_INET && ip_fast_csum((u8 *)ip_hdr(skb), ip_hdr(skb)->ihl)))
		return err;
	err = begin_connection(bpf, af, skb);
	skb_dst_drop(skb);
	return err;
}

/* Of a segment of a session: tells IPVS, unless it means more than another state of its connection. */
__bpf_kfunc int bpf_ip_vs_tell(struct __sk_buff *ctx, const struct ipvs_event *event)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	int af;
	struct ip_vs_bpf *bpf = bpf_of(skb, &af);
	struct ip_vs_conn *cp = bpf ? find_connection(bpf->ipvs, af, skb, event) : NULL;

	return cp ? tell(bpf, af, skb, cp, event->reply) : -EAGAIN;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(ip_vs_bpf_kfunc_ids)
BTF_ID_FLAGS(func, bpf_ip_vs_begin)
BTF_ID_FLAGS(func, bpf_ip_vs_tell)
BTF_ID_FLAGS(func, bpf_ip_vs_find, KF_RET_NULL)
BTF_ID_FLAGS(func, bpf_ip_vs_translate)
BTF_ID_FLAGS(func, bpf_ip_vs_forward)
BTF_KFUNCS_END(ip_vs_bpf_kfunc_ids)

static const struct btf_kfunc_id_set kfunc_set = {
	.owner = THIS_MODULE,
	.set = &ip_vs_bpf_kfunc_ids,
};

static bool registered;

void ip_vs_bpf_register_kfuncs(void)
{
	int err = register_btf_kfunc_id_set(BPF_PROG_TYPE_SCHED_CLS, &kfunc_set);

	registered = !err && ip_vs_bpf_kfunc_ids.cnt;
	if (!registered)
		pr_info("ipvs-bpf: the kernel takes no kfuncs of this module (%d)\n", err);
}

bool ip_vs_bpf_has_kfuncs(void)
{
	return registered;
}
