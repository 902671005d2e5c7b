/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The session contract: what the ip_vs module (kernel-module/), the tc programs (bpf/) and the
 * agent (src/) share. Addresses and ports are in network byte order, everything else in host
 * byte order. Every padding byte is named and must be zero, because maps hash raw bytes.
 * Structs only grow at their end, and any change bumps IPVS_BPF_ABI.
 */
#ifndef IPVS_BPF_ABI_H
#define IPVS_BPF_ABI_H

#include <linux/types.h>

#define IPVS_BPF_ABI 10

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2). */
struct ipvs_addr {
	__be32 w[4];
};

/* Key of ipvs_services: a virtual server that runs accelerated. Written by the agent. Of ipvs_held: any server's end. */
struct ipvs_service_key {
	struct ipvs_addr vaddr;
	__be16 vport;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP */
	__u8 zero;
};

/* Which clients of a virtual server are seen by its real servers under a director's address. */
enum ipvs_snat_mode {
	IPVS_SNAT_NEVER = 0,
	IPVS_SNAT_EXTERNAL = 1, /* clients that are in no prefix of ipvs_cluster */
	IPVS_SNAT_ALWAYS = 2,
};

#define IPVS_SERVICE_SNAT_MASK 0x3
/* A session that does not fit the map: drop the packet instead of leaving it to the native path. */
#define IPVS_SERVICE_DROP_ON_FULL 0x4

/* Value of ipvs_services. */
struct ipvs_service {
	__u32 id;    /* 1..IPVS_SERVICE_ID_MAX; never used again for another virtual server */
	__u32 flags; /* enum ipvs_snat_mode in IPVS_SERVICE_SNAT_MASK, IPVS_SERVICE_* */
};

#define IPVS_SERVICE_ID_MAX 0xffffff

/*
 * Key of ipvs_sessions: one IPVS connection. The service id stands for virtual address, virtual
 * port and protocol, so that a client port that is used with two virtual servers is two sessions.
 */
struct ipvs_session_key {
	struct ipvs_addr caddr;
	__u32 service_id;
	__be16 cport;
	__u16 zero;
};

#define IPVS_ETHERNET_LEN 12

/*
 * How tc ingress forwards packets of one direction by itself, past the IP stack. Written by the module
 * for a packet that it has routed, so a path is never older than IPVS_PATH_SECONDS: then one packet goes
 * through the module again, and meets what has changed. The programs write nothing here.
 */
struct ipvs_path {
	__u8 ethernet[IPVS_ETHERNET_LEN]; /* destination and source in the Ethernet header */
	__u32 until;        /* jiffies, low 32 bits: the path ends there */
	__u32 in_ifindex;   /* packets come in there: their source has been validated */
	__u32 out_ifindex;  /* 0: no path */
	__u16 mtu;          /* bytes of an IP packet */
	__u8 to_peer;       /* not 0: straight to the peer of out_ifindex, and else by it */
	__u8 tell;          /* enum ipvs_tell */
};

/* Which TCP segments tc ingress tells IPVS of (bpf_ip_vs_tell), or leaves to it; those with SYN, FIN or RST always. */
enum ipvs_tell {
	IPVS_TELL_CHANGES = 0,
	IPVS_TELL_ALL = 1,
	IPVS_TELL_HANDSHAKE = 2, /* all but SYN-ACKs: the client's acknowledgement comes next */
};

#define IPVS_PATH_SECONDS 1
#define IPVS_COUNTED_BYTES_BITS 40
/* `bytes` as IPVS counts them: from the IP header on; `packets` may be 2^24 - 1 between two takeovers. */
#define IPVS_COUNTED(packets, bytes) ((__u64)(packets) << IPVS_COUNTED_BYTES_BITS | (bytes))

/*
 * Value of ipvs_sessions. Added by the module before the first packet leaves, removed by it when
 * IPVS frees the connection. The tc programs write `snat` and `seen`, and what they forward.
 */
struct ipvs_session {
	struct ipvs_addr vaddr;
	struct ipvs_addr daddr;
	__be16 vport;
	__be16 dport;
	__u8 protocol;
	__u8 family;   /* AF_INET or AF_INET6 */
	__u16 flags;   /* enum ipvs_snat_mode in IPVS_SERVICE_SNAT_MASK */
	__u64 snat;    /* the SNAT end: see IPVS_SNAT_*; only changed by compare-and-exchange */
	__u64 seen;    /* jiffies64 of the last packet that a tc program saw; 0: none yet */
	__u64 counted_requests; /* packets and bytes that the module has not taken over yet: IPVS_COUNTED */
	__u64 counted_replies;
	struct ipvs_path request;
	struct ipvs_path reply;
};

/* What the kfunc bpf_ip_vs_tell is told about a TCP segment of a session, beside the packet. */
struct ipvs_event {
	struct ipvs_session_key key;
	struct ipvs_addr vaddr;
	__be16 vport;
	__u16 reply;  /* not 0: from the real server */
	__u32 cookie; /* of the session's SNAT word */
};

