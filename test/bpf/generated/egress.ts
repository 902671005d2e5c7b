// SPDX-License-Identifier: Apache-2.0
/** The reference model of tc egress: a request of a session gets its SNAT end. */
import { HINT_MAGIC, REROUTED, REROUTED6 } from '../datapath.ts';
import { choose } from './choice.ts';
import {
  type Address,
  type Change,
  type FragmentKey,
  fragmentText,
  KEPT,
  type Maps,
  type Session,
  type SessionKey,
  type SnatEnd,
  sessionText,
  UNDECIDED,
} from './maps.ts';
import {
  addressee,
  dropped,
  familyByContent,
  familyOf,
  type Input,
  type Outcome,
  untouched,
} from './outcome.ts';
import {
  destinationPort,
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
import { translated, translatedError } from './rewrite.ts';

const HINT_MASK = 0xff000000;
/** IPVS_HINT_REPLY */
const HINT_REPLY = 0xb4000000;

/** A packet of ip_vs, and what it says about its session. */
interface Request {
  readonly packet: IpPacket;
  readonly quote?: IpPacket;
  readonly key: SessionKey;
  /** The real server's end; no port: a later fragment. */
  readonly real: { readonly address: Address; readonly port: number | undefined; readonly protocol: number };
  /** Of a fragment: bytes of the whole datagram behind the IP header. */
  readonly whole?: number;
  readonly counter: 'SNAT' | 'ICMP_EGRESS' | 'FRAGMENT_EGRESS';
  readonly changes: readonly Change[];
}

type Identified = Request | Outcome;
const isRequest = (identified: Identified): identified is Request => 'real' in identified;

function byHint(input: Input, packet: IpPacket, serviceId: number): Identified {
  if (!hasWholeHeader(packet)) return dropped(input, 'DROP_MALFORMED');
  const { frame } = input;
  const key = { caddr: packet.source, cport: sourcePort(frame, packet), serviceId };
  const real = {
    address: packet.destination,
    port: destinationPort(frame, packet),
    protocol: packet.protocol,
  };
  return { packet, key, real, counter: 'SNAT', changes: [] };
}

/** It quotes a packet from the real server to the client. */
function byQuote(input: Input, packet: IpPacket, serviceId: number): Identified {
  const { frame } = input;
  if (packet.length === 0) return dropped(input, 'DROP_MALFORMED');
  if (!isIcmpError(frame, packet)) return untouched(input);
  const quote = readQuote(frame, packet);
  if (quote === undefined) return dropped(input, 'DROP_MALFORMED');
  if (quote.source !== packet.destination) return dropped(input, 'DROP_NO_SESSION');
  const key = { caddr: quote.destination, cport: destinationPort(frame, quote), serviceId };
  const real = { address: quote.source, port: sourcePort(frame, quote), protocol: quote.protocol };
  return { packet, quote, key, real, counter: 'ICMP_EGRESS', changes: [] };
}

/** The module has said before whose datagram it is; its last fragment ends that. */
function byDatagram(input: Input, packet: IpPacket, maps: Maps, isHinted: boolean): Identified {
  const { source, destination, protocol, fragment } = packet;
  if (fragment === undefined) return untouched(input);
  const datagram: FragmentKey = { saddr: source, daddr: destination, id: fragment.id, protocol };
  const found = maps.fragments.get(fragmentText(datagram));
  if (found === undefined) return isHinted ? dropped(input, 'DROP_NO_SESSION') : untouched(input);
  const changes: Change[] = fragment.last ? [{ kind: 'fragments end', key: datagram }] : [];
  if (!fragment.later && !hasWholeHeader(packet)) return dropped(input, 'DROP_MALFORMED', changes);
  const port = fragment.later ? undefined : destinationPort(input.frame, packet);
  const real = { address: destination, port, protocol };
  const { session: key, length: whole } = found;
  return { packet, key, real, whole, counter: 'FRAGMENT_EGRESS', changes };
}

function identify(input: Input, packet: IpPacket, maps: Maps, serviceId: number | undefined): Identified {
  if (packet.fragment !== undefined) return byDatagram(input, packet, maps, serviceId !== undefined);
  if (serviceId === undefined) return untouched(input);
  if (hasPorts(packet)) return byHint(input, packet, serviceId);
  if (isIcmp(packet)) return byQuote(input, packet, serviceId);
  // The module looks behind any number of extension headers, so this may be a packet of a session.
  return packet.family === 6 ? dropped(input, 'DROP_NO_SESSION') : untouched(input);
}

function fits({ daddr, dport, protocol, snat }: Session, { real }: Request): boolean {
  const isPort = real.port === undefined || real.port === dport;
  return daddr === real.address && isPort && protocol === real.protocol && snat.cookie !== 0;
}

/** With its SNAT end in it, in both headers of an error. */
function write(input: Input, request: Request, maps: Maps, snat: SnatEnd, changes: Change[]): Outcome {
  const { packet, quote, whole, counter } = request;
  const own = maps.addresses.get(snat.addressId);
  if (own?.family !== packet.family) return dropped(input, 'DROP_NO_ADDRESS', changes);
  if (packet.start + (packet.stated ?? (packet.family === 6 ? 40 : 0)) > input.frame.length)
    return dropped(input, 'DROP_MALFORMED', changes);
  const source = { address: own.addr, port: snat.port };
  const frame =
    quote === undefined
      ? translated(input.frame, packet, { source }, { isCutUp: input.gsoSize > 0, ...(whole && { whole }) })
      : translatedError(input.frame, packet, quote, { source });
  return { verdict: 'pass', counter, frame, cb: input.cb, changes };
}

function translate(
  input: Input,
  request: Request,
  maps: Maps,
  chosen: (session: Session) => SnatEnd,
): Outcome {
  const changes = [...request.changes];
  const session = maps.sessions.get(sessionText(request.key));
  if (session === undefined || !fits(session, request)) return dropped(input, 'DROP_NO_SESSION', changes);
  let { snat } = session;
  if (snat.addressId === UNDECIDED) {
    const choice = choose(maps, session, input.ifindex, () => chosen(session));
    changes.push(...choice.changes);
    if (choice.problem !== undefined) return { ...untouched(input), problem: choice.problem };
    if ('drop' in choice) return dropped(input, choice.drop, changes);
    snat = choice.snat;
  }
  changes.push({ kind: 'seen', session }, { kind: 'port known', port: session.vport });
  if (snat.addressId === KEPT) return { ...untouched(input, changes), counter: 'SNAT_KEPT' };
  return write(input, request, maps, snat, changes);
}

/**
 * What tc egress makes of a packet. Only one that IP has marked as rerouted may be ip_vs's; one with a hint
 * is. The hint is taken out, because the packet may pass the program of another device as well.
 */
export function egress(input: Input, maps: Maps, chosen: (session: Session) => SnatEnd): Outcome {
  const [, , word2 = 0, word3 = 0, hint = 0] = input.cb;
  if (!(word2 & REROUTED6) && !(word3 & REROUTED)) return untouched(input);
  if (hint === HINT_REPLY || addressee(input) === 'another host') return untouched(input);
  const family = familyByContent(input);
  if (!(family === 6 ? word2 & REROUTED6 : word3 & REROUTED)) return untouched(input);
  const isHinted = (hint & HINT_MASK) >>> 0 === HINT_MAGIC;
  if (!isHinted && familyOf(input) !== family) return untouched(input);
  const read = readPacket(family, input.frame);
  if (read === 'truncated' && isHinted) return dropped(input, 'DROP_MALFORMED');
  if (!isPacket(read)) return untouched(input);
  const without = isHinted ? { ...input, cb: [...input.cb.slice(0, 4), 0] } : input;
  const request = identify(without, read, maps, isHinted ? hint & ~HINT_MASK : undefined);
  return isRequest(request) ? translate(without, request, maps, chosen) : request;
}
