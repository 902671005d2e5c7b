/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maps: looks into pinned eBPF maps, hands maps to the module, and loads the tc programs. For
 * scripts in slow virtual machines, where a call of the agent takes seconds.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "maps: %s: %s\n", what, strerrorname_np(errno));
	exit(1);
}

static int call_bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int open_map(const char *pin, struct bpf_map_info *info)
{
	union bpf_attr get = { .pathname = (uint64_t)(uintptr_t)pin };
	int fd = call_bpf(BPF_OBJ_GET, &get);
	union bpf_attr of = { .info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof(*info),
					.info = (uint64_t)(uintptr_t)info } };

	memset(info, 0, sizeof(*info));
	if (fd < 0 || call_bpf(BPF_OBJ_GET_INFO_BY_FD, &of))
		die(pin);
	return fd;
}

static int element(enum bpf_cmd cmd, int fd, const void *key, void *value)
{
	union bpf_attr attr = { .map_fd = (uint32_t)fd, .key = (uint64_t)(uintptr_t)key,
				.value = (uint64_t)(uintptr_t)value };

	return call_bpf(cmd, &attr);
}

static void print_hex(const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		printf("%02x", data[i]);
}

static void parse_hex(const char *text, uint8_t *data, size_t n)
{
	if (strlen(text) != 2 * n) {
		fprintf(stderr, "maps: %zu bytes are wanted, not %s\n", n, text);
		exit(2);
	}
	for (size_t i = 0; i < n; i++)
		if (sscanf(text + 2 * i, "%2hhx", &data[i]) != 1)
			exit(2);
}

/* Walks over all keys; prints KEY VALUE, or only counts. */
static void walk(const char *pin, int print)
{
	struct bpf_map_info info;
	int fd = open_map(pin, &info);
	uint8_t key[256], value[4096];
	uint64_t n = 0;
	void *previous = NULL;

	while (!element(BPF_MAP_GET_NEXT_KEY, fd, previous, key)) {
		previous = key;
		n++;
		if (!print || element(BPF_MAP_LOOKUP_ELEM, fd, key, value))
			continue;
		print_hex(key, info.key_size);
		printf(" ");
		print_hex(value, info.value_size);
		printf("\n");
	}
	if (errno != ENOENT)
		die(pin);
	if (!print)
		printf("%lu\n", n);
}

/* An element of a map from __u32 to __u64; of a per-CPU array, its sum over all processors. */
static void sum(const char *pin, uint32_t key)
{
	struct bpf_map_info info;
	int fd = open_map(pin, &info);
	static uint64_t values[4096];
	uint64_t total = 0;

	if (info.key_size != sizeof(key) || info.value_size != sizeof(*values) ||
	    element(BPF_MAP_LOOKUP_ELEM, fd, &key, values))
		die(pin);
	for (long i = 0; i < sysconf(_SC_NPROCESSORS_CONF); i++)
		total += values[i];
	printf("%lu\n", total);
}

static void change(const char *pin, const char *key_text, const char *value_text)
{
	struct bpf_map_info info;
	int fd = open_map(pin, &info);
	uint8_t key[256], value[4096];

	parse_hex(key_text, key, info.key_size);
	if (value_text)
		parse_hex(value_text, value, info.value_size);
	if (element(value_text ? BPF_MAP_UPDATE_ELEM : BPF_MAP_DELETE_ELEM, fd, key,
		    value_text ? value : NULL))
		die(pin);
}

static void create(const char *pin, char **arg)
{
	union bpf_attr attr = { .map_type = (uint32_t)atoi(arg[0]), .key_size = (uint32_t)atoi(arg[1]),
				.value_size = (uint32_t)atoi(arg[2]),
				.max_entries = (uint32_t)atoi(arg[3]),
				.map_flags = arg[4] ? (uint32_t)atoi(arg[4]) : 0 };
	int fd = call_bpf(BPF_MAP_CREATE, &attr);
	union bpf_attr to = { .pathname = (uint64_t)(uintptr_t)pin, .bpf_fd = (uint32_t)fd };

	if (fd < 0 || call_bpf(BPF_OBJ_PIN, &to))
		die(pin);
}

/*
 * Writes one text to FILE in one write(2), with every NAME=PATH argument opened and each {NAME} in
 * the text replaced by its file descriptor. Prints the errno's name, or 0.
 */
