// SPDX-License-Identifier: Apache-2.0
/**
 * The reference model of tc ingress: packets of a session with a path are translated at both ends and sent on;
 * other replies get back the client's address, for the module.
 */
import { HINT_MAGIC } from '../datapath.ts';
import {
  type Address,
  type Direction,
  KEPT,
  type Maps,
  type Path,
  type ReplyKey,
  replyText,
  SCTP,
  type Session,
  serviceText,
  sessionText,
  TCP,
} from './maps.ts';
import { addressee, dropped, familyOf, type Input, type Outcome, untouched } from './outcome.ts';
import {
  destinationPort,
  ETHERNET,
  hasPorts,
  hasWholeHeader,
  type IpPacket,
  isIcmp,
  isIcmpError,
  isPacket,
  readPacket,
  readQuote,
  sourcePort,
} from './packet.ts';
import { type Ends, translated, translatedError } from './rewrite.ts';

const FIN_SYN_RST = 0x07;
/** DATA, SACK, HEARTBEAT, HEARTBEAT ACK. */
const PLAIN_CHUNKS = [0, 3, 4, 5];

const isSnatPort = ({ ports }: Maps, port: number) =>
  ports.some(({ first, last }) => port >= first && port <= last);

/** The session that owns a SNAT end which a real server sends to. */
function ownerOf(maps: Maps, to: Address, key: Omit<ReplyKey, 'addressId'>): Session | undefined {
  const addressId = maps.addressIds.get(to);
  if (addressId === undefined || !isSnatPort(maps, key.port)) return undefined;
  const found = maps.replies.get(replyText({ ...key, addressId }));
  const session = found && maps.sessions.get(sessionText(found.session));
  // An entry that is being removed does not count.
  return session?.snat.addressId === addressId && session.snat.port === key.port ? session : undefined;
}

function sessionOfReply(frame: Buffer, packet: IpPacket, maps: Maps): Session | undefined {
  const { source, destination, protocol } = packet;
  const [dport, port] = [sourcePort(frame, packet), destinationPort(frame, packet)];
  return ownerOf(maps, destination, { daddr: source, dport, port, protocol });
}

function sessionOfRequest(frame: Buffer, packet: IpPacket, maps: Maps): Session | undefined {
  const { source, destination, protocol } = packet;
  const vport = destinationPort(frame, packet);
  if (!maps.knownPorts.has(vport)) return undefined;
  const service = maps.services.get(serviceText({ vaddr: destination, vport, protocol }));
  if (service === undefined) return undefined;
  const key = { caddr: source, cport: sourcePort(frame, packet), serviceId: service.id };
  return maps.sessions.get(sessionText(key));
}

interface Forwarding {
  readonly session: Session;
  readonly direction: Direction;
  readonly ends: Ends;
}

/** What the real server shall see as the source; undefined: that is not decided. */
function requestEnds({ key, snat, daddr, dport, family }: Session, maps: Maps): Ends | undefined {
  const destination = { address: daddr, port: dport };
  if (snat.addressId === KEPT) return { source: { address: key.caddr, port: key.cport }, destination };
  const own = maps.addresses.get(snat.addressId);
  return own?.family === family ? { source: { address: own.addr, port: snat.port }, destination } : undefined;
}

function forwardingOf(frame: Buffer, packet: IpPacket, maps: Maps): Forwarding | undefined {
  const owner = sessionOfReply(frame, packet, maps);
  if (owner !== undefined) {
    const { key, vaddr, vport } = owner;
    const ends = {
      source: { address: vaddr, port: vport },
      destination: { address: key.caddr, port: key.cport },
    };
    return { session: owner, direction: 'reply', ends };
  }
  const session = sessionOfRequest(frame, packet, maps);
  const ends = session && requestEnds(session, maps);
  return session && ends && { session, direction: 'request', ends };
}

/** Nothing between IP header and transport header, not a fragment, and no news for IPVS. */
function isPlain({ frame }: Input, packet: IpPacket): boolean {
  const { family, start, transport, fragment } = packet;
  if (transport !== start + (family === 4 ? 20 : 40) || fragment !== undefined) return false;
  if (!hasPorts(packet) || !hasWholeHeader(packet)) return false;
  // The first chunk stands for all.
  if (packet.protocol === SCTP) return PLAIN_CHUNKS.includes(frame[transport + 12] ?? 1);
  if (packet.protocol !== TCP) return true;
  const headerLength = frame.readUInt8(transport + 12) >> 4;
  return headerLength > 0 && (frame.readUInt8(transport + 13) & FIN_SYN_RST) === 0;
}

