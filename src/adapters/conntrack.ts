// SPDX-License-Identifier: Apache-2.0
/** Entries of connection tracking for connections that it has not seen, by ctnetlink: `conntrack -I`. */
import type { End, SessionEnds, TrackedConnection } from '../connection-ports.ts';
import { addressBytes, familyNumber, protocolNumber } from '../core/abi.ts';
import { errnoOf } from '../core/errors.ts';
import {
  attribute,
  attributeUint8,
  attributeUint16be,
  attributeUint32be,
  NETLINK_NETFILTER,
  type NetlinkRequest,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  nested,
} from './netlink-socket.ts';

// linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h
const SUBSYSTEM = 1 << 8;
const CT_NEW = SUBSYSTEM | 0;
const CT_DELETE = SUBSYSTEM | 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_NAT_SRC = 6;
const CTA_TIMEOUT = 7;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
const CTA_NAT_PROTO = 3;
const CTA_PROTONAT_PORT_MIN = 1;
const CTA_PROTONAT_PORT_MAX = 2;
/** By address family: CTA_IP_V4_SRC and _DST, CTA_NAT_V4_MINIP and _MAXIP, and so on. */
const ADDRESS_ATTRIBUTES = {
  IPv4: { source: 1, destination: 2, least: 1, most: 2 },
  IPv6: { source: 3, destination: 4, least: 4, most: 5 },
} as const;
// linux/netfilter/nf_conntrack_common.h: IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
const STATUS = 0x2 | 0x4 | 0x8;
/**
 * By the state of IPVS: that of conntrack (enum tcp_conntrack), and for how many seconds it is in it, as the kernel's own
 * timeouts say (net/netfilter/nf_conntrack_proto_tcp.c). A client whose connection is closed may use its port again.
 */
const CLOSING: Readonly<Record<string, readonly [state: number, seconds: number]>> = {
  FIN_WAIT: [4, 120],
  CLOSE_WAIT: [5, 60],
  LAST_ACK: [6, 30],
  TIME_WAIT: [7, 120],
  CLOSE: [8, 10],
};
const TCP_ESTABLISHED = 3;
/** IP_CT_TCP_FLAG_BE_LIBERAL, value and mask: nobody knows the windows. */
const LIBERAL = Uint8Array.of(0x8, 0x8);
/** Of open ones, until a packet comes: from then on the kernel's own timeouts count. Longer than IPVS keeps them. */
const TIMEOUT_SECONDS = { TCP: 3_600, UDP: 300, SCTP: 300 } as const;

/** A tuple in one direction. */
function tuple(type: number, { family, protocol }: SessionEnds, from: End, to: End): Uint8Array {
  const { source, destination } = ADDRESS_ATTRIBUTES[family];
  return nested(type, [
    nested(CTA_TUPLE_IP, [
      attribute(source, addressBytes(from.address)),
      attribute(destination, addressBytes(to.address)),
    ]),
    nested(CTA_TUPLE_PROTO, [
      attributeUint8(CTA_PROTO_NUM, protocolNumber(protocol)),
      attributeUint16be(CTA_PROTO_SRC_PORT, from.port),
      attributeUint16be(CTA_PROTO_DST_PORT, to.port),
    ]),
  ]);
}

function sourceTranslation({ family, snat }: SessionEnds): readonly Uint8Array[] {
  if (snat === undefined) return [];
  const { least, most } = ADDRESS_ATTRIBUTES[family];
  const address = addressBytes(snat.address);
  return [
    nested(CTA_NAT_SRC, [
      attribute(least, address),
      attribute(most, address),
      nested(CTA_NAT_PROTO, [
        attributeUint16be(CTA_PROTONAT_PORT_MIN, snat.port),
        attributeUint16be(CTA_PROTONAT_PORT_MAX, snat.port),
      ]),
    ]),
  ];
}

/** State and timeout. */
function life({ protocol, state }: TrackedConnection): readonly Uint8Array[] {
  if (protocol !== 'TCP') return [attributeUint32be(CTA_TIMEOUT, TIMEOUT_SECONDS[protocol])];
  const [number, seconds] = CLOSING[state] ?? [TCP_ESTABLISHED, TIMEOUT_SECONDS.TCP];
  const tcp = [
    attributeUint8(CTA_PROTOINFO_TCP_STATE, number),
    attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, LIBERAL),
    attribute(CTA_PROTOINFO_TCP_FLAGS_REPLY, LIBERAL),
  ];
  return [attributeUint32be(CTA_TIMEOUT, seconds), nested(CTA_PROTOINFO, [nested(CTA_PROTOINFO_TCP, tcp)])];
}

/** struct nfgenmsg */
function head({ family }: SessionEnds): Uint8Array {
  return Uint8Array.of(familyNumber(family), 0, 0, 0);
}

/** As IPVS leaves one: it has changed the reply's source already, and the SNAT end comes on top. */
function create(session: TrackedConnection): NetlinkRequest {
  const { client, virtual, real } = session;
  return {
    action: 'add a conntrack entry',
    type: CT_NEW,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    data: Buffer.concat([
      head(session),
      tuple(CTA_TUPLE_ORIG, session, client, virtual),
      tuple(CTA_TUPLE_REPLY, session, real, client),
      attributeUint32be(CTA_STATUS, STATUS),
      ...life(session),
      ...sourceTranslation(session),
    ]),
  };
}

function remove(session: SessionEnds): NetlinkRequest {
  return {
    action: 'delete a conntrack entry',
    type: CT_DELETE,
    data: Buffer.concat([head(session), tuple(CTA_TUPLE_ORIG, session, session.client, session.virtual)]),
  };
}

/**
 * Removes the entries of `ended`, adds those of `connections`, and answers those that there is no entry for. An open
 * connection gets one also in place of what a native one of the same client port has left behind; one that is closing
 * leaves to another what that has. Throws HostError if there is none for any.
 */
export async function changeConntrackEntries(
  ended: readonly SessionEnds[],
  connections: readonly TrackedConnection[],
): Promise<readonly TrackedConnection[]> {
  const known = connections.filter(isKnown);
  const others = connections.filter((connection) => !isKnown(connection));
  if (known.length + ended.length === 0) return others;
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    await socket.requestAll(ended.filter(isKnown).map(remove));
    return [...others, ...(await add(known, socket))];
  } finally {
    await socket.close();
  }
}

/** Of SCTP, connection tracking wants to have seen the association begin. */
function isKnown({ protocol }: SessionEnds): boolean {
  return protocol !== 'SCTP';
}

async function add(
  connections: readonly TrackedConnection[],
  socket: NetlinkSocket,
): Promise<readonly TrackedConnection[]> {
  const added = await socket.requestAll(connections.map(create));
  const isTaken = (index: number): boolean => errnoOf(added[index]) === 'EEXIST';
  const stale = connections.filter(({ state }, index) => isTaken(index) && !(state in CLOSING));
  await socket.requestAll(stale.map(remove));
  const again = await socket.requestAll(stale.map(create));
  const failed = [
    ...connections.filter((_, index) => added[index] !== undefined && !isTaken(index)),
    ...stale.filter((_, index) => again[index] !== undefined),
  ];
  const [error] = [...again, ...added].filter((each) => each !== undefined);
  if (failed.length > 0 && failed.length === connections.length && error !== undefined) throw error;
  return failed;
}
