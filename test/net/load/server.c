/* SPDX-License-Identifier: Apache-2.0 */
/* The real server's side: TCP or SCTP, one process a connection or strictly one after the other, and UDP. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static uint8_t buffer[1 << 20];

static void write_who(char *reply, const struct options *o, const struct sockaddr_storage *peer,
		      const struct sockaddr_storage *local, uint64_t got, uint32_t sum)
{
	char peer_text[64], local_text[64];
	unsigned port, local_port;

	end_text(peer, peer_text, sizeof(peer_text), &port);
	end_text(local, local_text, sizeof(local_text), &local_port);
	memset(reply, 0, REPLY_SIZE);
	snprintf(reply, REPLY_SIZE, "server=%s peer=%s port=%u local=%s:%u got=%lu sum=%u\n",
		 o->name, peer_text, port, local_text, local_port, got, sum);
}

static int reply_who(int fd, const struct options *o, uint64_t got)
{
	struct sockaddr_storage peer, local;
	socklen_t n = sizeof(peer), m = sizeof(local);
	char reply[REPLY_SIZE];

	if (getpeername(fd, (struct sockaddr *)&peer, &n) ||
	    getsockname(fd, (struct sockaddr *)&local, &m))
		return -1;
	write_who(reply, o, &peer, &local, got, 0);
	return send_all(fd, reply, sizeof(reply));
}

static int receive_upload(int fd, const struct options *o, uint64_t length)
{
	uint64_t got = 0;

	while (got < length) {
		ssize_t k = recv(fd, buffer, sizeof(buffer), 0);

		if (k <= 0)
			return -1;
		got += (uint64_t)k;
	}
	return reply_who(fd, o, got);
}

static int send_download(int fd, uint64_t length)
{
	while (length) {
		size_t n = length < 65536 ? length : 65536;

		if (send_all(fd, buffer, n))
			return -1;
		length -= n;
	}
	return 0;
}

static int play_pingpong(int fd, const struct options *o, uint64_t size, uint64_t count)
{
	if (size > sizeof(buffer) || set_nodelay(o, fd))
		return -1;
	while (count--)
		if (receive_all(fd, buffer, size) || send_all(fd, buffer, size))
			return -1;
	return 0;
}

/* One request. 1: the connection stays open, 0: our half is closed, -1: error. */
static int serve_request(int fd, const struct options *o)
{
	static const char constant[REPLY_SIZE] = "constant reply";
	struct request r;
	uint64_t length;
	int rc;

	if (receive_all(fd, &r, sizeof(r)))
		return -1;
	length = get64(r.length);
	switch (r.op) {
	case OP_REQUEST:
	case OP_WHO:
		rc = r.op == OP_WHO ? reply_who(fd, o, REQUEST_SIZE) :
				      send_all(fd, constant, sizeof(constant));
		return rc || shutdown(fd, SHUT_WR) ? -1 : 0;
	case OP_EXCHANGE:
		return reply_who(fd, o, REQUEST_SIZE) ? -1 : 1;
	case OP_UPLOAD:
		return receive_upload(fd, o, length) ? -1 : 1;
	case OP_DOWNLOAD:
		return send_download(fd, length) ? -1 : 1;
	case OP_PINGPONG:
		return play_pingpong(fd, o, length, get64(r.count)) ? -1 : 1;
	}
	errno = EBADMSG;
	return -1;
}

static void serve_connection(int fd, const struct options *o)
{
	char rest;
	int rc;

	while ((rc = serve_request(fd, o)) == 1)
		;
	if (rc == 0 && recv(fd, &rest, 1, 0) > 0)
		fprintf(stderr, "load: data behind a request\n");
	close(fd);
}

static void to_background(const struct options *o)
{
	pid_t pid;
	FILE *f;

	if (!o->pidfile)
		return;
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		setsid();
		if (!freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout) ||
		    !freopen("/dev/null", "w", stderr))
			_exit(1);
		return;
	}
	f = fopen(o->pidfile, "w");
	if (!f || fprintf(f, "%d\n", pid) < 0 || fclose(f))
		die("pidfile");
	_exit(0);
}

static int bound_socket(const struct options *o, int type)
{
	int one = 1, fd = open_socket(o, type);

	/* Another socket listens for IPv4. */
	if (fd >= 0 && o->to.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)))
		die("v6only");
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    (o->sctp && set_sctp_options(o, fd)) ||
	    bind(fd, (const struct sockaddr *)&o->to, o->to_len))
		die("bind");
	return fd;
}

/* Returns to the shell once it listens (--pidfile), so nothing has to wait for it. */
int run_server(const struct options *o)
{
	int fd, listener = bound_socket(o, SOCK_STREAM);

	if (listen(listener, 1024))
		die("listen");
	to_background(o);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			continue;
		if (o->sequential) {
			serve_connection(fd, o);
			continue;
		}
		if (fork() == 0) {
			close(listener);
			serve_connection(fd, o);
			_exit(0);
		}
		close(fd);
	}
}

/* The address that a datagram was sent to, with the port that is listened at. */
static void set_local(struct sockaddr_storage *local, const struct cmsghdr *c)
{
	if (local->ss_family == AF_INET6)
		((struct sockaddr_in6 *)local)->sin6_addr =
			((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr;
	else
		((struct sockaddr_in *)local)->sin_addr =
			((struct in_pktinfo *)CMSG_DATA(c))->ipi_addr;
}

static void answer_datagram(int fd, const struct options *o, struct msghdr *m, size_t got)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	struct sockaddr_storage *peer = m->msg_name, local = o->to;
	struct request *r = (struct request *)buffer;
	size_t n = get64(r->length);

	if (got < REQUEST_SIZE || !c || n < REPLY_SIZE || n > DATAGRAM_MAX)
		return;
	set_local(&local, c);
	uint8_t order = r->order;
	uint32_t sum = sum_of(buffer, got);

	fill_pattern(buffer, n, (uint32_t)n);
	write_who((char *)buffer, o, peer, &local, got, sum);
	if (order)
		send_fragments(&local, peer, buffer, n, 1480, order);
	else if (sendto(fd, buffer, n, 0, (struct sockaddr *)peer, m->msg_namelen) < 0)
		perror("load: reply");
}

int run_udp_server(const struct options *o)
{
	int one = 1, fd = bound_socket(o, SOCK_DGRAM);

	if (o->to.ss_family == AF_INET6 ?
		    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one)) :
		    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)))
		die("pktinfo");
	to_background(o);
	for (;;) {
		struct sockaddr_storage peer;
		char control[128];
		struct iovec iov = { buffer, sizeof(buffer) };
		struct msghdr m = { &peer, sizeof(peer), &iov, 1, control, sizeof(control), 0 };
		ssize_t got = recvmsg(fd, &m, 0);

		if (got >= 0)
			answer_datagram(fd, o, &m, (size_t)got);
	}
}
