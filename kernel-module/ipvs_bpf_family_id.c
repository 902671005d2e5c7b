// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets the next generic netlink family that is registered have a certain id:
 *
 *   insmod ipvs_bpf_family_id.ko id=31
 *
 * A process looks a family's id up once and goes on to use it, but a module that is loaded again gets
 * another one. Ids are handed out in a cycle, and those in use are skipped: a family of our own that
 * comes and goes moves the cycle on, until the id wanted is the next. It may still be in use meanwhile.
 *
 * Never stays loaded: ECANCELED is success. EBUSY: others register families all the time. EINVAL: no
 * such id.
 */
#include <linux/module.h>
#include <linux/sched.h>
#include <net/genetlink.h>

/* At most so many free ids: a round ends long before, unless others take ids at the same time. */
#define TURNS (2 * (GENL_MAX_ID + 1))

static int id;
module_param(id, int, 0);
MODULE_PARM_DESC(id, "what the next family is to get");

static struct genl_family family = {
	.name = "ipvs_bpf_id",
	.version = 1,
	.module = THIS_MODULE,
};

/* The id that a family would have got now; an errno, negative. */
static int take(void)
{
	int err = genl_register_family(&family);

	if (err)
		return err;
	err = genl_unregister_family(&family);
	cond_resched();
	return err ? err : family.id;
}

/* One round; answers the free id that comes before `id` in the cycle. */
static int predecessor(void)
{
	int first = take(), got = first, below = 0, highest = 0, turn;

	for (turn = 0; turn < TURNS && got > 0; turn++) {
		if (got < id && got > below)
			below = got;
		if (got > highest)
			highest = got;
		got = take();
		if (got == first)
			return below ? below : highest;
	}
	return got > 0 ? -EBUSY : got;
}

static int __init family_id_init(void)
{
	int before, got, turn;

	if (id < GENL_MIN_ID || id > GENL_MAX_ID)
		return -EINVAL;
	before = predecessor();
	if (before < 0)
		return before;
	for (turn = 0; turn < TURNS; turn++) {
		got = take();
		if (got < 0)
			return got;
		if (got == before)
			return -ECANCELED;
	}
	return -EBUSY;
}
module_init(family_id_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("choose the id of the next generic netlink family");
