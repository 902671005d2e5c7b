/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, numbers and texts for the load tool. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

const char *errno_name(int e)
{
	const char *name = strerrorname_np(e);

	return name ? name : "UNKNOWN";
}

void die(const char *what)
{
	int e = errno;

	printf("{\"ok\":false,\"step\":\"%s\",\"errno\":\"%s\"}\n", what, errno_name(e));
	fprintf(stderr, "load: %s: %s\n", what, strerror(e));
	exit(1);
}

/* Under -icount this is the number of instructions since boot. */
uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void put64(uint8_t *to, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		to[i] = (uint8_t)v;
}

uint64_t get64(const uint8_t *from)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | from[i];
	return v;
}

int send_all(int fd, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Fails with ENODATA if the other side closes before all of it came. */
int receive_all(int fd, void *data, size_t n)
{
	uint8_t *p = data;

	while (n) {
		ssize_t k = recv(fd, p, n, 0);

		if (k < 0)
			return -1;
		if (k == 0) {
			errno = ENODATA;
			return -1;
		}
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Differs at every offset, so that fragments in a wrong place are noticed. */
void fill_pattern(uint8_t *data, size_t n, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		data[i] = (uint8_t)(x >> 24);
	}
}

uint32_t sum_of(const uint8_t *data, size_t n)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ data[i]) * 16777619u;
	return h;
}

/* An IPv6 address stands in brackets, as it has to before a port. */
void end_text(const struct sockaddr_storage *end, char *text, size_t n, unsigned *port)
{
	if (end->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)end;
		char address[INET6_ADDRSTRLEN];

		inet_ntop(AF_INET6, &in6->sin6_addr, address, sizeof(address));
		snprintf(text, n, "[%s]", address);
		*port = ntohs(in6->sin6_port);
		return;
	}
	inet_ntop(AF_INET, &((const struct sockaddr_in *)end)->sin_addr, text, (socklen_t)n);
	*port = ntohs(((const struct sockaddr_in *)end)->sin_port);
}

int parse_who(const char *text, struct who *who)
{
	memset(who, 0, sizeof(*who));
	if (sscanf(text, "server=%31s peer=%63s port=%u local=%63s got=%lu sum=%u", who->server,
		   who->peer, &who->port, who->local, &who->got, &who->sum) == 6)
		return 0;
	errno = EBADMSG;
	return -1;
}

static void set_timeouts(int fd, int ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)))
		die("timeout");
}

static int set_ttl(int fd, int family, int ttl)
{
	return family == AF_INET6 ?
		       setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof(ttl)) :
		       setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
}

static int connected_socket(const struct options *o, int type)
{
	struct sockaddr_storage own = o->bind;
	int one = 1, fd = open_socket(o, type), e;

	if (fd < 0)
		die("socket");
	if (o->timeout_ms)
		set_timeouts(fd, o->timeout_ms);
	if (o->ttl && set_ttl(fd, o->to.ss_family, o->ttl))
		die("ttl");
	if (o->sctp && set_sctp_options(o, fd))
		die("sctp");
	if (o->source_port || own.ss_family) {
		own.ss_family = o->to.ss_family;
		if (o->source_port)
			((struct sockaddr_in *)&own)->sin_port = htons((uint16_t)o->source_port);
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
		    bind(fd, (struct sockaddr *)&own, o->to_len))
			die("bind");
	}
	if (connect(fd, (const struct sockaddr *)&o->to, o->to_len) == 0)
		return fd;
	/* A connect that SO_SNDTIMEO cut short. */
	e = errno == EINPROGRESS ? ETIMEDOUT : errno;
	e = (o->sctp ? sctp_error(fd) : 0) ?: e;
	close(fd);
	errno = e;
	return -1;
}

/* A socket connected to o->to, or -1 with errno. Options that were not given cost nothing. */
int client_socket(const struct options *o, int type)
{
	int fd, tries = 0;

	/* With a fixed port, our last connection may still wait for the acknowledgement of its FIN. */
	while ((fd = connected_socket(o, type)) < 0 && errno == EADDRNOTAVAIL && o->source_port &&
	       tries++ < 1000)
		sched_yield();
	return fd;
}

/* Every packet from now on has 8 bytes of it: IP options that do nothing, or an extension header. */
int add_options(const struct options *o, int fd)
{
	static const uint8_t nops[8] = { 1, 1, 1, 1, 1, 1, 1, 0 };
	static const uint8_t padding[8] = { 0, 0, 1, 4 };

	return o->to.ss_family == AF_INET6 ?
		       setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding)) :
		       setsockopt(fd, IPPROTO_IP, IP_OPTIONS, nops, sizeof(nops));
}
