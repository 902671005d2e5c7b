/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the accelerated mode share with each other, and with nobody else. */
#ifndef IP_VS_BPF_INTERNAL_H
#define IP_VS_BPF_INTERNAL_H

#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <net/ip_vs.h>

#include "abi.h"
#include "ip_vs_bpf.h"

enum ip_vs_bpf_map {
	SERVICES,
	SESSIONS,
	REPLIES,
	FRAGS,
	SNAT_ADDRS,
	SNAT_IDS,
	COUNTERS,
	FORWARDED,
	PEER_IFS,
	MAPS,
};

/* Serialise adding and removing the session of one client address and port. */
#define SESSION_LOCK_BITS 8
#define SESSION_LOCKS (1 << SESSION_LOCK_BITS)

/*
 * The accelerated mode of one network namespace. The maps stay while the hooks are registered
 * or a connection has a session, so that the packet path needs no protection for them.
 */
struct ip_vs_bpf {
	struct netns_ipvs *ipvs;
	struct bpf_map *map[MAPS];
	atomic_t conns;       /* with a session */
	atomic_t local_conns; /* of them, with a real server on this host */
	atomic_t ipv6_conns;
	atomic_t cookie;
	bool on;              /* take new connections */
	bool leaving;         /* the module is: sessions outlive it */
	bool hooked;
	struct mutex lock;    /* on, hooked, map[] */
	struct work_struct unhook;
	struct ctl_table *table;
	struct ctl_table_header *table_header;
	struct ip_vs_conn __rcu **flows; /* with the maps; 2^flow_bits, or NULL */
	u32 flow_bits;
	spinlock_t session_lock[SESSION_LOCKS];
	spinlock_t scheduling_lock[SESSION_LOCKS]; /* outside of session_lock */
};

/* Callers of these are in softirq or have BH disabled, and hold the RCU read lock. */

static inline void *map_lookup(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key)
{
	struct bpf_map *map = bpf->map[which];

	return map->ops->map_lookup_elem(map, (void *)key);
}

static inline int map_update(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key,
			     const void *value, u64 flags)
{
	struct bpf_map *map = bpf->map[which];

	return map->ops->map_update_elem(map, (void *)key, (void *)value, flags);
}

static inline void map_delete(struct ip_vs_bpf *bpf, enum ip_vs_bpf_map which, const void *key)
{
	struct bpf_map *map = bpf->map[which];

	map->ops->map_delete_elem(map, (void *)key);
}

static inline void count(struct ip_vs_bpf *bpf, enum ipvs_counter counter)
{
	u32 index = counter;
	u64 *value = map_lookup(bpf, COUNTERS, &index);

	if (value)
		(*value)++;
}

/* Of IPv6, behind nothing but the header: all others have the native path. */
static inline bool ip_vs_bpf_is_sctp(int af, const struct sk_buff *skb)
{
	return (af == AF_INET6 ? ipv6_hdr(skb)->nexthdr : ip_hdr(skb)->protocol) == IPPROTO_SCTP;
}

