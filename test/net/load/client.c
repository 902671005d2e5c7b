/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side over TCP or SCTP: short requests, long transfers, ping-pong, and held connections. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define TALLY_MAX 64

/* How often each of a few texts occurred. */
struct tally {
	char text[TALLY_MAX][64];
	uint64_t count[TALLY_MAX];
	int n;
};

struct result {
	uint64_t ok, failed, alternations;
	struct tally servers, peers, errors;
	unsigned port_min, port_max;
	char last_server[32];
	uint64_t *latency_ns;
};

static void tally_add(struct tally *t, const char *text)
{
	int i = 0;

	while (i < t->n && strcmp(t->text[i], text))
		i++;
	if (i == TALLY_MAX)
		return;
	if (i == t->n)
		snprintf(t->text[t->n++], sizeof(t->text[0]), "%s", text);
	t->count[i]++;
}

static void tally_print(const char *name, const struct tally *t)
{
	printf(",\"%s\":{", name);
	for (int i = 0; i < t->n; i++)
		printf("%s\"%s\":%" PRIu64, i ? "," : "", t->text[i], t->count[i]);
	printf("}");
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* With --reset the client ends a connection by RST, while the server still has it open. */
static int one_request(const struct options *o, char *reply)
{
	static const struct linger at_once = { .l_onoff = 1 };
	struct request r = { .op = o->reset ? OP_EXCHANGE : o->who ? OP_WHO : OP_REQUEST };
	char rest;
	int fd = client_socket(o, SOCK_STREAM), rc, e;

	if (fd < 0)
		return -1;
	rc = send_all(fd, &r, sizeof(r)) || receive_all(fd, reply, REPLY_SIZE) ? -1 : 0;
	if (o->reset)
		rc = setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) ? -1 : rc;
	else if (!rc && recv(fd, &rest, 1, 0) != 0)
		rc = -1;
	e = errno;
	close(fd);
	errno = e;
	return rc;
}

static void record(struct result *res, const struct options *o, int rc, const char *reply)
{
	struct who who;

	if (rc || (o->who && parse_who(reply, &who))) {
		res->failed++;
		tally_add(&res->errors, errno_name(errno));
		return;
	}
	res->ok++;
	if (!o->who)
		return;
	tally_add(&res->servers, who.server);
	tally_add(&res->peers, who.peer);
	if (!res->port_min || who.port < res->port_min)
		res->port_min = who.port;
	if (who.port > res->port_max)
		res->port_max = who.port;
	if (res->last_server[0] && strcmp(res->last_server, who.server))
		res->alternations++;
	strcpy(res->last_server, who.server);
}

static void print_result(const struct options *o, struct result *res, uint64_t ns)
{
	printf("{\"ok\":%s,\"answered\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"ns\":%" PRIu64
	       ",\"nsPerRequest\":%" PRIu64, res->failed ? "false" : "true", res->ok, res->failed,
	       ns, o->count ? ns / o->count : 0);
	if (o->latency && o->count) {
		qsort(res->latency_ns, o->count, sizeof(uint64_t), compare_u64);
		printf(",\"medianUs\":%" PRIu64 ",\"maxUs\":%" PRIu64,
		       res->latency_ns[o->count / 2] / 1000, res->latency_ns[o->count - 1] / 1000);
	}
	if (o->who) {
		tally_print("servers", &res->servers);
		tally_print("peers", &res->peers);
		printf(",\"ports\":[%u,%u],\"alternations\":%" PRIu64, res->port_min,
		       res->port_max, res->alternations);
	}
	tally_print("errors", &res->errors);
	printf("}\n");
}

/* `count` short connections one after the other, after `warmup` that are not counted. */
int run_requests(const struct options *o)
{
	struct result res = { 0 };
	char reply[REPLY_SIZE];
	uint64_t start, begin, i;

	res.latency_ns = calloc(o->count + 1, sizeof(uint64_t));
	if (!res.latency_ns)
		die("memory");
	for (i = 0; i < o->warmup; i++)
		if (one_request(o, reply))
			die("warmup");
	start = now_ns();
	for (i = 0; i < o->count; i++) {
		begin = o->latency ? now_ns() : 0;
		record(&res, o, one_request(o, reply), reply);
		if (o->latency)
			res.latency_ns[i] = now_ns() - begin;
		if (o->gap_ms)
			usleep((useconds_t)o->gap_ms * 1000);
	}
	print_result(o, &res, now_ns() - start);
	return res.failed ? 1 : 0;
}

static int upload(int fd, uint64_t bytes, uint64_t write_size, char *reply)
{
	struct request r = { .op = OP_UPLOAD };
	static uint8_t data[1 << 20];

	put64(r.length, bytes);
	if (send_all(fd, &r, sizeof(r)))
		return -1;
	while (bytes) {
		size_t n = bytes < write_size ? bytes : write_size;

		if (send_all(fd, data, n))
			return -1;
		bytes -= n;
	}
	return receive_all(fd, reply, REPLY_SIZE);
}

