// SPDX-License-Identifier: GPL-2.0-only
/*
 * Accelerated mode of IPVS: requests of whitelisted virtual servers are taken at PRE_ROUTING,
 * before conntrack, and every connection made there is a session in an eBPF map, from which the
 * tc programs do SNAT. The contract with them is abi.h.
 *
 * The packets run through ip_vs_in_hook and ip_vs_out_hook as on the native path; the route that
 * those expect is looked up for the first packet of a connection and direction, and remembered.
 * Whatever this file is not sure about it leaves to the native path.
 */
#define KMSG_COMPONENT "IPVS"
#define pr_fmt(fmt) KMSG_COMPONENT ": " fmt

#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/icmp.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/jhash.h>
#include <linux/module.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter_ipv4.h>
#include <linux/sysctl.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#include <net/gso.h>
#endif
#include <net/checksum.h>
#include <net/dst_metadata.h>
#include <net/icmp.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/route.h>

#include "abi.h"
#include "ip_vs_bpf.h"

/* Makes modpost write a srcversion, by which an agent tells one build from another. */
MODULE_VERSION("ipvs-bpf-" __stringify(IPVS_BPF_ABI));

/* linux/module.h: the name space became a string in 6.13. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("BPF_INTERNAL");
#else
MODULE_IMPORT_NS(BPF_INTERNAL);
#endif

/* linux/sysctl.h: handlers take the table as const since 6.11. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define CTL_CONST const
#else
#define CTL_CONST
#endif

/* Added by 6.6; before, a table ended with an empty entry. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define register_net_sysctl_sz(net, path, table, size) register_net_sysctl(net, path, table)
#endif

enum ip_vs_bpf_map {
	SERVICES,
	SESSIONS,
	REPLIES,
	FRAGS,
	SNAT_ADDRS,
	SNAT_IDS,
	COUNTERS,
	MAPS,
};

static const struct ip_vs_bpf_map_spec {
	const char *name;
	enum bpf_map_type type;
	u32 key_size;
	u32 value_size;
	u32 min_entries;
} map_specs[MAPS] = {
	[SERVICES] = { "services", BPF_MAP_TYPE_HASH, sizeof(struct ipvs_service_key),
		       sizeof(struct ipvs_service), 1 },
	[SESSIONS] = { "sessions", BPF_MAP_TYPE_HASH, sizeof(struct ipvs_session_key),
		       sizeof(struct ipvs_session), 1 },
	[REPLIES] = { "replies", BPF_MAP_TYPE_HASH, sizeof(struct ipvs_reply_key),
		      sizeof(struct ipvs_session_key), 1 },
	[FRAGS] = { "frags", BPF_MAP_TYPE_LRU_HASH, sizeof(struct ipvs_frag_key),
		    sizeof(struct ipvs_session_key), 1 },
	[SNAT_ADDRS] = { "snat_addrs", BPF_MAP_TYPE_ARRAY, sizeof(u32),
			 sizeof(struct ipvs_snat_addr), IPVS_SNAT_ADDRS },
	[SNAT_IDS] = { "snat_ids", BPF_MAP_TYPE_HASH, sizeof(struct ipvs_addr), sizeof(u32), 1 },
	[COUNTERS] = { "counters", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(u64),
		       IPVS_COUNTERS },
};

/* Serialise adding and removing the session of one client address and port. */
#define SESSION_LOCKS 256

/*
 * The accelerated mode of one network namespace. The maps stay while the hooks are registered
 * or a connection has a session, so that the packet path needs no protection for them.
 */
struct ip_vs_bpf {
	struct netns_ipvs *ipvs;
	struct bpf_map *map[MAPS];
	atomic_t conns;       /* with a session */
	atomic_t local_conns; /* of them, with a real server on this host */
	atomic_t cookie;
	bool on;              /* take new connections */
	bool hooked;
	struct mutex lock;    /* on, hooked, map[] */
	struct work_struct unhook;
	struct ctl_table *table;
	struct ctl_table_header *table_header;
	spinlock_t session_lock[SESSION_LOCKS];
};

/* What the PRE_ROUTING hook and the hooks inside ip_vs_in_hook and ip_vs_out_hook share. */
struct ip_vs_bpf_packet {
	struct nf_hook_state state;
	struct ip_vs_bpf *bpf;
	const struct ipvs_service *service;
	unsigned int verdict; /* if the shared hook functions accept */
	bool taken;
};

static nf_hookfn *shared_in_hook;
static nf_hookfn *shared_out_hook;

static struct ip_vs_bpf_packet *packet_of(const struct nf_hook_state *state)
{
	return container_of((struct nf_hook_state *)state, struct ip_vs_bpf_packet, state);
}

/* ---- maps: callers are in softirq or have BH disabled, and hold the RCU read lock ---- */

static void *map_lookup(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key)
{
	struct bpf_map *map = bpf->map[which];

	return map->ops->map_lookup_elem(map, (void *)key);
}

static int map_update(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key,
		      const void *value)
{
	struct bpf_map *map = bpf->map[which];

	return map->ops->map_update_elem(map, (void *)key, (void *)value, BPF_ANY);
}

