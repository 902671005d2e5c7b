// SPDX-License-Identifier: GPL-2.0-only
/* Control of the accelerated mode: files in /proc/sys/net/ipv4/vs, hooks, network namespaces. */
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/sysctl.h>
#include <linux/version.h>

#include "ip_vs_bpf_internal.h"

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
		    sizeof(struct ipvs_frag), 1 },
	[SNAT_ADDRS] = { "snat_addrs", BPF_MAP_TYPE_ARRAY, sizeof(u32),
			 sizeof(struct ipvs_snat_addr), IPVS_SNAT_ADDRS },
	[SNAT_IDS] = { "snat_ids", BPF_MAP_TYPE_HASH, sizeof(struct ipvs_addr), sizeof(u32), 1 },
	[COUNTERS] = { "counters", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(u64),
		       IPVS_COUNTERS },
	[FORWARDED] = { "forwarded", BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(u64), 1 },
	[PEER_IFS] = { "peer_ifs", BPF_MAP_TYPE_HASH, sizeof(u32), sizeof(u32), 1 },
};

static int hook(struct ip_vs_bpf *bpf)
{
	int err;

	if (bpf->hooked)
		return 0;
	err = nf_register_net_hooks(bpf->ipvs->net, ip_vs_bpf_hook_ops, IP_VS_BPF_HOOKS);
	bpf->hooked = !err;
	return err;
}

static void unhook(struct ip_vs_bpf *bpf)
{
	if (!bpf->hooked)
		return;
	nf_unregister_net_hooks(bpf->ipvs->net, ip_vs_bpf_hook_ops, IP_VS_BPF_HOOKS);
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
	/* Connections keep the addresses of their sessions. */
	bool may_move = spec == &map_specs[SESSIONS] && map->map_flags & BPF_F_NO_PREALLOC;

	return map->map_type == spec->type && map->key_size == spec->key_size &&
	       map->value_size == spec->value_size && map->max_entries >= spec->min_entries &&
	       !map->frozen && !may_move;
}

/* When there are no hooks: nobody is left then who has found a session in them, see unhook(). */
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
		ip_vs_bpf_free_flows(bpf);
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
	err = ip_vs_bpf_alloc_flows(bpf);
	if (err) {
		put_maps(bpf->map);
		return err;
	}
	ip_vs_bpf_forget_sessions(bpf);
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

enum control_file { CONTROL_MODE, CONTROL_MAPS, CONTROL_CONNS, CONTROL_KFUNCS };

static void show(struct ip_vs_bpf *bpf, enum control_file file, char *text)
{
	mutex_lock(&bpf->lock);
	if (file == CONTROL_MAPS)
		show_maps(bpf, text, CONTROL_LENGTH);
	else
		snprintf(text, CONTROL_LENGTH, "%d",
			 file == CONTROL_MODE	? bpf->on :
			 file == CONTROL_KFUNCS ? ip_vs_bpf_has_kfuncs() :
						  atomic_read(&bpf->conns));
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
	{ .procname = "bpf_kfuncs", .mode = 0444, .extra2 = (void *)CONTROL_KFUNCS },
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
	for (i = 0; i < SESSION_LOCKS; i++) {
		spin_lock_init(&bpf->session_lock[i]);
		spin_lock_init(&bpf->scheduling_lock[i]);
	}
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
	/* Not of a namespace that ends: nobody is there to go on with its sessions. */
	WRITE_ONCE(bpf->leaving, check_net(ipvs->net));
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
	ip_vs_bpf_free_flows(bpf);
	kfree(bpf->table);
	kfree(bpf);
	ipvs->bpf = NULL;
}
