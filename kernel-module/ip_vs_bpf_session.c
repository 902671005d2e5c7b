// SPDX-License-Identifier: GPL-2.0-only
/* Sessions: what the tc programs know of an IPVS connection. The contract is abi.h. */
#include <linux/hash.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched.h>
#include <net/ipv6.h>

#include "ip_vs_bpf_internal.h"

static spinlock_t *session_lock(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp)
{
	u32 address = cp->af == AF_INET6 ? ipv6_addr_hash(&cp->caddr.in6) :
					   (__force u32)cp->caddr.ip;

	return &bpf->session_lock[hash_64((u64)address << 16 | (__force u16)cp->cport, SESSION_LOCK_BITS)];
}

struct ipvs_session *ip_vs_bpf_lock_session(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp)
{
	struct ipvs_session *session;

	spin_lock(session_lock(bpf, cp));
	session = cp->bpf_session;
	if (session && IPVS_SNAT_COOKIE(READ_ONCE(session->snat)) == cp->bpf_cookie)
		return session;
	spin_unlock(session_lock(bpf, cp));
	return NULL;
}

void ip_vs_bpf_unlock_session(struct ip_vs_bpf *bpf, const struct ip_vs_conn *cp)
{
	spin_unlock(session_lock(bpf, cp));
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

/*
 * Two packets by which one client begins, on two processors at once, as a resolver's two questions are: each would
 * be scheduled, and the session be about the real server of one of them.
 */
static spinlock_t *scheduling_lock_of(const struct ip_vs_bpf_packet *packet, const struct sk_buff *skb,
				      struct ip_vs_iphdr *iph)
{
	__be16 _ports[2], *ports;
	u32 address;

	if (!ip_vs_fill_iph_skb(packet->state.pf, skb, false, iph))
		return NULL;
	ports = skb_header_pointer(skb, iph->len, sizeof(_ports), _ports);
	if (!ports)
		return NULL;
	address = packet->state.pf == AF_INET6 ? ipv6_addr_hash(&iph->saddr.in6) :
						 (__force u32)iph->saddr.ip;
	return &packet->bpf->scheduling_lock[hash_64((u64)address << 16 | (__force u16)ports[0],
						      SESSION_LOCK_BITS)];
}

struct ip_vs_conn *ip_vs_bpf_begin_scheduling(struct ip_vs_bpf_packet *packet,
					      const struct sk_buff *skb)
{
	struct ip_vs_conn *cp;
	struct ip_vs_iphdr iph;

	packet->scheduling = scheduling_lock_of(packet, skb, &iph);
	if (!packet->scheduling)
		return NULL;
	spin_lock(packet->scheduling);
	cp = ip_vs_conn_in_get_proto(packet->bpf->ipvs, packet->state.pf, skb, &iph);
	if (unlikely(cp))
		ip_vs_bpf_end_scheduling(packet);
	return cp;
}

void ip_vs_bpf_end_scheduling(struct ip_vs_bpf_packet *packet)
{
	if (packet->scheduling)
		spin_unlock(packet->scheduling);
	packet->scheduling = NULL;
}

void ip_vs_bpf_await_session(const struct ip_vs_bpf_packet *packet, const struct sk_buff *skb)
{
	struct ip_vs_iphdr iph;
	spinlock_t *lock = scheduling_lock_of(packet, skb, &iph);

	if (!lock)
		return;
	spin_lock(lock);
	spin_unlock(lock);
}

/* Of SESSIONS or REPLIES, to which nobody adds meanwhile. */
static void empty(struct bpf_map *map)
{
	struct ipvs_session_key keys[2];
	int at = 0;
	bool more;

	BUILD_BUG_ON(sizeof(struct ipvs_reply_key) != sizeof(struct ipvs_session_key));
	rcu_read_lock();
	more = !map->ops->map_get_next_key(map, NULL, &keys[at]);
	while (more) {
		more = !map->ops->map_get_next_key(map, &keys[at], &keys[!at]);
		local_bh_disable();
		map->ops->map_delete_elem(map, &keys[at]);
		local_bh_enable();
		at = !at;
		cond_resched_rcu();
	}
	rcu_read_unlock();
}

void ip_vs_bpf_forget_sessions(struct ip_vs_bpf *bpf)
{
	empty(bpf->map[REPLIES]);
	empty(bpf->map[SESSIONS]);
}

static u32 next_cookie(struct ip_vs_bpf *bpf)
{
	u32 cookie = atomic_inc_return(&bpf->cookie);

	return cookie ?: atomic_inc_return(&bpf->cookie);
}

/*
 * Elements of a map that has them all from the start stay where they are: the connection needs no look-up again, and knows
 * by its cookie whether the element has become another session's. Under the session's lock.
 */
static void own_session(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, const struct ipvs_session_key *key,
			u32 cookie)
{
	struct ipvs_session *session = map_lookup(bpf, SESSIONS, key);

	cp->bpf_service = key->service_id;
	WRITE_ONCE(cp->bpf_session, session);
	WRITE_ONCE(cp->bpf_cookie, cookie);
	if (likely(session))
		ip_vs_bpf_add_flows(bpf, cp, session);
}

int ip_vs_bpf_add_session(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp,
		       const struct ipvs_service *service)
{
	u32 cookie = next_cookie(bpf);
	struct ipvs_session_key key = ip_vs_bpf_session_key(cp, service->id);
	struct ipvs_session session = {
		.vaddr = addr_of(cp->af, &cp->vaddr),
		.daddr = addr_of(cp->af, &cp->daddr),
		.vport = cp->vport,
		.dport = cp->dport,
		.protocol = cp->protocol,
		.family = cp->af,
		.flags = service->flags & IPVS_SERVICE_SNAT_MASK,
		.snat = IPVS_SNAT_WORD(cookie, IPVS_SNAT_UNDECIDED, 0),
	};
	struct ipvs_session *old;
	int err;

	spin_lock(session_lock(bpf, cp));
	err = map_update(bpf, SESSIONS, &key, &session, BPF_NOEXIST);
	if (unlikely(err == -EEXIST)) {
		/* A client port that is used again before the old connection is freed. */
		old = map_lookup(bpf, SESSIONS, &key);
		if (old)
			end_session(bpf, old);
		err = map_update(bpf, SESSIONS, &key, &session, BPF_ANY);
		count(bpf, IPVS_COUNT_SESSION_REPLACED);
	}
	if (likely(!err))
		own_session(bpf, cp, &key, cookie);
	spin_unlock(session_lock(bpf, cp));
	if (err)
		return err;
	atomic_inc(&bpf->conns);
	if (cp->af == AF_INET6)
		atomic_inc(&bpf->ipv6_conns);
	count(bpf, IPVS_COUNT_SESSION_ADDED);
	return 0;
}

/*
 * By a session that outlives the module, tc ingress forwards the connection until another module is there. Whoever gives
 * the maps to one, or takes them away, ends the session.
 */
static void leave_or_delete(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp)
{
	struct ipvs_session_key key = ip_vs_bpf_session_key(cp, service_id_of(cp));
	struct ipvs_session *session = ip_vs_bpf_lock_session(bpf, cp);

	if (!session)
		return;
	if (!bpf->leaving)
		end_session(bpf, session);
	ip_vs_bpf_take_over_counts(cp, session);
	WRITE_ONCE(cp->bpf_session, NULL);
	if (!bpf->leaving) {
		map_delete(bpf, SESSIONS, &key);
		count(bpf, IPVS_COUNT_SESSION_REMOVED);
	}
	ip_vs_bpf_unlock_session(bpf, cp);
}

void ip_vs_bpf_remove_session(struct ip_vs_conn *cp)
{
	struct ip_vs_bpf *bpf = cp->ipvs->bpf;

	rcu_read_lock();
	local_bh_disable();
	leave_or_delete(bpf, cp);
	local_bh_enable();
	ip_vs_bpf_remove_flows(bpf, cp);
	rcu_read_unlock();
	/* Without a session it does not start again. */
	del_timer(&cp->bpf_timer);

	/* Both may be in use for a packet that holds no reference: freed after a grace period. */
	dst_release(cp->bpf_in_dst);
	dst_release(cp->bpf_out_dst);
	if (cp->bpf_service & BPF_SERVICE_LOCAL)
		atomic_dec(&bpf->local_conns);
	if (cp->af == AF_INET6)
		atomic_dec(&bpf->ipv6_conns);
	/* From here on the maps may go. */
	if (atomic_dec_and_test(&bpf->conns) && !READ_ONCE(bpf->on))
		schedule_work(&bpf->unhook);
}

bool ip_vs_bpf_snat_end(struct ip_vs_bpf *bpf, struct ip_vs_conn *cp, struct ipvs_addr *address,
			__be16 *port)
{
	struct ipvs_session *session = READ_ONCE(cp->bpf_session);
	u64 word = session ? READ_ONCE(session->snat) : 0;
	u32 id = IPVS_SNAT_ADDR_ID(word);
	struct ipvs_snat_addr *snat = map_lookup(bpf, SNAT_ADDRS, &id);

	if (IPVS_SNAT_COOKIE(word) != cp->bpf_cookie || id == IPVS_SNAT_UNDECIDED || !snat)
		return false;
	*address = snat->addr;
	*port = IPVS_SNAT_PORT(word);
	return true;
}
