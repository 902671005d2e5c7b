/* SPDX-License-Identifier: Apache-2.0 */
/* Many open TCP connections, all of which exchange at once on demand. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

static void send_to_all(int *fds, uint64_t count)
{
	struct request r = { .op = OP_EXCHANGE };

	put64(r.length, REPLY_SIZE);
	for (uint64_t i = 0; i < count; i++) {
		if (fds[i] < 0 || !send_all(fds[i], &r, sizeof(r)))
			continue;
		close(fds[i]);
		fds[i] = -1;
	}
}

static unsigned port_of(int fd)
{
	struct sockaddr_in6 own = { 0 }; /* the port of a sockaddr_in is at the same place */
	socklen_t n = sizeof(own);

	return getsockname(fd, (struct sockaddr *)&own, &n) ? 0 : ntohs(own.sin6_port);
}

/* Of those that are open; one that is not answered in time counts no more. `last`: the port of the last such one. */
static uint64_t receive_from_all(int *fds, uint64_t count, unsigned *last)
{
	char reply[REPLY_SIZE];
	uint64_t answered = 0;

	for (uint64_t i = 0; i < count; i++) {
		if (fds[i] < 0)
			continue;
		if (!receive_all(fds[i], reply, sizeof(reply))) {
			answered++;
			continue;
		}
		*last = port_of(fds[i]);
		close(fds[i]);
		fds[i] = -1;
	}
	return answered;
}

/* `count` connections; with each line that comes all of them exchange, end of file closes. One JSON line an answer. */
int run_crowd(const struct options *o)
{
	int *fds = calloc(o->count + 1, sizeof(*fds));
	char line[64];

	if (!fds)
		die("memory");
	for (uint64_t i = 0; i < o->count; i++) {
		fds[i] = client_socket(o, SOCK_STREAM);
		if (fds[i] < 0)
			die("connect");
	}
	printf("{\"ok\":true,\"connected\":%" PRIu64 "}\n", o->count);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t begin = now_ns(), answered;
		unsigned unanswered = 0;

		send_to_all(fds, o->count);
		answered = receive_from_all(fds, o->count, &unanswered);
		printf("{\"ok\":%s,\"answered\":%" PRIu64 ",\"unanswered\":%u,\"ms\":%" PRIu64 "}\n",
		       answered == o->count ? "true" : "false", answered, unanswered,
		       (now_ns() - begin) / 1000000);
		fflush(stdout);
	}
	return 0;
}