static inline bool has_ports(int protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static inline struct ipvs_addr addr4(__be32 address)
{
	return (struct ipvs_addr){ .w = { 0, 0, htonl(0xffff), address } };
}

static inline struct ipvs_addr addr_of(int af, const union nf_inet_addr *address)
{
	if (af != AF_INET6)
		return addr4(address->ip);
	return (struct ipvs_addr){ .w = { address->ip6[0], address->ip6[1], address->ip6[2],
					  address->ip6[3] } };
}

/* In cp->bpf_service, beside the id. */
#define BPF_SERVICE_LOCAL 0x80000000 /* the real server is on this host */
#define BPF_SERVICE_KILLED 0x40000000 /* its end was asked for */

static inline u32 service_id_of(const struct ip_vs_conn *cp)
{
	return cp->bpf_service & IPVS_SERVICE_ID_MAX;
}

static inline struct ipvs_session_key ip_vs_bpf_session_key(const struct ip_vs_conn *cp, u32 service_id)
{
	return (struct ipvs_session_key){
		.caddr = addr_of(cp->af, &cp->caddr),
		.service_id = service_id,
		.cport = cp->cport,
	};
}

/* ip_vs_bpf_session.c */
/* What a module that was removed has left in the maps. Process context, before there are hooks. */
void ip_vs_bpf_forget_sessions(struct ip_vs_bpf *bpf);
/* 0, or the error of the map: -E2BIG if it is full. */
int ip_vs_bpf_add_session(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp,
			  const struct ipvs_service *service);
/* The session of a connection, with its lock held, or NULL. BH are disabled. */
struct ipvs_session *ip_vs_bpf_lock_session(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp);
void ip_vs_bpf_unlock_session(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp);
/* The SNAT end of a session; false if the real server sees the client's own address. */
bool ip_vs_bpf_snat_end(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct ipvs_addr *address,
			__be16 *port);

/* ip_vs_bpf_flow.c */
/* Process context, with the maps: 0 or -ENOMEM. */
int ip_vs_bpf_alloc_flows(struct ip_vs_bpf *bpf);
/* Nobody finds connections any more. */
void ip_vs_bpf_free_flows(struct ip_vs_bpf *bpf);
/* Has packets of a connection found, its replies too once it has a SNAT end. Under the session's lock. */
void ip_vs_bpf_add_flows(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, const struct ipvs_session *session);
/* Before it is freed, and when nobody adds them any more. */
void ip_vs_bpf_remove_flows(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp);
/*
 * The accelerated connection of a packet whose transport header stands behind a plain IP header, and its SNAT word; NULL
 * says nothing. Takes no reference.
 */
struct ip_vs_conn *ip_vs_bpf_find_flow(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb, bool reply,
				       u64 *word);

/* NULL if there is none with this id. */
const struct ipvs_snat_addr *ip_vs_bpf_snat_addr(struct ip_vs_bpf *bpf, u32 id);

/* ip_vs_bpf_path.c */
/*
 * Lets tc ingress forward the packets of this direction that are like this one, which has its route
 * and comes in by skb->dev; with a request's, the replies too, by the route that they had last. Nothing
 * changes if the path that there is will do.
 */
void ip_vs_bpf_offer_path(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			  int direction);
/*
 * The same for a connection that tc ingress begins with this packet, by the routes that other connections of its
 * real server have: both ways, if they are known, and whatever changes its state is told.
 */
void ip_vs_bpf_offer_first_paths(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp,
				 const struct sk_buff *skb);
/* enum ipvs_tell: what IPVS wants to know of a TCP connection in this state; and has its paths say so. */
u8 ip_vs_bpf_tell_of(const struct ip_vs_conn *cp);
void ip_vs_bpf_update_tell(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp);

/* ip_vs_bpf_timer.c */
/* Adds what tc ingress has forwarded of a session to IPVS's numbers. Under the session's lock. */
void ip_vs_bpf_take_over_counts(struct ip_vs_conn *cp, struct ipvs_session *session);
/* Again and again, as long as it has a path. */
void ip_vs_bpf_count_later(struct ip_vs_conn *cp);

/* ip_vs_bpf_kfuncs.c */
/* linux/btf.h: since 6.2 and 6.7. */
#ifndef __bpf_kfunc
#define __bpf_kfunc __used noinline
#endif
#ifndef __bpf_kfunc_start_defs
#define __bpf_kfunc_start_defs()                                         \
	__diag_push();                                                   \
	__diag_ignore_all("-Wmissing-prototypes", "called by programs only")
#define __bpf_kfunc_end_defs() __diag_pop()
#endif

/*
 * The session of a plain packet, and in `found` what it is known by; NULL if it is not known here. What is read of it counts
 * if its SNAT word is still found->snat then. The size is that of struct ipvs_session. In ip_vs_bpf_flow.c.
 */
u64 *bpf_ip_vs_find(struct __sk_buff *ctx, struct ipvs_found *found, u32 reply, const u32 rdwr_buf_size);
/*
 * Gives a plain packet other ends, one hop less and another Ethernet header. What pointed into the packet before may not any more. 0, or a negative error, and the packet is as it was. In
 * ip_vs_bpf_translate.c.
 */
int bpf_ip_vs_translate(struct __sk_buff *ctx, const struct ipvs_ends *ends);
int ip_vs_bpf_translate(struct sk_buff *skb, bool ipv6, const struct ipvs_ends *ends);
/*
 * Translates a plain packet of a connection that is known by sight, counts it, and tells IPVS if it has to know. Where it goes
 * then: an interface, and IPVS_FORWARD_TO_PEER; 0: as if it had not been called. In ip_vs_bpf_forward.c.
 */
u64 bpf_ip_vs_forward(struct __sk_buff *ctx, enum ipvs_forwarded what);
/* Of a TCP segment of this connection; false if it means more than another state of it. */
bool ip_vs_bpf_tell(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb, struct ip_vs_conn *cp, bool reply);

/* Once, before there is a network namespace. */
void ip_vs_bpf_register_kfuncs(void);
/* True if tc programs may call them: the kernel has taken the types of this module. */
bool ip_vs_bpf_has_kfuncs(void);

/* ip_vs_bpf_route.c */
/* False: a reply that is not to be forwarded from here, or not to have come in there. */
bool ip_vs_bpf_route_reply4(struct ip_vs_conn *cp, struct sk_buff *skb);
/*
 * Has the route of the replies looked up before there is one, or if the last one's is too old to be used again. They
 * are expected by the interface by which the last one came, or the last one of the real server's other connections.
 * IPVS cannot tell replies of two connections of one client port and one real server from each other, and tc can.
 */
void ip_vs_bpf_expect_reply(struct ip_vs_conn *cp);

/* ip_vs_bpf_reply.c */
/* Whether a packet with ports, no fragment, is a reply that tc ingress is to translate. */
bool ip_vs_bpf_is_to_snat_end(struct ip_vs_bpf *bpf, int af, const struct sk_buff *skb);
/* tc ingress leaves fragmented replies alone; here they are whole again. */
void ip_vs_bpf_reverse_reassembled(struct ip_vs_bpf *bpf, int af, struct sk_buff *skb);
/* Tells the real server why its reply goes no further; type, code and info of the family's ICMP. */
void ip_vs_bpf_refuse_reply(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb,
			    int type, int code, u32 info);

/* ip_vs_bpf_ipv6.c: what differs too much to share; the families' counterparts are static. */
struct ip_vs_bpf_transport {
	int protocol;  /* of the transport header; negative if there is none to be found */
	bool fragment; /* in the sense of nf_ct_frag6_gather: it has a fragment header */
};
struct ip_vs_bpf_transport ip_vs_bpf_find_transport6(const struct sk_buff *skb);
bool ip_vs_bpf_needs_native_path6(const struct sk_buff *skb);
bool ip_vs_bpf_route_input6(struct sk_buff *skb);
void ip_vs_bpf_set_any_route6(struct sk_buff *skb);
bool ip_vs_bpf_reassemble6(struct ip_vs_bpf *bpf, struct sk_buff *skb);
/* The route of the replies of this connection, as if this host had sent them; NULL without one. Takes a reference. */
struct dst_entry *ip_vs_bpf_route_to_client6(struct ip_vs_conn *cp);
bool ip_vs_bpf_route_reply6(struct ip_vs_conn *cp, struct sk_buff *skb);
bool ip_vs_bpf_forward_reply6(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct sk_buff *skb);
unsigned int ip_vs_bpf_send_request6(struct sk_buff *skb, struct ip_vs_conn *cp);

/* ip_vs_bpf_native.c */
/*
 * POST_ROUTING, behind the masquerading of others: a native connection that was given the SNAT end of a session gets
 * another port, or the replies of both would be taken for the session's.
 */
nf_hookfn ip_vs_bpf_post_routing;

/* ip_vs_bpf_hooks.c */
#define IP_VS_BPF_HOOKS 6
/* PRE_ROUTING of IPv4 is the first, of IPv6 the third. */
extern const struct nf_hook_ops ip_vs_bpf_hook_ops[IP_VS_BPF_HOOKS];

/* ip_vs_bpf.c */
/* What the PRE_ROUTING hook and the hooks inside ip_vs_in_hook and ip_vs_out_hook share. */
struct ip_vs_bpf_packet {
	struct nf_hook_state state;
	struct ip_vs_bpf *bpf;
	const struct ipvs_service *service;
	spinlock_t *scheduling; /* held until the connection has a session, or there is none */
	unsigned int verdict; /* if the shared hook functions accept */
	bool taken;
};

static inline struct ip_vs_bpf_packet *packet_of(const struct nf_hook_state *state)
{
	return container_of((struct nf_hook_state *)state, struct ip_vs_bpf_packet, state);
}

/* The whitelist entry of the virtual server that a packet with ports is for, or NULL. */
const struct ipvs_service *ip_vs_bpf_find_service(struct ip_vs_bpf *bpf, int af,
						  const struct sk_buff *skb);

/* Routes and packet marks that both directions use; the cookie means something to IPv6 only. */
bool ip_vs_bpf_dst_is_valid(struct dst_entry *dst, u32 cookie);
bool ip_vs_bpf_use_dst(struct sk_buff *skb, struct dst_entry *dst, int ifindex, u32 cookie);
struct dst_entry *ip_vs_bpf_remembered_reply_dst(const struct ip_vs_conn *cp);
void ip_vs_bpf_remember_dst(struct ip_vs_conn *cp, const struct sk_buff *skb,
			    struct dst_entry **slot, int *ifindex);
/* Takes the reference to the route of the replies over; they come in by the interface `in`. */
void ip_vs_bpf_remember_reply_dst(struct ip_vs_conn *cp, struct dst_entry *dst, int in);
bool ip_vs_bpf_route_input(int af, struct sk_buff *skb);
void ip_vs_bpf_set_untracked(struct sk_buff *skb);
bool ip_vs_bpf_needs_native_path(int af, const struct net *net, const struct sk_buff *skb);
/* A packet for which there is no connection: true if the accelerated mode is to schedule it; it has its route then. */
bool ip_vs_bpf_take_first(struct ip_vs_bpf_packet *packet, struct sk_buff *skb);
unsigned int ip_vs_bpf_output(struct net *net, int af, struct sk_buff *skb, u32 hint);

/* ip_vs_bpf_transport.c */
enum ip_vs_bpf_port { IP_VS_BPF_SOURCE_PORT, IP_VS_BPF_DEST_PORT };

/* Of the transport header at `l4`, as far as the two below need it. */
bool ip_vs_bpf_make_l4_writable(struct sk_buff *skb, unsigned int l4, u8 protocol);
/* The checksum that a new address changes: NULL for SCTP, and for UDP without one. */
__sum16 *ip_vs_bpf_l4_check(struct sk_buff *skb, unsigned int l4, u8 protocol);
/* Puts a port into the transport header, and the checksum right. */
void ip_vs_bpf_write_port(struct sk_buff *skb, unsigned int l4, u8 protocol,
			  enum ip_vs_bpf_port which, __be16 port);
/*
 * True if ip_vs_in_hook would end this native connection for the packet, and schedule it anew: a client
 * that uses its port again would keep a whitelisted virtual server on the native path for ever.
 */
bool ip_vs_bpf_is_over(const struct ip_vs_conn *cp, const struct sk_buff *skb);
/*
 * Whether an SCTP packet lists further addresses of its sender, or says that there may be some later: an INIT or
 * INIT ACK. Behind SNAT its peer would send to them what no session is known for.
 */
bool ip_vs_bpf_is_multihomed(int af, const struct sk_buff *skb);
/*
 * The same for a packet of a connection. Who is established ignores it or, as RFC 9260 has it in section 5.2.2, refuses
 * it: whoever sends one with the addresses of others must not end their association here.
 */
bool ip_vs_bpf_begins_multihomed(const struct ip_vs_conn *cp, const struct sk_buff *skb);
/* Ends an accelerated connection that an end with further addresses has begun. The packet is dropped. */
void ip_vs_bpf_refuse_multihomed(struct ip_vs_bpf_packet *packet, struct ip_vs_conn *cp);

/* ip_vs_bpf_session.c */
/*
 * Before a packet without a connection is scheduled: no other of its client's port is until the end. Or the
 * connection that another processor has made meanwhile.
 */
struct ip_vs_conn *ip_vs_bpf_begin_scheduling(struct ip_vs_bpf_packet *packet,
					      const struct sk_buff *skb);
/* The packet's connection has its session, or there will be none. */
void ip_vs_bpf_end_scheduling(struct ip_vs_bpf_packet *packet);
/* A connection is found as soon as it is made, and has its session a moment later. */
void ip_vs_bpf_await_session(const struct ip_vs_bpf_packet *packet, const struct sk_buff *skb);

#endif