static void map_delete(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key)
{
	struct bpf_map *map = bpf->map[which];

	map->ops->map_delete_elem(map, (void *)key);
}

static void count(struct ip_vs_bpf *bpf, enum ipvs_counter counter)
{
	u32 index = counter;
	u64 *value = map_lookup(bpf, COUNTERS, &index);

	if (value)
		(*value)++;
}

static struct ipvs_addr addr4(__be32 address)
{
	return (struct ipvs_addr){ .w = { 0, 0, htonl(0xffff), address } };
}

/* ---- sessions ---- */

static struct ipvs_session_key session_key(const struct ip_vs_conn *cp, u32 service_id)
{
	return (struct ipvs_session_key){
		.caddr = addr4(cp->caddr.ip),
		.service_id = service_id,
		.cport = cp->cport,
	};
}

static u32 service_id_of(const struct ip_vs_conn *cp)
{
	return cp->bpf_service & IPVS_SERVICE_ID_MAX;
}

#define BPF_SERVICE_LOCAL 0x80000000 /* in cp->bpf_service: the real server is on this host */

static spinlock_t *session_lock(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp)
{
	u32 hash = jhash_2words((__force u32)cp->caddr.ip, (__force u32)cp->cport, 0);

	return &bpf->session_lock[hash % SESSION_LOCKS];
}

/* Ends a session whose snat word was `word`: no tc program can publish a SNAT end any more. */
static void end_session(struct ip_vs_bpf *bpf, struct ipvs_session *session)
{
	u64 word = xchg(&session->snat, 0);
	struct ipvs_reply_key key = {
		.daddr = session->daddr,
		.dport = session->dport,
		.snat_port = IPVS_SNAT_PORT(word),
		.snat_addr_id = IPVS_SNAT_ADDR_ID(word),
		.protocol = session->protocol,
	};

	if (key.snat_addr_id != IPVS_SNAT_UNDECIDED && key.snat_addr_id != IPVS_SNAT_NONE)
		map_delete(bpf, REPLIES, &key);
}

static u32 next_cookie(struct ip_vs_bpf *bpf)
{
	u32 cookie = atomic_inc_return(&bpf->cookie);

	return cookie ?: atomic_inc_return(&bpf->cookie);
}

static int add_session(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp,
		       const struct ipvs_service *service)
{
	u32 cookie = next_cookie(bpf);
	struct ipvs_session_key key = session_key(cp, service->id);
	struct ipvs_session session = {
		.vaddr = addr4(cp->vaddr.ip),
		.daddr = addr4(cp->daddr.ip),
		.vport = cp->vport,
		.dport = cp->dport,
		.protocol = cp->protocol,
		.family = AF_INET,
		.flags = service->flags & IPVS_SERVICE_SNAT_MASK,
		.snat = IPVS_SNAT_WORD(cookie, IPVS_SNAT_UNDECIDED, 0),
	};
	struct ipvs_session *old;
	int err;

	spin_lock_bh(session_lock(bpf, cp));
	/* A client port that is used again before the old connection is freed. */
	old = map_lookup(bpf, SESSIONS, &key);
	if (old) {
		end_session(bpf, old);
		count(bpf, IPVS_COUNT_SESSION_REPLACED);
	}
	err = map_update(bpf, SESSIONS, &key, &session);
	spin_unlock_bh(session_lock(bpf, cp));
	if (err)
		return err;
	atomic_inc(&bpf->conns);
	cp->bpf_service = service->id;
	WRITE_ONCE(cp->bpf_cookie, cookie);
	count(bpf, IPVS_COUNT_SESSION_ADDED);
	return 0;
}

void ip_vs_bpf_remove_session(struct ip_vs_conn *cp)
{
	struct ip_vs_bpf *bpf = cp->ipvs->bpf;
	struct ipvs_session_key key = session_key(cp, service_id_of(cp));
	struct ipvs_session *session;

	rcu_read_lock();
	spin_lock_bh(session_lock(bpf, cp));
	session = map_lookup(bpf, SESSIONS, &key);
	if (session && IPVS_SNAT_COOKIE(READ_ONCE(session->snat)) == cp->bpf_cookie) {
		end_session(bpf, session);
		map_delete(bpf, SESSIONS, &key);
		count(bpf, IPVS_COUNT_SESSION_REMOVED);
	}
	spin_unlock_bh(session_lock(bpf, cp));
	rcu_read_unlock();

	/* Both may be in use for a packet that holds no reference: freed after a grace period. */
	dst_release(cp->bpf_in_dst);
	dst_release(cp->bpf_out_dst);
	if (cp->bpf_service & BPF_SERVICE_LOCAL)
		atomic_dec(&bpf->local_conns);
	/* From here on the maps may go. */
	if (atomic_dec_and_test(&bpf->conns) && !READ_ONCE(bpf->on))
		schedule_work(&bpf->unhook);
}

/* ---- routes ---- */

static bool dst_is_valid(struct dst_entry *dst)
{
	return !dst->obsolete || dst->ops->check(dst, 0);
}

/* Uses the remembered route if it was found for packets of the same interface. */
static bool use_dst(struct sk_buff *skb, struct dst_entry *dst, int ifindex)
{
	if (unlikely(!dst || ifindex != skb->dev->ifindex || !dst_is_valid(dst)))
		return false;
	skb_dst_drop(skb);
	skb_dst_set_noref(skb, dst);
	return true;
}

