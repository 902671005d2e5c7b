/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side over UDP, and probes that report the ICMP error that came back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static uint8_t out[DATAGRAM_MAX], in[DATAGRAM_MAX + 1];

static void build_datagram(const struct options *o)
{
	struct request *r = (struct request *)out;

	if (o->size < REQUEST_SIZE || o->size > DATAGRAM_MAX || o->reply_size < REPLY_SIZE ||
	    o->reply_size > DATAGRAM_MAX) {
		errno = EINVAL;
		die("size");
	}
	fill_pattern(out, o->size, (uint32_t)o->size);
	/* Wherever a fragment begins, it begins like another client's datagram: from port `like`, to ours. */
	for (size_t i = 0; o->like && i + 4 <= o->size; i += 4) {
		out[i] = (uint8_t)(o->like >> 8);
		out[i + 1] = (uint8_t)o->like;
		memcpy(out + i + 2, &((const struct sockaddr_in *)&o->to)->sin_port, 2);
	}
	r->op = OP_EXCHANGE;
	r->order = (uint8_t)o->reply_order;
	put64(r->length, o->reply_size);
}

static int send_datagram(int fd, const struct options *o)
{
	struct sockaddr_storage own;
	socklen_t n = sizeof(own);

	if (!o->order)
		return send(fd, out, o->size, 0) < 0 ? -1 : 0;
	if (getsockname(fd, (struct sockaddr *)&own, &n))
		return -1;
	return send_fragments(&own, &o->to, out, o->size, o->fragment_size, o->order);
}

/* The reply came whole, from the right request, with the bytes that it should have. */
static int check_reply(const struct options *o, size_t n, struct who *who)
{
	static uint8_t expected[DATAGRAM_MAX];

	fill_pattern(expected, o->reply_size, (uint32_t)o->reply_size);
	if (n != o->reply_size || parse_who((char *)in, who))
		errno = EBADMSG;
	else if (memcmp(in + REPLY_SIZE, expected + REPLY_SIZE, n - REPLY_SIZE))
		errno = EILSEQ;
	else if (who->got != o->size || who->sum != sum_of(out, o->size))
		errno = EPROTO;
	else
		return 0;
	return -1;
}

/* Datagrams from one socket, or each from a new one (--who has no meaning here: always told). */
int run_udp(const struct options *o)
{
	int fd = -1, failed = 0, last = 0;
	struct who who = { 0 };
	uint64_t i, start, answered = 0;

	build_datagram(o);
	start = now_ns();
	for (i = 0; i < o->count; i++) {
		ssize_t n = -1;

		fd = client_socket(o, SOCK_DGRAM);
		if (fd >= 0 && !send_datagram(fd, o))
			n = recv(fd, in, sizeof(in), 0);
		if (n < 0 || check_reply(o, (size_t)n, &who)) {
			failed++;
			last = errno;
		} else {
			answered++;
		}
		if (fd >= 0)
			close(fd);
	}
	printf("{\"ok\":%s,\"answered\":%" PRIu64 ",\"failed\":%d,\"errno\":\"%s\",\"server\":\"%s\""
	       ",\"peer\":\"%s\",\"port\":%u,\"nsPerRequest\":%" PRIu64 "}\n",
	       failed ? "false" : "true", answered, failed, last ? errno_name(last) : "", who.server,
	       who.peer, who.port, o->count ? (now_ns() - start) / o->count : 0);
	return failed ? 1 : 0;
}

/* Prints the ICMP error in the socket's error queue; false if there is none. */
static int print_icmp(int fd)
{
	char control[512], from[64] = "";
	uint8_t data[2048];
	struct iovec iov = { data, sizeof(data) };
	struct sockaddr_storage to;
	struct msghdr m = { &to, sizeof(to), &iov, 1, control, sizeof(control), 0 };
	unsigned port, to_port;
	char to_text[64] = "";

	if (recvmsg(fd, &m, MSG_ERRQUEUE) < 0)
		return 0;
	end_text(&to, to_text, sizeof(to_text), &to_port);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err *e = (struct sock_extended_err *)CMSG_DATA(c);

		if ((c->cmsg_level != SOL_IP || c->cmsg_type != IP_RECVERR) &&
		    (c->cmsg_level != SOL_IPV6 || c->cmsg_type != IPV6_RECVERR))
			continue;
		if (e->ee_origin == SO_EE_ORIGIN_ICMP || e->ee_origin == SO_EE_ORIGIN_ICMP6)
			end_text((struct sockaddr_storage *)SO_EE_OFFENDER(e), from, sizeof(from), &port);
		printf("{\"ok\":false,\"errno\":\"%s\",\"origin\":%u,\"type\":%u,\"code\":%u"
		       ",\"info\":%u,\"from\":\"%s\",\"to\":\"%s:%u\"}\n",
		       errno_name((int)e->ee_errno), e->ee_origin, e->ee_type, e->ee_code, e->ee_info,
		       from, to_text, to_port);
	}
	return 1;
}

/* Asks for ICMP errors, and (--df) for datagrams that are not fragmented. */
static int prepare_probe(int fd, const struct options *o)
{
	int on = 1, df = o->df ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT;
	int df6 = o->df ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_DONT;

	if (o->to.ss_family == AF_INET6)
		return setsockopt(fd, SOL_IPV6, IPV6_RECVERR, &on, sizeof(on)) ||
		       setsockopt(fd, SOL_IPV6, IPV6_MTU_DISCOVER, &df6, sizeof(df6));
	return setsockopt(fd, SOL_IP, IP_RECVERR, &on, sizeof(on)) ||
	       setsockopt(fd, SOL_IP, IP_MTU_DISCOVER, &df, sizeof(df));
}

/* One UDP datagram: its reply, or the ICMP error that came instead (--ttl, --df, --size, --ip-options). */
int run_probe(const struct options *o)
{
	int fd = client_socket(o, SOCK_DGRAM);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct who who;
	ssize_t n;

	if (fd < 0 || prepare_probe(fd, o) || (o->ip_options && add_options(o, fd)))
		die("socket");
	build_datagram(o);
	n = send_datagram(fd, o);
	if (!n)
		poll(&p, 1, o->timeout_ms ? o->timeout_ms : 3000);
	if (n || p.revents & POLLERR) {
		if (!print_icmp(fd))
			printf("{\"ok\":false,\"errno\":\"%s\"}\n", errno_name(errno));
		return 1;
	}
	n = p.revents & POLLIN ? recv(fd, in, sizeof(in), 0) : -1;
	if (n < 0 || check_reply(o, (size_t)n, &who)) {
		printf("{\"ok\":false,\"errno\":\"%s\"}\n", n < 0 ? "ETIMEDOUT" : errno_name(errno));
		return 1;
	}
	printf("{\"ok\":true,\"server\":\"%s\",\"peer\":\"%s\",\"port\":%u}\n", who.server, who.peer,
	       who.port);
	return 0;
}
