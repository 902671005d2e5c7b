/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: a TCP, SCTP and UDP client and server for the topologies of this folder. One JSON object a line
 * on standard output. Times are CLOCK_MONOTONIC nanoseconds: instructions, under -icount.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static const struct {
	const char *name;
	int (*run)(const struct options *o);
	const char *help;
} commands[] = {
	{ "server", run_server, "TCP server; --listen, --name, --pidfile, --sequential; like all that is about"
				" TCP, --sctp, --path-mtu" },
	{ "udp-server", run_udp_server, "UDP server; --listen, --name, --pidfile" },
	{ "requests", run_requests, "short connections; --to, --count, --warmup, --who, --latency,"
				    " --source-port, --gap-ms, --reset" },
	{ "transfer", run_transfer, "one long transfer; --to, --bytes, --write-size, --warmup,"
				    " --download" },
	{ "pingpong", run_pingpong, "small messages; --to, --count, --size, --warmup, --gap-ms" },
	{ "hold", run_hold, "an open connection that exchanges on demand; --to, --udp" },
	{ "crowd", run_crowd, "many open connections that exchange on demand, all at once; --to, --count" },
	{ "udp", run_udp, "datagrams; --to, --count, --size, --reply-size, --order, --reply-order,"
			  " --fragment-size, --source-port, --like" },
	{ "pairs", run_pairs, "two datagrams at once by one new socket each time; --to, --count" },
	{ "burst", run_burst, "datagrams in one packet (UDP GSO); --to, --count, --size" },
	{ "probe", run_probe, "one datagram and the ICMP error it met; --to, --ttl, --df, --size,"
			      " --ip-options" },
	{ "spoof", run_spoof, "packets from a foreign source; --from, --to, --count, --udp" },
};

enum {
	OPT_TO, OPT_FROM, OPT_BIND, OPT_NAME, OPT_PIDFILE, OPT_COUNT, OPT_WARMUP, OPT_BYTES,
	OPT_SIZE, OPT_REPLY_SIZE, OPT_WRITE_SIZE, OPT_FRAGMENT_SIZE, OPT_SOURCE_PORT, OPT_TIMEOUT,
	OPT_DEADLINE, OPT_TTL, OPT_ORDER, OPT_REPLY_ORDER, OPT_GAP, OPT_UDP, OPT_DF, OPT_WHO,
	OPT_LATENCY, OPT_SEQUENTIAL, OPT_DOWNLOAD, OPT_RESET, OPT_LIKE,
	OPT_IP_OPTIONS, OPT_SCTP, OPT_PATH_MTU,
};

static const struct option long_options[] = {
	{ "to", 1, 0, OPT_TO }, { "listen", 1, 0, OPT_TO }, { "from", 1, 0, OPT_FROM },
	{ "bind", 1, 0, OPT_BIND }, { "name", 1, 0, OPT_NAME }, { "pidfile", 1, 0, OPT_PIDFILE },
	{ "count", 1, 0, OPT_COUNT }, { "warmup", 1, 0, OPT_WARMUP }, { "bytes", 1, 0, OPT_BYTES },
	{ "size", 1, 0, OPT_SIZE }, { "reply-size", 1, 0, OPT_REPLY_SIZE },
	{ "write-size", 1, 0, OPT_WRITE_SIZE }, { "fragment-size", 1, 0, OPT_FRAGMENT_SIZE },
	{ "source-port", 1, 0, OPT_SOURCE_PORT }, { "timeout-ms", 1, 0, OPT_TIMEOUT },
	{ "deadline", 1, 0, OPT_DEADLINE }, { "ttl", 1, 0, OPT_TTL }, { "order", 1, 0, OPT_ORDER },
	{ "reply-order", 1, 0, OPT_REPLY_ORDER }, { "gap-ms", 1, 0, OPT_GAP },
	{ "udp", 0, 0, OPT_UDP }, { "df", 0, 0, OPT_DF }, { "who", 0, 0, OPT_WHO },
	{ "latency", 0, 0, OPT_LATENCY }, { "sequential", 0, 0, OPT_SEQUENTIAL },
	{ "download", 0, 0, OPT_DOWNLOAD }, { "reset", 0, 0, OPT_RESET },
	{ "like", 1, 0, OPT_LIKE }, { "ip-options", 0, 0, OPT_IP_OPTIONS },
	{ "sctp", 0, 0, OPT_SCTP }, { "path-mtu", 1, 0, OPT_PATH_MTU }, { 0 },
};