static void remember_dst(struct ip_vs_conn *cp, const struct sk_buff *skb, struct dst_entry **slot,
			 int *ifindex)
{
	struct dst_entry *dst = skb_dst(skb);

	if (!dst_hold_safe(dst))
		return;
	spin_lock_bh(&cp->lock);
	WRITE_ONCE(*ifindex, 0);
	dst = xchg(slot, dst);
	WRITE_ONCE(*ifindex, skb->dev->ifindex);
	spin_unlock_bh(&cp->lock);
	dst_release(dst);
}

/* The route that the stack would find: validates the source (rp_filter, martians) as well. */
static bool route_input(struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);

	return !ip_route_input_noref(skb, iph->daddr, iph->saddr, iph->tos, skb->dev);
}

/* As if this host had sent the translated reply: see ip_vs_route_me_harder. */
static bool route_reply(struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct flowi4 fl4 = {
		.daddr = cp->caddr.ip,
		.saddr = cp->vaddr.ip,
		.flowi4_tos = RT_TOS(ip_hdr(skb)->tos),
		.flowi4_mark = skb->mark,
		.flowi4_flags = FLOWI_FLAG_ANYSRC,
	};
	struct rtable *rt = ip_route_output_key(cp->ipvs->net, &fl4);

	if (IS_ERR(rt))
		return false;
	skb_dst_drop(skb);
	skb_dst_set(skb, &rt->dst);
	return true;
}

/* True if packets with this input route would be forwarded, to one host. */
static bool is_forwarded(const struct sk_buff *skb)
{
	const struct rtable *rt = skb_rtable(skb);

	return rt->rt_type == RTN_UNICAST && !rt->dst.error;
}

/* ---- packets ---- */

static void set_untracked(struct sk_buff *skb)
{
	nf_reset_ct(skb);
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
}

/*
 * What only the native path does right: IP options (not parsed yet at PRE_ROUTING), IPsec,
 * packets merged by LRO.
 */
static bool needs_native_path(const struct net *net, const struct sk_buff *skb)
{
	if (unlikely(ip_hdr(skb)->ihl != 5 || skb_warn_if_lro(skb)))
		return true;
#ifdef CONFIG_XFRM
	if (unlikely(net->xfrm.policy_count[XFRM_POLICY_OUT] ||
		     net->xfrm.policy_count[XFRM_POLICY_FWD]))
		return true;
#endif
	return false;
}

bool ip_vs_bpf_take_request(struct ip_vs_conn *cp, struct sk_buff *skb,
			    const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);

	if (unlikely(!cp)) {
		packet->taken = packet->service && !needs_native_path(state->net, skb) &&
				route_input(skb);
		return packet->taken;
	}
	if (!ip_vs_bpf_conn(cp))
		goto leave;
	packet->taken = true;
	if (unlikely(needs_native_path(state->net, skb))) {
		set_untracked(skb);
		goto leave;
	}
	if (likely(use_dst(skb, cp->bpf_in_dst, cp->bpf_in_ifindex)))
		return true;
	if (!route_input(skb))
		goto leave;
	remember_dst(cp, skb, &cp->bpf_in_dst, &cp->bpf_in_ifindex);
	return true;
leave:
	if (cp)
		__ip_vs_conn_put(cp);
	return false;
}

/* Kinds of connections that have no client port yet, more than one, or a helper. */
static bool is_supported(const struct ip_vs_conn *cp)
{
	const unsigned int other = IP_VS_CONN_F_TEMPLATE | IP_VS_CONN_F_ONE_PACKET |
				   IP_VS_CONN_F_NO_CPORT | IP_VS_CONN_F_SYNC;

	return cp->af == AF_INET && cp->daf == AF_INET && !(cp->flags & other) && !cp->app &&
	       IP_VS_FWD_METHOD(cp) == IP_VS_CONN_F_MASQ;
}

bool ip_vs_bpf_take_connection(struct ip_vs_conn *cp, struct sk_buff *skb,
			       const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);
	struct ip_vs_bpf *bpf = packet->bpf;

	if (!packet->service || !is_supported(cp)) {
		count(bpf, IPVS_COUNT_BYPASS_UNSUPPORTED);
	} else if (likely(!add_session(bpf, cp, packet->service))) {
		spin_lock_bh(&cp->lock);
		cp->flags &= ~IP_VS_CONN_F_NFCT;
		spin_unlock_bh(&cp->lock);
		remember_dst(cp, skb, &cp->bpf_in_dst, &cp->bpf_in_ifindex);
		return true;
	} else if (packet->service->flags & IPVS_SERVICE_DROP_ON_FULL) {
		count(bpf, IPVS_COUNT_DROP_MAP_FULL);
		packet->verdict = NF_DROP;
		/* Nothing was sent; the next packet of this client is scheduled anew. */
		cp->timeout = 0;
	} else {
		count(bpf, IPVS_COUNT_BYPASS_MAP_FULL);
	}
	ip_vs_conn_put(cp);
	return false;
}

