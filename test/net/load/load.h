/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the load tool share: ends, requests, and replies that say who answered. */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#define REQUEST_SIZE 18
#define REPLY_SIZE 256
#define DATAGRAM_MAX 65507

/* The first byte of a request. Numbers behind it are big-endian. */
enum op {
	OP_REQUEST = 'r',  /* a constant reply, then the server closes its half */
	OP_WHO = 'w',      /* the same, but the reply says who answered whom */
	OP_EXCHANGE = 'e', /* OP_WHO, and the connection stays open */
	OP_UPLOAD = 'u',   /* `length` bytes follow, then OP_EXCHANGE's reply */
	OP_DOWNLOAD = 'd', /* the server sends `length` bytes */
	OP_PINGPONG = 'p', /* `count` messages of `length` bytes, each sent back */
};

/* How the fragments of a datagram are put on the wire. */
enum order {
	ORDER_KERNEL = 0, /* by the kernel */
	ORDER_FORWARD = 'f',
	ORDER_REVERSE = 'r',
	ORDER_SHUFFLE = 's',
	ORDER_TWICE = 't',   /* each fragment twice */
	ORDER_OVERLAP = 'o', /* the second begins 8 bytes earlier, with other bytes there */
	ORDER_HEADLESS = 'h', /* without the first */
};

struct request {
	uint8_t op;
	uint8_t order; /* UDP: enum order of the reply */
	uint8_t length[8];
	uint8_t count[8];
} __attribute__((packed));

_Static_assert(sizeof(struct request) == REQUEST_SIZE, "request");

struct options {
	struct sockaddr_storage to, from, bind;
	socklen_t to_len;
	const char *name, *pidfile;
	uint64_t count, warmup, bytes, size, reply_size, write_size, fragment_size;
	int source_port, timeout_ms, deadline_s, ttl, order, reply_order, gap_ms, like, path_mtu;
	int sctp, udp, df, who, latency, sequential, download, reset, ip_options;
};

/* What a reply said. */
struct who {
	char server[32], peer[64], local[64];
	unsigned port; /* peer's, host byte order */
	uint64_t got;
	uint32_t sum;
};

/* util.c */
void die(const char *what) __attribute__((noreturn));
uint64_t now_ns(void);
void put64(uint8_t *to, uint64_t v);
uint64_t get64(const uint8_t *from);
int send_all(int fd, const void *data, size_t n);
int receive_all(int fd, void *data, size_t n);
void fill_pattern(uint8_t *data, size_t n, uint32_t seed);
uint32_t sum_of(const uint8_t *data, size_t n);
void end_text(const struct sockaddr_storage *end, char *text, size_t n, unsigned *port);
int parse_who(const char *text, struct who *who);
int client_socket(const struct options *o, int type);
int add_options(const struct options *o, int fd);
const char *errno_name(int e);

/* sctp.c */
int open_socket(const struct options *o, int type);
int set_nodelay(const struct options *o, int fd);
int set_sctp_options(const struct options *o, int fd);
int sctp_error(int fd);

/* raw.c: needs CAP_NET_RAW */
int send_fragments(const struct sockaddr_storage *from, const struct sockaddr_storage *to,
		   const uint8_t *data, size_t n, size_t fragment_size, int order);
int run_spoof(const struct options *o);

/* server.c, client.c, crowd.c, datagram.c, pairs.c, burst.c */
int run_server(const struct options *o);
int run_udp_server(const struct options *o);
int run_requests(const struct options *o);
int run_transfer(const struct options *o);
int run_pingpong(const struct options *o);
int run_hold(const struct options *o);
int run_crowd(const struct options *o);
int run_udp(const struct options *o);
int run_probe(const struct options *o);
int run_pairs(const struct options *o);
int run_burst(const struct options *o);

#endif