static void usage(void)
{
	fprintf(stderr, "usage: load COMMAND [OPTION…]; ends are ADDRESS:PORT\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, "  %-11s %s\n", commands[i].name, commands[i].help);
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end)
		usage();
	return v;
}

/* 192.0.2.1:80 or [2001:db8::1]:80; a bare address has port 0. */
static socklen_t parse_end(const char *text, struct sockaddr_storage *end)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)end;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)end;
	char address[64], *port;

	memset(end, 0, sizeof(*end));
	snprintf(address, sizeof(address), "%s", text[0] == '[' ? text + 1 : text);
	port = text[0] == '[' ? strstr(address, "]:") : strrchr(address, ':');
	if (port) {
		*port = 0;
		port += text[0] == '[' ? 2 : 1;
	}
	end->ss_family = text[0] == '[' ? AF_INET6 : AF_INET;
	in4->sin_port = htons((uint16_t)number(port ? port : "0"));
	if (inet_pton(end->ss_family, address, end->ss_family == AF_INET6 ?
		      (void *)&in6->sin6_addr : (void *)&in4->sin_addr) != 1)
		usage();
	return end->ss_family == AF_INET6 ? sizeof(*in6) : sizeof(*in4);
}

static int set_number(struct options *o, int c, const char *arg)
{
	switch (c) {
	case OPT_COUNT: o->count = number(arg); break;
	case OPT_WARMUP: o->warmup = number(arg); break;
	case OPT_BYTES: o->bytes = number(arg); break;
	case OPT_SIZE: o->size = number(arg); break;
	case OPT_REPLY_SIZE: o->reply_size = number(arg); break;
	case OPT_WRITE_SIZE: o->write_size = number(arg); break;
	case OPT_FRAGMENT_SIZE: o->fragment_size = number(arg); break;
	case OPT_SOURCE_PORT: o->source_port = (int)number(arg); break;
	case OPT_TIMEOUT: o->timeout_ms = (int)number(arg); break;
	case OPT_DEADLINE: o->deadline_s = (int)number(arg); break;
	case OPT_TTL: o->ttl = (int)number(arg); break;
	case OPT_GAP: o->gap_ms = (int)number(arg); break;
	case OPT_LIKE: o->like = (int)number(arg); break;
	case OPT_PATH_MTU: o->path_mtu = (int)number(arg); break;
	default: return 0;
	}
	return 1;
}

static void set_option(struct options *o, int c, const char *arg)
{
	if (set_number(o, c, arg))
		return;
	switch (c) {
	case OPT_TO: o->to_len = parse_end(arg, &o->to); break;
	case OPT_FROM: parse_end(arg, &o->from); break;
	case OPT_BIND: parse_end(arg, &o->bind); break;
	case OPT_NAME: o->name = arg; break;
	case OPT_PIDFILE: o->pidfile = arg; break;
	case OPT_ORDER: o->order = arg[0]; break;
	case OPT_REPLY_ORDER: o->reply_order = arg[0]; break;
	case OPT_UDP: o->udp = 1; break;
	case OPT_SCTP: o->sctp = 1; break;
	case OPT_DF: o->df = 1; break;
	case OPT_WHO: o->who = 1; break;
	case OPT_LATENCY: o->latency = 1; break;
	case OPT_SEQUENTIAL: o->sequential = 1; break;
	case OPT_DOWNLOAD: o->download = 1; break;
	case OPT_RESET: o->reset = 1; break;
	case OPT_IP_OPTIONS: o->ip_options = 1; break;
	default: usage();
	}
}

static void on_deadline(int signal_number)
{
	static const char text[] = "{\"ok\":false,\"step\":\"deadline\",\"errno\":\"ETIME\"}\n";

	(void)signal_number;
	_exit(write(1, text, sizeof(text) - 1) > 0 ? 3 : 4);
}

int main(int argc, char **argv)
{
	struct options o = { .name = "server", .count = 1, .size = REQUEST_SIZE,
			     .reply_size = REPLY_SIZE, .write_size = 65536, .fragment_size = 1480 };
	int c;

	if (argc < 2)
		usage();
	while ((c = getopt_long(argc - 1, argv + 1, "", long_options, NULL)) != -1)
		set_option(&o, c, optarg);
	if (!o.to_len || optind != argc - 1)
		usage();
	/* One alarm for all of it: a timeout a socket would be measured as part of each request. */
	if (o.deadline_s) {
		signal(SIGALRM, on_deadline);
		alarm((unsigned)o.deadline_s);
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, argv[1]))
			return commands[i].run(&o);
	usage();
}