/*
 * Before IP fragments a packet: fragments carry no control block, so tc egress finds their
 * session by what identifies the datagram.
 */
static void announce_fragments(struct sk_buff *skb, struct ip_vs_conn *cp)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct ipvs_session_key session = session_key(cp, service_id_of(cp));
	struct ipvs_frag_key key = {
		.saddr = addr4(iph->saddr),
		.daddr = addr4(iph->daddr),
		.id = (__force __be32)(__force u16)iph->id,
		.protocol = iph->protocol,
	};

	map_update(cp->ipvs->bpf, FRAGS, &key, &session);
}

static void set_hint(struct sk_buff *skb, u32 hint)
{
	BUILD_BUG_ON(sizeof(struct inet_skb_parm) > 24);
	BUILD_BUG_ON(sizeof(skb->cb) < 28);
	*(u32 *)&skb->cb[24] = hint;
}

/* Sends without OUTPUT and POSTROUTING. */
static unsigned int output(struct net *net, struct sk_buff *skb)
{
	IPCB(skb)->flags |= IPSKB_REROUTED;
	skb_forward_csum(skb);
	skb_clear_tstamp(skb);
	dst_output(net, NULL, skb);
	return NF_STOLEN;
}

/*
 * Softirq, under RCU: instead of ip_vs_nat_send_or_cont, for requests and for ICMP errors of the
 * client's side. Returns NF_STOLEN, or NF_ACCEPT if the real server is on this host.
 */
unsigned int ip_vs_bpf_send_request(struct sk_buff *skb, struct ip_vs_conn *cp, int local)
{
	skb->ipvs_property = 1;
	set_untracked(skb);
	skb_orphan(skb);
	if (unlikely(local)) {
		spin_lock_bh(&cp->lock);
		if (!(cp->bpf_service & BPF_SERVICE_LOCAL)) {
			cp->bpf_service |= BPF_SERVICE_LOCAL;
			atomic_inc(&cp->ipvs->bpf->local_conns);
		}
		spin_unlock_bh(&cp->lock);
		return NF_ACCEPT;
	}
	set_hint(skb, IPVS_HINT_MAGIC | service_id_of(cp));
	if (unlikely(!skb_is_gso(skb) &&
		     (IPCB(skb)->frag_max_size || skb->len > dst_mtu(skb_dst(skb)))))
		announce_fragments(skb, cp);
	return output(cp->ipvs->net, skb);
}

/* Softirq, under RCU: the reply has the virtual server's address now, and its route. */
unsigned int ip_vs_bpf_send_reply(struct sk_buff *skb)
{
	struct net *net = dev_net(skb->dev);

	set_untracked(skb);
	set_hint(skb, 0);
	IPCB(skb)->flags |= IPSKB_FORWARDED;
	if (READ_ONCE(net->ipv4.sysctl_ip_fwd_update_priority))
		skb->priority = rt_tos2priority(ip_hdr(skb)->tos);
	IP_INC_STATS(net, IPSTATS_MIB_OUTFORWDATAGRAMS);
	return output(net, skb);
}

/* ---- replies ---- */

static void rewrite_destination(struct sk_buff *skb, __be32 address, __be16 port)
{
	struct iphdr *iph = ip_hdr(skb);
	__be16 *dport = (__be16 *)((u8 *)iph + iph->ihl * 4) + 1;
	bool udp = iph->protocol == IPPROTO_UDP;
	__sum16 *check = udp ? &((struct udphdr *)(dport - 1))->check :
			       &((struct tcphdr *)(dport - 1))->check;

	if (!udp || *check || skb->ip_summed == CHECKSUM_PARTIAL) {
		inet_proto_csum_replace4(check, skb, iph->daddr, address, true);
		inet_proto_csum_replace2(check, skb, *dport, port, false);
		if (udp && !*check)
			*check = CSUM_MANGLED_0;
	}
	*dport = port;
	iph->daddr = address;
	ip_send_check(iph);
}

static bool make_l4_writable(struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	unsigned int l4 = iph->protocol == IPPROTO_UDP ? sizeof(struct udphdr) :
							 sizeof(struct tcphdr);

	return !skb_ensure_writable(skb, skb_network_offset(skb) + iph->ihl * 4 + l4);
}

/* The SNAT end of a session; false if the real server sees the client's own address. */
static bool snat_end(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, __be32 *address, __be16 *port)
{
	struct ipvs_session_key key = session_key(cp, service_id_of(cp));
	struct ipvs_session *session = map_lookup(bpf, SESSIONS, &key);
	u64 word = session ? READ_ONCE(session->snat) : 0;
	u32 id = IPVS_SNAT_ADDR_ID(word);
	struct ipvs_snat_addr *snat = map_lookup(bpf, SNAT_ADDRS, &id);

	if (IPVS_SNAT_COOKIE(word) != cp->bpf_cookie || id == IPVS_SNAT_UNDECIDED || !snat)
		return false;
	*address = snat->addr.w[3];
	*port = IPVS_SNAT_PORT(word);
	return true;
}

/*
 * Tells the real server why its reply goes no further. What the error quotes must be what the
 * real server sent, so the destination that tc ingress put in is taken out again, in a copy.
 */