static int write_text(const char *file, const char *text, char **arg)
{
	struct bpf_map_info info;
	char out[1 << 16], *end;
	int fd = open(file, O_WRONLY);
	size_t n = 0;

	if (fd < 0) {
		printf("%s\n", strerrorname_np(errno));
		return 0;
	}
	while (*text && n < sizeof(out) - 16) {
		if (*text != '{' || !(end = strchr(text, '}'))) {
			out[n++] = *text++;
			continue;
		}
		for (char **a = arg; *a; a++) {
			size_t length = (size_t)(end - text - 1);

			if (!strncmp(*a, text + 1, length) && (*a)[length] == '=')
				n += (size_t)sprintf(out + n, "%d", open_map(*a + length + 1, &info));
		}
		text = end + 1;
	}
	printf("%s\n", write(fd, out, n) == (ssize_t)n ? "0" : strerrorname_np(errno));
	return 0;
}

/* Only maps of sessions have a size that is chosen. */
static int set_sizes(struct bpf_object *object, const char *sessions)
{
	static const char *const names[] = { "ipvs_sessions", "ipvs_replies" };

	for (size_t i = 0; sessions && i < sizeof(names) / sizeof(names[0]); i++)
		if (bpf_map__set_max_entries(bpf_object__find_map_by_name(object, names[i]),
					     (uint32_t)atoi(sessions)))
			return -1;
	return 0;
}

/*
 * Loads OBJECT with the ports FIRST to LAST for SNAT and room for SESSIONS, and pins maps and programs in
 * DIRECTORY.
 */
static void load(const char *path, const char *directory, char **arg)
{
	const char *first = arg[0], *last = arg[1], *sessions = arg[2];
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	uint16_t ranges[8] = { (uint16_t)atoi(first), (uint16_t)atoi(last) };
	struct bpf_map *map, *rodata;
	char pin[256];
	size_t size;

	rodata = object ? bpf_object__next_map(object, NULL) : NULL;
	while (rodata && !strstr(bpf_map__name(rodata), ".rodata"))
		rodata = bpf_object__next_map(object, rodata);
	/* ipvs_port_ranges is all of the constants. */
	if (!rodata || !bpf_map__initial_value(rodata, &size) ||
	    bpf_map__set_initial_value(rodata, ranges, sizeof(ranges)))
		die(path);
	if (set_sizes(object, sessions) || bpf_object__load(object))
		die(path);
	bpf_object__for_each_map(map, object) {
		snprintf(pin, sizeof(pin), "%s/%s", directory, bpf_map__name(map));
		/* Not the sections of variables: bpffs takes no name with a dot. */
		if (!strchr(bpf_map__name(map), '.') && bpf_map__pin(map, pin))
			die(pin);
	}
	if (bpf_object__pin_programs(object, directory))
		die(directory);
}

/* Puts a program on an interface that only counts packets by its being there, or takes it away. */
static void set_xdp(const char *interface, const char *state)
{
	static const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int index = (int)if_nametoindex(interface), fd = -1;

	if (!strcmp(state, "on")) {
		fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", pass,
				   sizeof(pass) / sizeof(pass[0]), NULL);
		if (fd < 0)
			die("XDP program");
	}
	if (bpf_xdp_attach(index, fd, XDP_FLAGS_DRV_MODE, NULL))
		die(interface);
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[1] : "";

	if (!strcmp(command, "count"))
		walk(argv[2], 0);
	else if (!strcmp(command, "dump"))
		walk(argv[2], 1);
	else if (!strcmp(command, "sum") && argc == 4)
		sum(argv[2], (uint32_t)atoi(argv[3]));
	else if (!strcmp(command, "put") && argc == 5)
		change(argv[2], argv[3], argv[4]);
	else if (!strcmp(command, "delete") && argc == 4)
		change(argv[2], argv[3], NULL);
	else if (!strcmp(command, "create") && (argc == 7 || argc == 8))
		create(argv[2], argv + 3);
	else if (!strcmp(command, "load") && (argc == 6 || argc == 7))
		load(argv[2], argv[3], argv + 4);
	else if (!strcmp(command, "xdp") && argc == 4)
		set_xdp(argv[2], argv[3]);
	else if (!strcmp(command, "write") && argc > 3)
		return write_text(argv[2], argv[3], argv + 4);
	else
		return fprintf(stderr, "usage: maps count|dump PIN, sum PIN KEY, put PIN KEY VALUE, "
				       "delete PIN KEY, create PIN TYPE KEY VALUE ENTRIES [FLAGS], "
				       "write FILE TEXT [NAME=PIN...], "
				       "load OBJECT DIRECTORY FIRST LAST [SESSIONS], "
				       "xdp INTERFACE on|off\n"), 2;
	return 0;
}
