/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that leave the client as one packet, to be cut up by whoever has to (UDP GSO). */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define SEGMENTS_MAX 64

static uint8_t out[DATAGRAM_MAX];

/* Each with bytes of its own, so that one that comes twice is no other's answer. */
static void build_segments(const struct options *o, uint32_t *sums)
{
	for (uint64_t i = 0; i < o->count; i++) {
		uint8_t *segment = out + i * o->size;
		struct request *r = (struct request *)segment;

		fill_pattern(segment, o->size, (uint32_t)i + 1);
		*r = (struct request){ .op = OP_EXCHANGE };
		put64(r->length, REPLY_SIZE);
		sums[i] = sum_of(segment, o->size);
	}
}

/* The segment that a reply is about, or -1. */
static int answered_segment(const struct options *o, const struct who *who, uint32_t *sums)
{
	for (uint64_t i = 0; i < o->count; i++) {
		if (who->got != o->size || !sums[i] || who->sum != sums[i])
			continue;
		sums[i] = 0;
		return (int)i;
	}
	return -1;
}

/* `count` datagrams of `size` bytes in one send; every one is answered once, all of them by one server. */
int run_burst(const struct options *o)
{
	uint32_t sums[SEGMENTS_MAX];
	char reply[REPLY_SIZE + 1] = "", server[32] = "";
	int fd = client_socket(o, SOCK_DGRAM), size = (int)o->size, split = 0;
	uint64_t answered = 0;
	struct who who;

	if (o->count > SEGMENTS_MAX || o->size < REQUEST_SIZE || o->count * o->size > DATAGRAM_MAX) {
		errno = EINVAL;
		die("size");
	}
	if (fd < 0 || setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof(size)))
		die("socket");
	build_segments(o, sums);
	if (send(fd, out, o->count * o->size, 0) < 0)
		die("send");
	while (answered < o->count && recv(fd, reply, REPLY_SIZE, 0) == REPLY_SIZE) {
		if (parse_who(reply, &who) || answered_segment(o, &who, sums) < 0)
			break;
		split |= answered && strcmp(server, who.server);
		strcpy(server, who.server);
		answered++;
	}
	printf("{\"ok\":%s,\"answered\":%" PRIu64 ",\"split\":%s}\n",
	       answered == o->count && !split ? "true" : "false", answered, split ? "true" : "false");
	close(fd);
	return answered == o->count && !split ? 0 : 1;
}