/** Datagrams that were merged have a header each, so only TCP can be cut up again to fit. */
function fitsMtu({ frame, gsoSize }: Input, packet: IpPacket, mtu: number): boolean {
  if (gsoSize === 0) return (packet.stated ?? 0) <= mtu;
  if (packet.protocol !== TCP) return false;
  const headers = packet.transport - packet.start + (frame.readUInt8(packet.transport + 12) >> 4) * 4;
  return headers + gsoSize <= mtu;
}

/** As an IP layer would check it. */
function mayForward(input: Input, packet: IpPacket, path: Path): boolean {
  const { frame, ifindex, mark, gsoSize } = input;
  // Only what is cut up later may be too long for the length in its header.
  if (packet.stated === undefined && gsoSize === 0) return false;
  const hops = frame.readUInt8(packet.start + (packet.family === 4 ? 8 : 7));
  return (
    path.outIfindex !== 0 &&
    path.inIfindex === ifindex &&
    path.left > 0 &&
    !path.tell &&
    addressee(input) === 'this host' &&
    mark === 0 &&
    hops > 1 &&
    packet.start + (packet.stated ?? 0) <= frame.length &&
    fitsMtu(input, packet, path.mtu)
  );
}

/** Undefined: the packet has to go through ip_vs, or is no session's. */
function forward(input: Input, packet: IpPacket, maps: Maps): Outcome | undefined {
  if (!isPlain(input, packet)) return undefined;
  const found = forwardingOf(input.frame, packet, maps);
  if (found === undefined || found.session.family !== packet.family) return undefined;
  const { session, direction, ends } = found;
  const path = session[direction];
  if (!mayForward(input, packet, path)) return undefined;
  const frame = translated(input.frame, packet, ends, { hops: 1 });
  // Past tc egress to a peer; else without anything that it could take for a hint.
  frame.write(path.ethernet, 0, 'hex');
  const bytes = input.gsoSize > 0 ? frame.length - ETHERNET : (packet.stated ?? 0);
  return {
    verdict: 'redirect',
    counter: direction === 'request' ? 'FORWARD_REQUEST' : 'FORWARD_REPLY',
    frame,
    cb: path.toPeer ? input.cb : [...input.cb.slice(0, 2), 0, 0, 0],
    changes: [
      { kind: 'counted', session, direction, bytes },
      { kind: 'seen', session },
    ],
  };
}

/** The quote is a request as it has left; errors come from the real server or a router before it. */
function ownerOfQuote(frame: Buffer, packet: IpPacket, quote: IpPacket, maps: Maps): Session | undefined {
  if (!hasPorts(quote) || quote.source !== packet.destination) return undefined;
  const { destination: daddr, protocol } = quote;
  const [port, dport] = [sourcePort(frame, quote), destinationPort(frame, quote)];
  return ownerOf(maps, packet.destination, { daddr, dport, port, protocol });
}

/** Gives a reply, or an error about a request, the client for its destination; fragments are the module's. */
function reverse(input: Input, packet: IpPacket, maps: Maps): Outcome {
  const { frame } = input;
  if (packet.fragment !== undefined || packet.length === 0) return untouched(input);
  const isError = isIcmp(packet) && isIcmpError(frame, packet);
  const quote = isError ? readQuote(frame, packet) : undefined;
  let session: Session | undefined;
  if (hasPorts(packet)) session = sessionOfReply(frame, packet, maps);
  else if (quote !== undefined) session = ownerOfQuote(frame, packet, quote, maps);
  if (session === undefined || session.family !== packet.family) return untouched(input);

  const changes = [{ kind: 'seen', session }] as const;
  const least = packet.stated ?? (packet.family === 6 ? 40 : 0);
  const isWhole = packet.start + least <= frame.length && (quote !== undefined || hasWholeHeader(packet));
  if (!isWhole) return dropped(input, 'DROP_MALFORMED', changes);
  const destination = { address: session.key.caddr, port: session.key.cport };
  return {
    verdict: 'pass',
    counter: quote === undefined ? 'SNAT_REVERSED' : 'ICMP_INGRESS',
    frame:
      quote === undefined
        ? translated(frame, packet, { destination }, { isCutUp: input.gsoSize > 0 })
        : translatedError(frame, packet, quote, { destination }),
    cb: [...input.cb.slice(0, 4), (HINT_MAGIC | session.key.serviceId) >>> 0],
    changes,
  };
}

/** What tc ingress makes of a packet. */
export function ingress(input: Input, maps: Maps): Outcome {
  const family = familyOf(input);
  if (family === undefined) return untouched(input);
  const packet = readPacket(family, input.frame);
  if (!isPacket(packet)) return untouched(input);
  return forward(input, packet, maps) ?? reverse(input, packet, maps);
}