static void refuse_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			 int type, int code, __be32 info)
{
	struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC);
	__be32 address;
	__be16 port;

	if (!copy)
		return;
	if (!snat_end(bpf, cp, &address, &port))
		icmp_send(copy, type, code, info);
	else if (make_l4_writable(copy)) {
		rewrite_destination(copy, address, port);
		icmp_send(copy, type, code, info);
	}
	kfree_skb(copy);
}

static bool exceeds_mtu(const struct sk_buff *skb, unsigned int mtu)
{
	if (skb->len <= mtu || !(ip_hdr(skb)->frag_off & htons(IP_DF)) || skb->ignore_df)
		return false;
	return !skb_is_gso(skb) || !skb_gso_validate_network_len(skb, mtu);
}

/* What ip_forward does, in its order. */
static bool forward_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb)
{
	struct net *net = cp->ipvs->net;
	unsigned int mtu;

	if (unlikely(ip_hdr(skb)->ttl <= 1)) {
		IP_INC_STATS(net, IPSTATS_MIB_INHDRERRORS);
		refuse_reply(bpf, cp, skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0);
		return false;
	}
	mtu = ip_dst_mtu_maybe_forward(skb_dst(skb), true);
	if (unlikely(exceeds_mtu(skb, mtu))) {
		IP_INC_STATS(net, IPSTATS_MIB_FRAGFAILS);
		refuse_reply(bpf, cp, skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, htonl(mtu));
		return false;
	}
	if (skb_ensure_writable(skb, skb_network_offset(skb) + sizeof(struct iphdr)))
		return false;
	ip_decrease_ttl(ip_hdr(skb));
	return true;
}

bool ip_vs_bpf_take_reply(struct ip_vs_conn *cp, struct sk_buff *skb,
			  const struct nf_hook_state *state)
{
	struct ip_vs_bpf_packet *packet = packet_of(state);

	if (!cp || !ip_vs_bpf_conn(cp))
		goto leave;
	packet->taken = true;
	set_untracked(skb);
	if (unlikely(needs_native_path(state->net, skb)))
		goto leave;
	if (unlikely(!use_dst(skb, cp->bpf_out_dst, cp->bpf_out_ifindex))) {
		/* Not for another host: LOCAL_IN translates it, or the stack drops it. */
		if (!route_input(skb) || !is_forwarded(skb))
			goto leave;
		if (cp->ipvs->sysctl_snat_reroute && !route_reply(cp, skb))
			goto leave;
		if (likely(!skb->mark))
			remember_dst(cp, skb, &cp->bpf_out_dst, &cp->bpf_out_ifindex);
	}
	if (likely(forward_reply(packet->bpf, cp, skb)))
		return true;
	packet->verdict = NF_DROP;
leave:
	if (cp)
		__ip_vs_conn_put(cp);
	return false;
}

/* tc ingress leaves fragmented replies alone; here they are whole again. */
static void reverse_reassembled_reply(struct ip_vs_bpf *bpf, struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct ipvs_addr address = addr4(iph->daddr);
	struct ipvs_reply_key key = { .daddr = addr4(iph->saddr), .protocol = iph->protocol };
	struct ipvs_session_key *session;
	u32 *id = map_lookup(bpf, SNAT_IDS, &address);
	__be16 *ports;

	if (!id || !make_l4_writable(skb))
		return;
	ports = (__be16 *)skb_transport_header(skb);
	key.dport = ports[0];
	key.snat_port = ports[1];
	key.snat_addr_id = *id;
	session = map_lookup(bpf, REPLIES, &key);
	if (!session)
		return;
	rewrite_destination(skb, session->caddr.w[3], session->cport);
	count(bpf, IPVS_COUNT_REPLY_REASSEMBLED);
}

/* ---- hooks ---- */

/* True if the datagram is whole now; otherwise the fragment is kept or freed. */
static bool reassemble(struct ip_vs_bpf *bpf, struct sk_buff *skb)
{
	if (ip_defrag(bpf->ipvs->net, skb, IP_DEFRAG_VS_OUT))
		return false;
	ip_send_check(ip_hdr(skb));
	skb_set_transport_header(skb, skb_network_offset(skb) + ip_hdr(skb)->ihl * 4);
	reverse_reassembled_reply(bpf, skb);
	return true;
}

static const struct ipvs_service *find_service(struct ip_vs_bpf *bpf, const struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);
	struct ipvs_service_key key = { .vaddr = addr4(iph->daddr), .protocol = iph->protocol };
	__be16 _ports[2], *ports;

	ports = skb_header_pointer(skb, skb_network_offset(skb) + iph->ihl * 4, sizeof(_ports),
				   _ports);
	if (!ports)
		return NULL;
	key.vport = ports[1];
	return map_lookup(bpf, SERVICES, &key);
}

/* Runs a shared hook function; a packet that it does not take is as it was before. */
static unsigned int run_hook(nf_hookfn *hook, struct ip_vs_bpf_packet *packet,
			     struct sk_buff *skb)
{
	unsigned int verdict = hook(NULL, skb, &packet->state);

	if (verdict != NF_ACCEPT)
		return verdict;
	/* The stack routes it again, by the address that it has now. */
	skb_dst_drop(skb);
	return packet->verdict;
}

