/* SPDX-License-Identifier: Apache-2.0 */
/* What a resolver does: questions for A and AAAA at the same time, by one socket, on two processors. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* Two questions are at once if they are sent within this time. */
#define AT_ONCE_NS 10000

static int shared_fd;
static sem_t wanted;            /* the second question of one more pair will be */
static _Atomic uint64_t ready;  /* pairs for which it may be sent at any moment */
static _Atomic uint64_t begun;  /* pairs for which it may be sent now */
static _Atomic uint64_t ended;  /* pairs for which it has been */
static uint64_t second_sent_ns;

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("affinity");
}

static int ask(int fd)
{
	struct request r = { .op = OP_EXCHANGE };

	put64(r.length, REPLY_SIZE);
	return send(fd, &r, sizeof(r), 0) == sizeof(r) ? 0 : -1;
}

/* Waits busily at last, because to wake a thread takes longer than the two questions may be apart. */
static void *ask_second(void *unused)
{
	uint64_t pair = 0;

	pin_to(1);
	for (;;) {
		pair++;
		while (sem_wait(&wanted))
			;
		atomic_store(&ready, pair);
		while (atomic_load(&begun) < pair)
			;
		second_sent_ns = now_ns();
		if (ask(shared_fd))
			die("second question");
		atomic_store(&ended, pair);
	}
	return unused;
}

static int receive_who(int fd, struct who *who)
{
	char reply[REPLY_SIZE + 1] = "";

	return recv(fd, reply, REPLY_SIZE, 0) == REPLY_SIZE ? parse_who(reply, who) : -1;
}

struct pairs {
	uint64_t whole, lost, split, at_once;
};

static void one_pair(const struct options *o, uint64_t pair, struct pairs *result)
{
	struct who first, second;
	uint64_t sent_ns, apart;

	shared_fd = client_socket(o, SOCK_DGRAM);
	if (shared_fd < 0)
		die("socket");
	sem_post(&wanted);
	while (atomic_load(&ready) < pair)
		;
	atomic_store(&begun, pair);
	sent_ns = now_ns();
	if (ask(shared_fd))
		die("first question");
	while (atomic_load(&ended) < pair)
		;
	apart = sent_ns > second_sent_ns ? sent_ns - second_sent_ns : second_sent_ns - sent_ns;
	result->at_once += apart <= AT_ONCE_NS;
	if (receive_who(shared_fd, &first) || receive_who(shared_fd, &second))
		result->lost++;
	else if (strcmp(first.server, second.server) || first.port != second.port)
		result->split++;
	else
		result->whole++;
	close(shared_fd);
}

/* `count` pairs, each by a new socket. An answer that does not come within --timeout-ms is lost. */
int run_pairs(const struct options *o)
{
	struct pairs result = { 0 };
	pthread_t thread;

	pin_to(0);
	if (sem_init(&wanted, 0, 0))
		die("semaphore");
	errno = pthread_create(&thread, NULL, ask_second, NULL);
	if (errno)
		die("thread");
	for (uint64_t pair = 1; pair <= o->count; pair++)
		one_pair(o, pair, &result);
	printf("{\"ok\":%s,\"whole\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"split\":%" PRIu64
	       ",\"atOnce\":%" PRIu64 "}\n", result.whole == o->count ? "true" : "false", result.whole,
	       result.lost, result.split, result.at_once);
	return result.whole == o->count ? 0 : 1;
}