/* What the kfunc bpf_ip_vs_find says of a session, beside where it is. */
struct ipvs_found {
	struct ipvs_session_key key;
	__u64 snat; /* its SNAT word, when it was the packet's session */
};

/* What a packet gets that is forwarded (bpf_ip_vs_translate). */
struct ipvs_ends {
	struct ipvs_addr saddr;
	struct ipvs_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 ethernet[IPVS_ETHERNET_LEN]; /* destination and source */
};

/* What the kfunc bpf_ip_vs_forward is told of a packet. */
enum ipvs_forwarded {
	IPVS_FORWARDED_REQUEST = 0,
	IPVS_FORWARDED_REPLY = 1,
	IPVS_FORWARDED_SYN = 2, /* of a connection that it has begun, and that has its SNAT end now */
};

/* With an interface, what bpf_ip_vs_forward answers: straight to its peer. */
#define IPVS_FORWARD_TO_PEER (1ULL << 32)

/*
 * The SNAT end of a session in one word, so that it is published whole or not at all, and never
 * into an element that has been given to another session in the meantime:
 * bits 63..32 the session's cookie, never 0, 31..16 the id of the SNAT address, 15..0 the port
 * (__be16).
 * The module removes a session by exchanging the word with 0 first.
 */
#define IPVS_SNAT_UNDECIDED 0   /* address id: no packet has left yet */
#define IPVS_SNAT_NONE 0xffff   /* address id: this session keeps the client's address */
#define IPVS_SNAT_ADDRS 1024    /* entries of ipvs_snat_addrs; ids are 1..IPVS_SNAT_ADDRS - 1 */
#define IPVS_SNAT_COOKIE(word) ((__u32)((word) >> 32))
#define IPVS_SNAT_ADDR_ID(word) ((__u16)((word) >> 16))
#define IPVS_SNAT_PORT(word) ((__be16)(word))
#define IPVS_SNAT_WORD(cookie, addr_id, port) \
	((__u64)(cookie) << 32 | (__u64)(__u16)(addr_id) << 16 | (__u64)(__u16)(port))

/*
 * Key of ipvs_replies: a packet from a real server to a SNAT end. Inserted by tc egress with
 * BPF_NOEXIST, which is what makes a port unique per (SNAT address, real server, protocol);
 * removed by the module together with the session. The value is the session's key.
 */
struct ipvs_reply_key {
	struct ipvs_addr daddr;
	__be16 dport;
	__be16 snat_port;
	__u16 snat_addr_id;
	__u8 protocol;
	__u8 zero;
};

/*
 * Key of ipvs_frags (LRU): the fragments of one request that leaves for a real server. Written by
 * the module before the first fragment is sent (RFC 791: the four fields that identify a datagram;
 * RFC 8200: the first three, and the protocol does no harm), removed by tc egress with the last
 * fragment.
 */
struct ipvs_frag_key {
	struct ipvs_addr saddr; /* client */
	struct ipvs_addr daddr; /* real server */
	__be32 id;              /* as in the header; IPv4: 16 bits in the low bytes of the word */
	__u8 protocol;
	__u8 zero[3];
};

/* Value of ipvs_frags. */
struct ipvs_frag {
	struct ipvs_session_key session;
	__u32 length; /* bytes behind the IP header and its options or extension headers, of all fragments */
};

/* Value of ipvs_snat_addrs (array, index = address id); ipvs_snat_ids is its inverse. */
struct ipvs_snat_addr {
	struct ipvs_addr addr;
	__u32 family; /* AF_INET or AF_INET6; 0: the id is free */
};

/* Key of ipvs_snat_ifs: which SNAT address (value: __u32 id) packets leave an interface with. */
struct ipvs_snat_if {
	__u32 ifindex;
	__u32 family;
};

/* Key of ipvs_cluster (LPM trie): client prefixes that IPVS_SNAT_EXTERNAL does not translate. */
struct ipvs_prefix {
	__u32 prefix_len; /* 0..128; an IPv4 prefix of n bits is 96 + n */
	struct ipvs_addr addr;
};

/* Key of ipvs_exhausted (LRU): no port was free at (SNAT address, real server) until `value` ns. */
struct ipvs_pool_key {
	struct ipvs_addr daddr;
	__be16 dport;
	__u16 snat_addr_id;
	__u8 protocol;
	__u8 zero[3];
};

/* Ports from `first` to `last`, host byte order, both included; {0, 0} ends a list of them. */
struct ipvs_port_range {
	__u16 first;
	__u16 last;
};

#define IPVS_PORT_RANGES 4