static unsigned int take_transport(struct ip_vs_bpf_packet *packet, struct sk_buff *skb)
{
	struct ip_vs_bpf *bpf = packet->bpf;
	unsigned int verdict;

	if (unlikely(ip_is_fragment(ip_hdr(skb))) && !reassemble(bpf, skb))
		return NF_STOLEN;
	if (READ_ONCE(bpf->on))
		packet->service = find_service(bpf, skb);
	if (packet->service)
		return run_hook(shared_in_hook, packet, skb);
	if (!atomic_read(&bpf->conns))
		return NF_ACCEPT;
	verdict = run_hook(shared_out_hook, packet, skb);
	if (packet->taken || verdict != NF_ACCEPT)
		return verdict;
	/* A request of a connection whose virtual server is not whitelisted any more? */
	return run_hook(shared_in_hook, packet, skb);
}

/*
 * The connection that an ICMP error is about. Its quoted packet has both ends the other way
 * round, and so the same parameters fit the look-up of either direction.
 */
static struct ip_vs_conn *find_quoted(struct netns_ipvs *ipvs, struct sk_buff *skb,
				      nf_hookfn **hook)
{
	unsigned int offset = skb_network_offset(skb) + ip_hdrlen(skb);
	struct icmphdr _icmp, *icmp = skb_header_pointer(skb, offset, sizeof(_icmp), &_icmp);
	struct iphdr _quoted, *quoted;
	struct ip_vs_conn_param param;
	union nf_inet_addr source, destination;
	struct ip_vs_conn *cp;
	__be16 _ports[2], *ports;

	if (!icmp || (icmp->type != ICMP_DEST_UNREACH && icmp->type != ICMP_SOURCE_QUENCH &&
		      icmp->type != ICMP_TIME_EXCEEDED))
		return NULL;
	offset += sizeof(_icmp);
	quoted = skb_header_pointer(skb, offset, sizeof(_quoted), &_quoted);
	if (!quoted || quoted->ihl < 5 || quoted->frag_off & htons(IP_OFFSET) ||
	    (quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP))
		return NULL;
	ports = skb_header_pointer(skb, offset + quoted->ihl * 4, sizeof(_ports), _ports);
	if (!ports)
		return NULL;
	source = (union nf_inet_addr){ .ip = quoted->saddr };
	destination = (union nf_inet_addr){ .ip = quoted->daddr };
	ip_vs_conn_fill_param(ipvs, AF_INET, quoted->protocol, &destination, ports[1], &source,
			      ports[0], &param);
	*hook = shared_in_hook;
	cp = ip_vs_conn_in_get(&param);
	if (cp)
		return cp;
	*hook = shared_out_hook;
	return ip_vs_conn_out_get(&param);
}

static unsigned int take_icmp(struct ip_vs_bpf_packet *packet, struct sk_buff *skb)
{
	struct ip_vs_conn *cp;
	nf_hookfn *hook;
	bool accelerated;
	unsigned int verdict;

	if (!atomic_read(&packet->bpf->conns) || ip_is_fragment(ip_hdr(skb)))
		return NF_ACCEPT;
	cp = find_quoted(packet->bpf->ipvs, skb, &hook);
	if (!cp)
		return NF_ACCEPT;
	accelerated = ip_vs_bpf_conn(cp);
	__ip_vs_conn_put(cp);
	if (!accelerated)
		return NF_ACCEPT;
	set_untracked(skb);
	if (needs_native_path(packet->state.net, skb) || !route_input(skb))
		return NF_ACCEPT;
	/* An error for the client keeps its route: with its new source it would be a martian. */
	verdict = hook(NULL, skb, &packet->state);
	if (verdict == NF_ACCEPT && (hook == shared_in_hook || !skb->ipvs_property))
		skb_dst_drop(skb);
	if (verdict == NF_ACCEPT)
		set_untracked(skb);
	return verdict;
}

static unsigned int pre_routing_hook(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	struct netns_ipvs *ipvs = net_ipvs(state->net);
	struct ip_vs_bpf_packet packet;
	u8 protocol = ip_hdr(skb)->protocol;

	if (skb->ipvs_property || skb->pkt_type != PACKET_HOST || skb_valid_dst(skb) ||
	    nf_bridge_info_exists(skb))
		return NF_ACCEPT;
	packet = (struct ip_vs_bpf_packet){
		.state = *state, .bpf = ipvs->bpf, .verdict = NF_ACCEPT,
	};
	if (likely(protocol == IPPROTO_TCP || protocol == IPPROTO_UDP))
		return take_transport(&packet, skb);
	if (protocol == IPPROTO_ICMP)
		return take_icmp(&packet, skb);
	return NF_ACCEPT;
}

