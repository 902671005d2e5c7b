/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's SCTP sockets want otherwise than those of TCP. The associations are one-to-one. */
#define _GNU_SOURCE
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "load.h"

/* It uses names of the two above. */
#include <linux/sctp.h>

int open_socket(const struct options *o, int type)
{
	return socket(o->to.ss_family, type, o->sctp ? IPPROTO_SCTP : 0);
}

int set_nodelay(const struct options *o, int fd)
{
	int one = 1;

	return o->sctp ? setsockopt(fd, IPPROTO_SCTP, SCTP_NODELAY, &one, sizeof(one)) :
			 setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/*
 * With --path-mtu packets have that size whatever the route's MTU is, and IP makes fragments of them. An ICMP error
 * ends a client's association.
 */
int set_sctp_options(const struct options *o, int fd)
{
	struct sctp_paddrparams path = { .spp_pathmtu = (uint32_t)o->path_mtu,
					 .spp_flags = SPP_PMTUD_DISABLE };
	int one = 1;

	if (o->to.ss_family == AF_INET6 ?
		    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &one, sizeof(one)) :
		    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof(one)))
		return -1;
	return o->path_mtu ?
		       setsockopt(fd, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, &path, sizeof(path)) :
		       0;
}

/* An ICMP error does not wake who waits for the association; it is kept for who asks. */
int sctp_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) ? 0 : error;
}