static int download(int fd, uint64_t bytes)
{
	struct request r = { .op = OP_DOWNLOAD };
	static uint8_t data[1 << 20];

	put64(r.length, bytes);
	if (send_all(fd, &r, sizeof(r)))
		return -1;
	while (bytes) {
		ssize_t k = recv(fd, data, sizeof(data) < bytes ? sizeof(data) : bytes, 0);

		if (k <= 0)
			return -1;
		bytes -= (uint64_t)k;
	}
	return 0;
}

/* `bytes` in one connection, after `warmup` bytes of the same that are not counted. */
int run_transfer(const struct options *o)
{
	int fd = client_socket(o, SOCK_STREAM);
	char reply[REPLY_SIZE] = "";
	uint64_t ns, start;

	if (fd < 0)
		die("connect");
	if (o->write_size < 1 || o->write_size > 1 << 20) {
		errno = EINVAL;
		die("write-size");
	}
	if (o->warmup && (o->download ? download(fd, o->warmup) :
					upload(fd, o->warmup, o->write_size, reply)))
		die("warmup");
	start = now_ns();
	if (o->download ? download(fd, o->bytes) : upload(fd, o->bytes, o->write_size, reply))
		die("transfer");
	ns = now_ns() - start;
	printf("{\"ok\":true,\"bytes\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"nsPer64KiB\":%" PRIu64
	       ",\"mbitPerSecond\":%.1f}\n", o->bytes, ns,
	       o->bytes ? (uint64_t)((double)ns * 65536 / (double)o->bytes) : 0,
	       ns ? (double)o->bytes * 8e3 / (double)ns : 0);
	close(fd);
	return 0;
}

static volatile sig_atomic_t is_told_to_end;

static void end_soon(int signal)
{
	(void)signal;
	is_told_to_end = 1;
}

/* 0, or -1; `*longest` becomes the time that it took, if that is more. */
static int exchange_once(int fd, uint8_t *data, size_t size, uint64_t *longest)
{
	uint64_t ns, start = now_ns();

	if (send_all(fd, data, size) || receive_all(fd, data, size))
		return -1;
	ns = now_ns() - start;
	if (ns > *longest)
		*longest = ns;
	return 0;
}

/* Ends early at SIGTERM. */
int run_pingpong(const struct options *o)
{
	struct sigaction end = { .sa_handler = end_soon, .sa_flags = SA_RESTART };
	struct request r = { .op = OP_PINGPONG };
	static uint8_t data[1 << 16];
	uint64_t i, made, start = 0, longest = 0;
	int fd = client_socket(o, SOCK_STREAM);

	if (fd < 0 || set_nodelay(o, fd))
		die("connect");
	if (o->size < 1 || o->size > sizeof(data)) {
		errno = EINVAL;
		die("size");
	}
	put64(r.length, o->size);
	put64(r.count, o->warmup + o->count);
	sigaction(SIGTERM, &end, NULL);
	if (send_all(fd, &r, sizeof(r)))
		die("send");
	for (i = 0; i < o->warmup + o->count && !is_told_to_end; i++) {
		if (i == o->warmup) {
			start = now_ns();
			longest = 0;
		}
		if (exchange_once(fd, data, o->size, &longest))
			die("pingpong");
		if (o->gap_ms)
			usleep((useconds_t)o->gap_ms * 1000);
	}
	made = i > o->warmup ? i - o->warmup : 0;
	printf("{\"ok\":true,\"exchanges\":%" PRIu64 ",\"nsPerExchange\":%" PRIu64 ",\"maxUs\":%" PRIu64
	       "}\n", made, made ? (now_ns() - start) / made : 0, longest / 1000);
	return 0;
}

static void hold_answer(int rc, const char *reply)
{
	struct who who;

	if (rc || parse_who(reply, &who))
		printf("{\"ok\":false,\"errno\":\"%s\"}\n", errno_name(errno));
	else
		printf("{\"ok\":true,\"server\":\"%s\",\"peer\":\"%s\",\"port\":%u}\n", who.server,
		       who.peer, who.port);
	fflush(stdout);
}

/*
 * Keeps one connection (with --udp: one flow) open, and exchanges whenever a line comes:
 * "x" one exchange, "o" the same with options, "u BYTES" an upload, end of file closes. One JSON line
 * an answer.
 */
int run_hold(const struct options *o)
{
	int fd = client_socket(o, o->udp ? SOCK_DGRAM : SOCK_STREAM);
	char line[64], reply[REPLY_SIZE] = "";
	struct request r = { .op = OP_EXCHANGE };

	if (fd < 0)
		die("connect");
	put64(r.length, REPLY_SIZE);
	printf("{\"ok\":true,\"connected\":true}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		int rc;

		if (line[0] == 'u')
			rc = upload(fd, strtoull(line + 1, NULL, 10), 65536, reply);
		else
			rc = (line[0] == 'o' && add_options(o, fd)) ||
			     send_all(fd, &r, sizeof(r)) || receive_all(fd, reply, sizeof(reply));
		hold_answer(rc, reply);
	}
	close(fd);
	return 0;
}