/* Keeps conntrack from replies of real servers on this host; ip_vs_out_hook translates them. */
static unsigned int local_out_hook(void *priv, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	struct netns_ipvs *ipvs = net_ipvs(state->net);
	const struct iphdr *iph = ip_hdr(skb);
	union nf_inet_addr source, destination;
	struct ip_vs_conn_param param;
	struct ip_vs_conn *cp;
	__be16 _ports[2], *ports;

	if (likely(!atomic_read(&ipvs->bpf->local_conns)) || skb->ipvs_property ||
	    (iph->protocol != IPPROTO_TCP && iph->protocol != IPPROTO_UDP))
		return NF_ACCEPT;
	ports = skb_header_pointer(skb, skb_network_offset(skb) + iph->ihl * 4, sizeof(_ports),
				   _ports);
	if (!ports)
		return NF_ACCEPT;
	source = (union nf_inet_addr){ .ip = iph->saddr };
	destination = (union nf_inet_addr){ .ip = iph->daddr };
	ip_vs_conn_fill_param(ipvs, AF_INET, iph->protocol, &source, ports[0], &destination,
			      ports[1], &param);
	cp = ip_vs_conn_out_get(&param);
	if (!cp)
		return NF_ACCEPT;
	if (ip_vs_bpf_conn(cp))
		set_untracked(skb);
	__ip_vs_conn_put(cp);
	return NF_ACCEPT;
}

static const struct nf_hook_ops hook_ops[] = {
	{
		.hook = pre_routing_hook,
		.pf = NFPROTO_IPV4,
		.hooknum = NF_INET_PRE_ROUTING,
		.priority = NF_IP_PRI_CONNTRACK_DEFRAG - 1,
	},
	{
		.hook = local_out_hook,
		.pf = NFPROTO_IPV4,
		.hooknum = NF_INET_LOCAL_OUT,
		.priority = NF_IP_PRI_CONNTRACK_DEFRAG - 1,
	},
};

/* ---- control: all under bpf->lock ---- */

static int hook(struct ip_vs_bpf *bpf)
{
	int err;

	if (bpf->hooked)
		return 0;
	err = nf_register_net_hooks(bpf->ipvs->net, hook_ops, ARRAY_SIZE(hook_ops));
	bpf->hooked = !err;
	return err;
}

static void unhook(struct ip_vs_bpf *bpf)
{
	if (!bpf->hooked)
		return;
	nf_unregister_net_hooks(bpf->ipvs->net, hook_ops, ARRAY_SIZE(hook_ops));
	bpf->hooked = false;
	/* No packet is inside the hooks, so none can make a session, once this returns. */
	synchronize_net();
}

/* Connections with a session need the hooks to their end; the last one takes them away. */
static void unhook_if_idle(struct ip_vs_bpf *bpf)
{
	if (!bpf->on && !atomic_read(&bpf->conns))
		unhook(bpf);
}

static void unhook_work(struct work_struct *work)
{
	struct ip_vs_bpf *bpf = container_of(work, struct ip_vs_bpf, unhook);

	mutex_lock(&bpf->lock);
	unhook_if_idle(bpf);
	mutex_unlock(&bpf->lock);
}

static int set_mode(struct ip_vs_bpf *bpf, const char *text)
{
	u8 mode;
	int err = kstrtou8(text, 10, &mode);

	if (err)
		return err;
	if (mode > 1)
		return -ERANGE;
	if (mode && !bpf->map[0])
		return -ENXIO;
	if (mode)
		err = hook(bpf);
	if (err)
		return err;
	WRITE_ONCE(bpf->on, mode);
	unhook_if_idle(bpf);
	return 0;
}

static bool map_fits(const struct bpf_map *map, const struct ip_vs_bpf_map_spec *spec)
{
	return map->map_type == spec->type && map->key_size == spec->key_size &&
	       map->value_size == spec->value_size && map->max_entries >= spec->min_entries &&
	       !map->frozen;
}

static void put_maps(struct bpf_map **maps)
{
	int i;

	for (i = 0; i < MAPS; i++) {
		if (maps[i])
			bpf_map_put(maps[i]);
		maps[i] = NULL;
	}
}

/* One "name=fd": takes a reference to the map. */
static int get_map(struct bpf_map **maps, char *text)
{
	char *name = strsep(&text, "=");
	struct bpf_map *map;
	u32 fd;
	int i;

	for (i = 0; i < MAPS; i++)
		if (!strcmp(name, map_specs[i].name))
			break;
	if (i == MAPS || maps[i] || !text || kstrtou32(text, 10, &fd))
		return -EINVAL;
	map = bpf_map_get(fd);
	if (IS_ERR(map))
		return PTR_ERR(map);
	maps[i] = map;
	return map_fits(map, &map_specs[i]) ? 0 : -EMEDIUMTYPE;
}

static int get_maps(struct bpf_map **maps, char *text)
{
	char *token;
	int i, err = 0;

	while (!err && (token = strsep(&text, " ")))
		err = get_map(maps, token);
	for (i = 0; !err && i < MAPS; i++)
		if (!maps[i])
			err = -EINVAL;
	return err;
}

/* "none", or one "name=fd" for each map, in the file table of the writing process. */
static int set_maps(struct ip_vs_bpf *bpf, char *text)
{
	struct bpf_map *maps[MAPS] = {};
	int err;

	if (!strcmp(text, "none")) {
		if (bpf->hooked || atomic_read(&bpf->conns))
			return -EBUSY;
		put_maps(bpf->map);
		return 0;
	}
	if (bpf->map[0])
		return -EBUSY;
	err = get_maps(maps, text);
	if (err) {
		put_maps(maps);
		return err;
	}
	memcpy(bpf->map, maps, sizeof(maps));
	return 0;
}

