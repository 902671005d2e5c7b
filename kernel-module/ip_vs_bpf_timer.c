// SPDX-License-Identifier: GPL-2.0-only
/* What keeps IPVS right about connections of which it sees one packet a second: their numbers and timers. */
#include <linux/version.h>

#include "ip_vs_bpf_internal.h"

/* Before 6.2 the statistics of a namespace had no struct of their own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define tot_cpustats(ipvs) ((ipvs)->tot_stats.cpustats)
#else
#define tot_cpustats(ipvs) ((ipvs)->tot_stats->s.cpustats)
#endif

/* So far IPVS's numbers may be behind while a connection has paths. */
#define COUNT_PERIOD (2 * IPVS_PATH_SECONDS * HZ)

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define timer_container_of from_timer
#endif

static void add_to_stats(struct ip_vs_cpu_stats __percpu *stats, int direction, u32 packets,
			 u64 bytes)
{
	struct ip_vs_cpu_stats *s = this_cpu_ptr(stats);

	u64_stats_update_begin(&s->syncp);
	u64_stats_add(direction == IP_VS_DIR_INPUT ? &s->cnt.inpkts : &s->cnt.outpkts, packets);
	u64_stats_add(direction == IP_VS_DIR_INPUT ? &s->cnt.inbytes : &s->cnt.outbytes, bytes);
	u64_stats_update_end(&s->syncp);
}

/* Nothing that does not fit is counted: connections may outlive their whitelist entry. */
static void count_forwarded(struct ip_vs_bpf *bpf, u32 service_id, u32 packets)
{
	u64 none = 0, *total = map_lookup(bpf, FORWARDED, &service_id);

	if (unlikely(!total)) {
		map_update(bpf, FORWARDED, &service_id, &none, BPF_NOEXIST);
		total = map_lookup(bpf, FORWARDED, &service_id);
	}
	if (total)
		atomic64_add(packets, (atomic64_t *)total);
}

/* As ip_vs_in_stats and ip_vs_out_stats. */
static void take_over_count(struct ip_vs_conn *cp, u64 *count, int direction)
{
	u64 counted = READ_ONCE(*count) ? xchg(count, 0) : 0;
	u32 packets = counted >> IPVS_COUNTED_BYTES_BITS;
	u64 bytes = counted & (BIT_ULL(IPVS_COUNTED_BYTES_BITS) - 1);
	struct ip_vs_dest *dest = cp->dest;
	struct ip_vs_service *svc;

	if (!packets)
		return;
	count_forwarded(cp->ipvs->bpf, service_id_of(cp), packets);
	if (direction == IP_VS_DIR_INPUT)
		atomic_add(packets, &cp->in_pkts);
	svc = dest ? rcu_dereference(dest->svc) : NULL;
	if (!svc)
		return;
	add_to_stats(dest->stats.cpustats, direction, packets, bytes);
	add_to_stats(svc->stats.cpustats, direction, packets, bytes);
	add_to_stats(tot_cpustats(cp->ipvs), direction, packets, bytes);
}

void ip_vs_bpf_take_over_counts(struct ip_vs_conn *cp, struct ipvs_session *session)
{
	take_over_count(cp, &session->counted_requests, IP_VS_DIR_INPUT);
	take_over_count(cp, &session->counted_replies, IP_VS_DIR_OUTPUT);
}

void ip_vs_bpf_count_later(struct ip_vs_conn *cp)
{
	if (!timer_pending(&cp->bpf_timer))
		mod_timer(&cp->bpf_timer, jiffies + COUNT_PERIOD);
}

static bool has_path(const struct ipvs_path *path, u32 now)
{
	return path->out_ifindex && (s32)(path->until - now) > 0;
}

/* Softirq. The connection may have ended meanwhile, but is not freed before this returns. */
void ip_vs_bpf_count_timer(struct timer_list *timer)
{
	struct ip_vs_conn *cp = timer_container_of(cp, timer, bpf_timer);
	struct ipvs_session *session;

	rcu_read_lock();
	session = ip_vs_bpf_lock_session(cp->ipvs->bpf, cp);
	if (session) {
		ip_vs_bpf_take_over_counts(cp, session);
		if (has_path(&session->request, jiffies) || has_path(&session->reply, jiffies))
			mod_timer(&cp->bpf_timer, jiffies + COUNT_PERIOD);
		ip_vs_bpf_unlock_session(cp->ipvs->bpf, cp);
	}
	rcu_read_unlock();
}

/* When the connection ends if nothing more comes; false if tc has seen no packet since it was armed. */
static bool find_expiry(struct ip_vs_conn *cp, unsigned long *expires)
{
	struct ipvs_session *session = ip_vs_bpf_lock_session(cp->ipvs->bpf, cp);
	u64 seen;

	if (!session)
		return false;
	seen = READ_ONCE(session->seen);
	ip_vs_bpf_unlock_session(cp->ipvs->bpf, cp);
	*expires = (unsigned long)seen + cp->timeout;
	return seen && time_after(*expires, jiffies);
}

/*
 * Who deletes a connection does it before its time, or says so by ip_vs_conn_expire_now; that may come
 * while the timer is running, and is looked for again once it is armed.
 */
bool ip_vs_bpf_postpone_expiry(struct ip_vs_conn *cp)
{
	unsigned long expires;
	bool postponed;

	if (!(READ_ONCE(cp->bpf_until[0]) | READ_ONCE(cp->bpf_until[1])) || !cp->timeout ||
	    time_before(jiffies, cp->timer.expires) ||
	    READ_ONCE(cp->bpf_service) & BPF_SERVICE_KILLED)
		return false;
	rcu_read_lock();
	local_bh_disable();
	postponed = find_expiry(cp, &expires);
	local_bh_enable();
	rcu_read_unlock();
	if (!postponed)
		return false;
	mod_timer(&cp->timer, expires);
	smp_mb();
	if (READ_ONCE(cp->bpf_service) & BPF_SERVICE_KILLED)
		mod_timer_pending(&cp->timer, jiffies);
	return true;
}

void ip_vs_bpf_forbid_postponing(struct ip_vs_conn *cp)
{
	spin_lock_bh(&cp->lock);
	WRITE_ONCE(cp->bpf_service, cp->bpf_service | BPF_SERVICE_KILLED);
	spin_unlock_bh(&cp->lock);
	smp_mb();
}