/*
 * The module leaves a hint for tc egress in skb->cb[4] (bytes 24..27, behind struct
 * inet_skb_parm and struct inet6_skb_parm): the service id under a magic byte. IP does not clear
 * these bytes, so the hint only counts together with the flag that IP has for "rerouted", and a
 * session that matches the packet. Fragments of an IPv6 packet have the hint each, those of an IPv4
 * packet only the flag.
 * tc ingress leaves the same in a reply that it has translated: the module then looks for a reply
 * first, which is all that the hint means there.
 */
#define IPVS_HINT_MAGIC 0xb5000000
#define IPVS_HINT_REPLY 0xb4000000 /* instead of the magic: a reply, nothing for tc egress to do */
#define IPVS_HINT_MASK 0xff000000
#define IPVS_HINT_REROUTED 0x10 /* IPSKB_REROUTED, include/net/ip.h; low half of cb[3] */
#define IPVS_HINT_REROUTED6 0x4 /* IP6SKB_REROUTED, include/linux/ipv6.h; low half of cb[2] */

/* Index into ipvs_counters (per-CPU array of __u64 packets or events). Append only. */
enum ipvs_counter {
	IPVS_COUNT_SNAT,               /* tc egress: requests translated */
	IPVS_COUNT_SNAT_REVERSED,      /* tc ingress: replies translated back */
	IPVS_COUNT_SNAT_KEPT,          /* tc egress: requests that keep the client's address */
	IPVS_COUNT_ICMP_EGRESS,        /* tc egress: ICMP errors translated in both headers */
	IPVS_COUNT_ICMP_INGRESS,       /* tc ingress: ICMP errors translated back */
	IPVS_COUNT_FRAGMENT_EGRESS,    /* tc egress: fragments translated */
	IPVS_COUNT_SESSION_ADDED,      /* module */
	IPVS_COUNT_SESSION_REPLACED,   /* module: a client port was used again */
	IPVS_COUNT_SESSION_REMOVED,    /* module */
	IPVS_COUNT_REPLY_REASSEMBLED,  /* module: fragmented replies translated back */
	IPVS_COUNT_BYPASS_MAP_FULL,    /* module: connection left to the native path */
	IPVS_COUNT_BYPASS_UNSUPPORTED, /* module: a kind of connection that is not accelerated */
	IPVS_COUNT_DROP_MAP_FULL,      /* module: connection refused, the session map is full */
	IPVS_COUNT_DROP_NO_SESSION,    /* tc egress: marked by the module, but no session fits */
	IPVS_COUNT_DROP_NO_ADDRESS,    /* tc egress: the interface has no SNAT address */
	IPVS_COUNT_DROP_NO_PORT,       /* tc egress: no SNAT port is free */
	IPVS_COUNT_DROP_REPLIES_FULL,  /* tc egress: the reply map is full */
	IPVS_COUNT_DROP_MALFORMED,     /* tc: a packet of a session is truncated */
	IPVS_COUNT_DROP_REWRITE,       /* tc: the kernel refused to write into the packet */
	IPVS_COUNT_FORWARD_REQUEST,    /* tc ingress: requests translated and sent, past the stack */
	IPVS_COUNT_FORWARD_REPLY,      /* tc ingress: replies, likewise */
	IPVS_COUNT_BEGUN,              /* module: connections that tc ingress has had scheduled */
	IPVS_COUNT_TOLD,               /* module: segments that tc ingress has told it of */
	IPVS_COUNT_BYPASS_MULTIHOMED,  /* module: an end of an SCTP association lists further addresses */
	IPVS_COUNT_DROP_HELD,          /* tc ingress: held back while modules were exchanged */
	IPVS_COUNT_NATIVE_MOVED,       /* module: native connections that left the SNAT end of a session */
	IPVS_COUNTERS,
};

_Static_assert(sizeof(struct ipvs_service_key) == 20, "abi");
_Static_assert(sizeof(struct ipvs_service) == 8, "abi");
_Static_assert(sizeof(struct ipvs_session_key) == 24, "abi");
_Static_assert(sizeof(struct ipvs_path) == 28, "abi");
_Static_assert(sizeof(struct ipvs_session) == 128, "abi");
_Static_assert(sizeof(struct ipvs_event) == 48, "abi");
_Static_assert(sizeof(struct ipvs_found) == 32, "abi");
_Static_assert(sizeof(struct ipvs_ends) == 48, "abi");
_Static_assert(sizeof(struct ipvs_reply_key) == 24, "abi");
_Static_assert(sizeof(struct ipvs_frag_key) == 40, "abi");
_Static_assert(sizeof(struct ipvs_frag) == 28, "abi");
_Static_assert(sizeof(struct ipvs_snat_addr) == 20, "abi");
_Static_assert(sizeof(struct ipvs_snat_if) == 8, "abi");
_Static_assert(sizeof(struct ipvs_prefix) == 20, "abi");
_Static_assert(sizeof(struct ipvs_pool_key) == 24, "abi");

#endif
