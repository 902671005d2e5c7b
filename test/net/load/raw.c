/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that no ordinary socket sends: fragments in a chosen order, and foreign sources. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define FRAGMENTS_MAX 8192

static uint32_t add_words(uint32_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (; n > 1; n -= 2, p += 2)
		sum += (uint32_t)p[0] << 8 | p[1];
	if (n)
		sum += (uint32_t)p[0] << 8;
	return sum;
}

static uint16_t l4_checksum(const struct iphdr *ip, uint8_t protocol, const void *data, size_t n)
{
	uint32_t sum = add_words(0, &ip->saddr, 8) + protocol + (uint32_t)n;

	sum = add_words(sum, data, n);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int raw_socket(void)
{
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (fd < 0)
		die("raw socket");
	return fd;
}

/* The kernel fills in the header checksum, and the id of packets that are not fragments. */
static int send_ip(int fd, struct iphdr *ip, const void *data, size_t n)
{
	uint8_t packet[65536];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = ip->daddr };

	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = ip->ttl ? ip->ttl : 64;
	ip->tot_len = htons((uint16_t)(sizeof(*ip) + n));
	memcpy(packet, ip, sizeof(*ip));
	memcpy(packet + sizeof(*ip), data, n);
	return sendto(fd, packet, sizeof(*ip) + n, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -1 : 0;
}

static void order_fragments(uint16_t *index, size_t n, int order)
{
	uint32_t x = 12345;

	for (size_t i = 0; i < n; i++)
		index[i] = (uint16_t)(order == ORDER_REVERSE ? n - 1 - i : i);
	if (order != ORDER_SHUFFLE)
		return;
	for (size_t i = n - 1; i > 0; i--) {
		x = x * 1664525u + 1013904223u;
		size_t j = (x >> 16) % (i + 1);
		uint16_t t = index[i];

		index[i] = index[j];
		index[j] = t;
	}
}

/*
 * Several processes send from one address to one address at once: datagrams with the same id would be
 * put together out of each other's fragments (RFC 791), whoever forwards them.
 */
static uint16_t first_id(void) { return (uint16_t)(getpid() << 6); }

/* One UDP datagram as fragments of at most `fragment_size` bytes of payload, rounded down to 8. */
int send_fragments(const struct sockaddr_in *from, const struct sockaddr_in *to,
		   const uint8_t *data, size_t n, size_t fragment_size, int order)
{
	static uint8_t datagram[sizeof(struct udphdr) + DATAGRAM_MAX];
	static uint16_t next_id;
	uint16_t index[FRAGMENTS_MAX];
	struct udphdr *udp = (struct udphdr *)datagram;
	struct iphdr ip = { .protocol = IPPROTO_UDP, .saddr = from->sin_addr.s_addr,
			    .daddr = to->sin_addr.s_addr, .id = htons(first_id() + next_id++) };
	size_t total = sizeof(*udp) + n, step = fragment_size & ~(size_t)7, count, i;
	int fd = raw_socket(), rc = 0;

	*udp = (struct udphdr){ .source = from->sin_port, .dest = to->sin_port,
				.len = htons((uint16_t)total) };
	memcpy(datagram + sizeof(*udp), data, n);
	udp->check = l4_checksum(&ip, IPPROTO_UDP, datagram, total);
	count = (total + step - 1) / step;
	order_fragments(index, count, order);
	for (i = 0; i < count && !rc; i++) {
		size_t at = index[i] * step, size = total - at < step ? total - at : step;

		ip.frag_off = htons((uint16_t)(at / 8 | (at + size < total ? IP_MF : 0)));
		rc = send_ip(fd, &ip, datagram + at, size);
	}
	close(fd);
	return rc;
}

/* `count` TCP SYNs (--udp: datagrams) from an address that need not be ours. */
int run_spoof(const struct options *o)
{
	const struct sockaddr_in *from = (const struct sockaddr_in *)&o->from;
	const struct sockaddr_in *to = (const struct sockaddr_in *)&o->to;
	struct iphdr ip = { .protocol = o->udp ? IPPROTO_UDP : IPPROTO_TCP,
			    .saddr = from->sin_addr.s_addr, .daddr = to->sin_addr.s_addr,
			    .ttl = (uint8_t)o->ttl };
	int fd = raw_socket();
	uint64_t i;

	for (i = 0; i < o->count; i++) {
		uint16_t port = htons((uint16_t)(ntohs(from->sin_port) + i));
		struct tcphdr tcp = { .source = port, .dest = to->sin_port, .seq = htonl(1000),
				      .doff = 5, .syn = 1, .window = htons(65535) };
		struct udphdr udp = { .source = port, .dest = to->sin_port, .len = htons(8) };

		tcp.check = l4_checksum(&ip, IPPROTO_TCP, &tcp, sizeof(tcp));
		udp.check = l4_checksum(&ip, IPPROTO_UDP, &udp, sizeof(udp));
		if (send_ip(fd, &ip, o->udp ? (void *)&udp : (void *)&tcp,
			    o->udp ? sizeof(udp) : sizeof(tcp)))
			die("send");
	}
	printf("{\"ok\":true,\"sent\":%lu}\n", o->count);
	close(fd);
	return 0;
}