static void show_maps(struct ip_vs_bpf *bpf, char *text, size_t size)
{
	size_t length = 0;
	int i;

	strscpy(text, "none", size);
	for (i = 0; bpf->map[0] && i < MAPS; i++)
		length += scnprintf(text + length, size - length, "%s%s=%u", i ? " " : "",
				    map_specs[i].name, bpf->map[i]->id);
}

#define CONTROL_LENGTH 256 /* longest text of a control file, with its end */

enum control_file { CONTROL_MODE, CONTROL_MAPS, CONTROL_CONNS };

static void show(struct ip_vs_bpf *bpf, enum control_file file, char *text)
{
	mutex_lock(&bpf->lock);
	if (file == CONTROL_MAPS)
		show_maps(bpf, text, CONTROL_LENGTH);
	else
		snprintf(text, CONTROL_LENGTH, "%d",
			 file == CONTROL_MODE ? bpf->on : atomic_read(&bpf->conns));
	mutex_unlock(&bpf->lock);
}

static int store(struct ip_vs_bpf *bpf, enum control_file file, char *text)
{
	int err;

	mutex_lock(&bpf->lock);
	err = file == CONTROL_MAPS ? set_maps(bpf, text) : set_mode(bpf, text);
	mutex_unlock(&bpf->lock);
	return err;
}

/* Handler of the files in /proc/sys/net/ipv4/vs; one whole text a write, or nothing. */
static int control(CTL_CONST struct ctl_table *table, int write, void *buffer, size_t *length,
		   loff_t *position)
{
	struct ip_vs_bpf *bpf = table->extra1;
	enum control_file file = (long)table->extra2;
	char text[CONTROL_LENGTH] = "";
	struct ctl_table string = { .data = text, .maxlen = sizeof(text) };

	if (!write) {
		show(bpf, file, text);
		return proc_dostring(&string, 0, buffer, length, position);
	}
	/* The owner of a container's user name space may open this file. */
	if (!capable(CAP_NET_ADMIN))
		return -EPERM;
	if (*position || *length >= sizeof(text) || memchr(buffer, 0, *length))
		return -EINVAL;
	memcpy(text, buffer, *length);
	*position += *length;
	return store(bpf, file, strim(text));
}

static const struct ctl_table control_table[] = {
	{ .procname = "bpf_mode", .mode = 0644, .extra2 = (void *)CONTROL_MODE },
	{ .procname = "bpf_maps", .mode = 0600, .extra2 = (void *)CONTROL_MAPS },
	{ .procname = "bpf_conns", .mode = 0444, .extra2 = (void *)CONTROL_CONNS },
	{}
};

#define CONTROL_FILES (ARRAY_SIZE(control_table) - 1)

static bool register_control(struct ip_vs_bpf *bpf)
{
	int i;

	bpf->table = kmemdup(control_table, sizeof(control_table), GFP_KERNEL);
	if (!bpf->table)
		return false;
	for (i = 0; i < CONTROL_FILES; i++) {
		bpf->table[i].extra1 = bpf;
		bpf->table[i].proc_handler = control;
		bpf->table[i].maxlen = CONTROL_LENGTH;
	}
	bpf->table_header = register_net_sysctl_sz(bpf->ipvs->net, "net/ipv4/vs", bpf->table,
						   CONTROL_FILES);
	return bpf->table_header;
}

void ip_vs_bpf_init(nf_hookfn *in_hook, nf_hookfn *out_hook)
{
	shared_in_hook = in_hook;
	shared_out_hook = out_hook;
}

void ip_vs_bpf_net_init(struct netns_ipvs *ipvs)
{
	struct ip_vs_bpf *bpf = kzalloc(sizeof(*bpf), GFP_KERNEL);
	int i;

	ipvs->bpf = NULL;
	if (!bpf)
		return;
	bpf->ipvs = ipvs;
	mutex_init(&bpf->lock);
	INIT_WORK(&bpf->unhook, unhook_work);
	for (i = 0; i < SESSION_LOCKS; i++)
		spin_lock_init(&bpf->session_lock[i]);
	if (register_control(bpf)) {
		ipvs->bpf = bpf;
		return;
	}
	kfree(bpf->table);
	kfree(bpf);
}

void ip_vs_bpf_net_unhook(struct netns_ipvs *ipvs)
{
	struct ip_vs_bpf *bpf = ipvs->bpf;

	if (!bpf || !bpf->table_header)
		return;
	unregister_net_sysctl_table(bpf->table_header);
	bpf->table_header = NULL;
	mutex_lock(&bpf->lock);
	bpf->on = false;
	unhook(bpf);
	mutex_unlock(&bpf->lock);
}

void ip_vs_bpf_net_cleanup(struct netns_ipvs *ipvs)
{
	struct ip_vs_bpf *bpf = ipvs->bpf;

	if (!bpf)
		return;
	/* Not done yet if the start of the module failed. */
	ip_vs_bpf_net_unhook(ipvs);
	cancel_work_sync(&bpf->unhook);
	put_maps(bpf->map);
	kfree(bpf->table);
	kfree(bpf);
	ipvs->bpf = NULL;
}
