/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that no ordinary socket sends: fragments in a chosen order, and foreign sources. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
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

/* Both ends of a packet, of one family. */
struct ends {
	const struct sockaddr_storage *from, *to;
	int ttl; /* 0: 64 */
};

static const void *address_of(const struct sockaddr_storage *end)
{
	return end->ss_family == AF_INET6 ?
		       (const void *)&((const struct sockaddr_in6 *)end)->sin6_addr :
		       (const void *)&((const struct sockaddr_in *)end)->sin_addr;
}

/* At the same place in both families. */
static uint16_t port_of(const struct sockaddr_storage *end)
{
	return ((const struct sockaddr_in *)end)->sin_port;
}

static uint16_t l4_checksum(const struct ends *e, uint8_t protocol, const void *data, size_t n)
{
	size_t length = e->from->ss_family == AF_INET6 ? 16 : 4;
	uint32_t sum = add_words(0, address_of(e->from), length) + protocol + (uint32_t)n;

	sum = add_words(add_words(sum, address_of(e->to), length), data, n);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int raw_socket(const struct ends *e)
{
	int fd = socket(e->to->ss_family, SOCK_RAW, IPPROTO_RAW);

	if (fd < 0)
		die("raw socket");
	return fd;
}

/* The part of a datagram that is sent: all of it has offset 0 and nothing behind. */
struct part {
	uint32_t id;
	size_t offset;
	int more, fragment;
};

/* The kernel fills in the header checksum, and the id of packets that are not fragments. */
static size_t put_ipv4(uint8_t *packet, const struct ends *e, uint8_t protocol,
		       const struct part *part, size_t n)
{
	struct iphdr ip = { .version = 4, .ihl = 5, .protocol = protocol };

	ip.ttl = (uint8_t)(e->ttl ? e->ttl : 64);
	ip.id = part->fragment ? htons((uint16_t)part->id) : 0;
	ip.frag_off = htons((uint16_t)(part->offset / 8 | (part->more ? IP_MF : 0)));
	ip.tot_len = htons((uint16_t)(sizeof(ip) + n));
	memcpy(&ip.saddr, address_of(e->from), sizeof(ip.saddr));
	memcpy(&ip.daddr, address_of(e->to), sizeof(ip.daddr));
	memcpy(packet, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t put_ipv6(uint8_t *packet, const struct ends *e, uint8_t protocol,
		       const struct part *part, size_t n)
{
	struct ip6_hdr ip = { 0 };
	struct ip6_frag header = { .ip6f_nxt = protocol, .ip6f_ident = htonl(part->id) };
	size_t length = part->fragment ? sizeof(header) : 0;

	header.ip6f_offlg = htons((uint16_t)(part->offset | (part->more ? 1 : 0)));
	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons((uint16_t)(length + n));
	ip.ip6_nxt = part->fragment ? IPPROTO_FRAGMENT : protocol;
	ip.ip6_hlim = (uint8_t)(e->ttl ? e->ttl : 64);
	memcpy(&ip.ip6_src, address_of(e->from), sizeof(ip.ip6_src));
	memcpy(&ip.ip6_dst, address_of(e->to), sizeof(ip.ip6_dst));
	memcpy(packet, &ip, sizeof(ip));
	memcpy(packet + sizeof(ip), &header, length);
	return sizeof(ip) + length;
}

static int send_ip(int fd, const struct ends *e, uint8_t protocol, const struct part *part,
		   const void *data, size_t n)
{
	uint8_t packet[65536];
	struct sockaddr_storage to = *e->to;
	int ipv6 = to.ss_family == AF_INET6;
	size_t head = (ipv6 ? put_ipv6 : put_ipv4)(packet, e, protocol, part, n);

	/* A raw socket takes it for a protocol. */
	((struct sockaddr_in *)&to)->sin_port = 0;
	memcpy(packet + head, data, n);
	return sendto(fd, packet, head + n, 0, (struct sockaddr *)&to,
		      ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)) < 0 ? -1 : 0;
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
static uint32_t first_id(void) { return (uint32_t)getpid() << 6; }

/* What a fragment of IPv6 carries at most on Ethernet. */
#define IPV6_FRAGMENT_MAX 1448

/*
 * A datagram put together out of two whose bytes differ is a way past packet filters: hosts give all of it up
 * (RFC 5722). The first fragment is as it should be.
 */
static int send_overlap(int fd, const struct ends *e, const struct part *second, const uint8_t *datagram,
			size_t size)
{
	struct part part = *second;
	uint8_t data[IPV6_FRAGMENT_MAX + 64];

	if (second->offset < 16 || size + 8 > sizeof(data))
		return 0;
	part.offset -= 8;
	memcpy(data, datagram + part.offset, size + 8);
	for (int i = 0; i < 8; i++)
		data[i] ^= 0xff;
	return send_ip(fd, e, IPPROTO_UDP, &part, data, size + 8);
}

/*
 * One UDP datagram as fragments of at most `fragment_size` bytes of payload, rounded down to 8. Of IPv6
 * one that needs no second has a fragment header all the same (RFC 6946).
 */
int send_fragments(const struct sockaddr_storage *from, const struct sockaddr_storage *to,
		   const uint8_t *data, size_t n, size_t fragment_size, int order)
{
	static uint8_t datagram[sizeof(struct udphdr) + DATAGRAM_MAX];
	static uint32_t next_id;
	uint16_t index[FRAGMENTS_MAX];
	struct udphdr *udp = (struct udphdr *)datagram;
	struct ends e = { .from = from, .to = to };
	struct part part = { .id = first_id() + next_id++, .fragment = 1 };
	size_t total = sizeof(*udp) + n, step, count, i;
	int fd = raw_socket(&e), rc = 0;

	if (to->ss_family == AF_INET6 && fragment_size > IPV6_FRAGMENT_MAX)
		fragment_size = IPV6_FRAGMENT_MAX;
	step = fragment_size & ~(size_t)7;
	*udp = (struct udphdr){ .source = port_of(from), .dest = port_of(to),
				.len = htons((uint16_t)total) };
	memcpy(datagram + sizeof(*udp), data, n);
	udp->check = l4_checksum(&e, IPPROTO_UDP, datagram, total);
	count = (total + step - 1) / step;
	order_fragments(index, count, order);
	for (i = 0; i < count && !rc; i++) {
		size_t at = index[i] * step, size = total - at < step ? total - at : step;

		part.offset = at;
		part.more = at + size < total;
		if (order == ORDER_HEADLESS && !at)
			continue;
		if (order == ORDER_OVERLAP && index[i] == 1)
			rc = send_overlap(fd, &e, &part, datagram, size);
		else
			rc = send_ip(fd, &e, IPPROTO_UDP, &part, datagram + at, size);
		if (order == ORDER_TWICE && !rc)
			rc = send_ip(fd, &e, IPPROTO_UDP, &part, datagram + at, size);
	}
	close(fd);
	return rc;
}

/* `count` TCP SYNs (--udp: datagrams) from an address that need not be ours. */
int run_spoof(const struct options *o)
{
	struct ends e = { .from = &o->from, .to = &o->to, .ttl = o->ttl };
	const struct part whole = { 0 };
	int fd = raw_socket(&e);
	uint64_t i, start = now_ns();

	for (i = 0; i < o->count; i++) {
		uint16_t port = htons((uint16_t)(ntohs(port_of(&o->from)) + i));
		struct tcphdr tcp = { .source = port, .dest = port_of(&o->to), .seq = htonl(1000),
				      .doff = 5, .syn = 1, .window = htons(65535) };
		struct udphdr udp = { .source = port, .dest = port_of(&o->to), .len = htons(8) };

		tcp.check = l4_checksum(&e, IPPROTO_TCP, &tcp, sizeof(tcp));
		udp.check = l4_checksum(&e, IPPROTO_UDP, &udp, sizeof(udp));
		if (send_ip(fd, &e, o->udp ? IPPROTO_UDP : IPPROTO_TCP, &whole,
			    o->udp ? (void *)&udp : (void *)&tcp,
			    o->udp ? sizeof(udp) : sizeof(tcp)))
			die("send");
	}
	printf("{\"ok\":true,\"sent\":%lu,\"nsPerPacket\":%lu}\n", o->count,
	       o->count ? (now_ns() - start) / o->count : 0);
	close(fd);
	return 0;
}
