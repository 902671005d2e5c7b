// SPDX-License-Identifier: Apache-2.0
/*
 * Does to IPVS what kube-proxy does, for tests of what happens under it: looks the netlink family's id
 * up once, and from then on adds a virtual server every 300 ms and removes one that it does not know.
 *
 *   proxy ADDRESS STRANGER:PORT     prints "ok PORT" or "failed PORT ERRNO" a round
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_PORT 10000
#define ROUND_US 300000

struct message {
	struct nlmsghdr header;
	struct genlmsghdr generic;
	char data[512];
};

static int sock;

static void *put(struct message *msg, int type, const void *value, int bytes)
{
	struct nlattr *attr = (void *)((char *)msg + NLMSG_ALIGN(msg->header.nlmsg_len));

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + bytes;
	if (bytes)
		memcpy((char *)attr + NLA_HDRLEN, value, bytes);
	msg->header.nlmsg_len = NLMSG_ALIGN(msg->header.nlmsg_len) + NLA_ALIGN(attr->nla_len);
	return attr;
}

static void begin(struct message *msg, int type, int flags, int command, int version)
{
	memset(msg, 0, sizeof(*msg));
	msg->header.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	msg->header.nlmsg_type = type;
	msg->header.nlmsg_flags = NLM_F_REQUEST | flags;
	msg->generic.cmd = command;
	msg->generic.version = version;
}

/* The answer is in `reply`; an errno, or 0. */
static int ask(struct message *msg, struct message *reply)
{
	if (send(sock, msg, msg->header.nlmsg_len, 0) < 0 || recv(sock, reply, sizeof(*reply), 0) < 0)
		return errno;
	if (reply->header.nlmsg_type != NLMSG_ERROR)
		return 0;
	return -((struct nlmsgerr *)NLMSG_DATA(&reply->header))->error;
}

static int family_id(void)
{
	struct message msg, reply;
	struct nlattr *attr;
	int left;

	begin(&msg, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
	put(&msg, CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME, sizeof(IPVS_GENL_NAME));
	if (ask(&msg, &reply))
		return -1;
	attr = (void *)reply.data;
	left = reply.header.nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN);
	while (left > 0) {
		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(unsigned short *)((char *)attr + NLA_HDRLEN);
		left -= NLA_ALIGN(attr->nla_len);
		attr = (void *)((char *)attr + NLA_ALIGN(attr->nla_len));
	}
	return -1;
}

static int service(int family, int command, const char *address, int port)
{
	static const struct ip_vs_flags flags = { .flags = 0, .mask = ~0 };
	unsigned short af = AF_INET, protocol = IPPROTO_TCP, be_port = htons(port);
	unsigned int netmask = 0xffffffff, timeout = 0;
	struct in_addr in = { inet_addr(address) };
	struct message msg, reply;
	struct nlattr *nest;

	begin(&msg, family, NLM_F_ACK, command, IPVS_GENL_VERSION);
	nest = put(&msg, IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, NULL, 0);
	put(&msg, IPVS_SVC_ATTR_AF, &af, sizeof(af));
	put(&msg, IPVS_SVC_ATTR_PROTOCOL, &protocol, sizeof(protocol));
	put(&msg, IPVS_SVC_ATTR_ADDR, &in, sizeof(in));
	put(&msg, IPVS_SVC_ATTR_PORT, &be_port, sizeof(be_port));
	put(&msg, IPVS_SVC_ATTR_SCHED_NAME, "rr", 3);
	put(&msg, IPVS_SVC_ATTR_FLAGS, &flags, sizeof(flags));
	put(&msg, IPVS_SVC_ATTR_TIMEOUT, &timeout, sizeof(timeout));
	put(&msg, IPVS_SVC_ATTR_NETMASK, &netmask, sizeof(netmask));
	nest->nla_len = (char *)&msg + msg.header.nlmsg_len - (char *)nest;
	return ask(&msg, &reply);
}

int main(int argc, char **argv)
{
	struct sockaddr_nl local = { .nl_family = AF_NETLINK };
	char *colon = argc == 3 ? strchr(argv[2], ':') : NULL;
	int family, port;

	if (!colon) {
		fprintf(stderr, "usage: proxy ADDRESS STRANGER:PORT\n");
		return 2;
	}
	*colon = 0;
	prctl(PR_SET_NAME, "kube-proxy");
	setvbuf(stdout, NULL, _IOLBF, 0);
	sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	if (sock < 0 || bind(sock, (void *)&local, sizeof(local)) < 0 || (family = family_id()) < 0) {
		perror("proxy");
		return 1;
	}
	printf("family %d\n", family);
	for (port = FIRST_PORT; port < 65536; port++) {
		int err = service(family, IPVS_CMD_NEW_SERVICE, argv[1], port);

		if (err)
			printf("failed %d %d\n", port, err);
		else
			printf("ok %d\n", port);
		service(family, IPVS_CMD_DEL_SERVICE, argv[2], atoi(colon + 1));
		usleep(ROUND_US);
	}
	return 0;
}
