// SPDX-License-Identifier: Apache-2.0
/** IPv6 packets with right checksums, and what is wrong with those of a packet. */
import { addressBytes, formatAddress } from '../../src/core/abi.ts';
import { isSctpChecksumRight } from './crc32c.ts';
import {
  at16,
  be,
  IPPROTO,
  join,
  onesSum,
  protocolOf,
  pseudoHeader,
  type Segment,
  type Transport,
  transportPayload,
  withChecksum,
} from './packet.ts';

/** Numbers of the extension headers that have their length in the second byte. */
export const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;

/** An extension header without its first byte: what follows is put there. */
export interface Extension {
  readonly kind: number;
  /** All bytes behind the first. */
  readonly rest: Uint8Array;
}

/** `length` bytes of options that do nothing: a multiple of 8. */
export function options(kind: number, length = 8): Extension {
  return {
    kind,
    rest: join(be(1, length / 8 - 1), Uint8Array.of(1, length - 4), new Uint8Array(length - 4)),
  };
}

export function routing(segmentsLeft: number): Extension {
  return { kind: EXTENSION.routing, rest: join(Uint8Array.of(2, 4, segmentsLeft), new Uint8Array(20)) };
}

export function fragmentHeader(id: number, offset: number, more: boolean): Extension {
  return { kind: EXTENSION.fragment, rest: join(be(1, 0), be(2, offset | (more ? 1 : 0)), be(4, id)) };
}

export interface Ipv6Fields {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly extensions?: readonly Extension[];
  /** What the header says instead of the right length. */
  readonly payloadLength?: number;
  readonly hopLimit?: number;
}

export function ipv6({
  source,
  destination,
  protocol,
  payload,
  extensions = [],
  ...rest
}: Ipv6Fields): Uint8Array {
  const kinds = [...extensions.map((extension) => extension.kind), protocol];
  const behind = join(
    ...extensions.map((extension, i) => join(be(1, kinds[i + 1] ?? 0), extension.rest)),
    payload,
  );
  const start = join(
    be(4, 0x60012345),
    be(2, rest.payloadLength ?? behind.length),
    be(1, kinds[0] ?? 0),
    be(1, rest.hopLimit ?? 63),
  );
  return join(start, addressBytes(source), addressBytes(destination), behind);
}

export type Extra6 = Partial<Ipv6Fields> & { readonly unchecked?: boolean };

/** A whole packet with ports; `extra` goes to the IP header. */
export function packet6(
  transport: Transport,
  segment: Segment,
  { unchecked = false, ...extra }: Extra6 = {},
): Uint8Array {
  return ipv6({
    source: segment.from.address,
    destination: segment.to.address,
    protocol: protocolOf(transport),
    payload: transportPayload(transport, { ...segment, unchecked }),
    ...extra,
  });
}

export interface Icmpv6Error {
  readonly source: string;
  readonly destination: string;
  readonly type?: number;
  readonly code?: number;
  /** The packet that caused it, as much of it as is quoted. */
  readonly quote: Uint8Array;
}

/** A whole ICMPv6 packet, by default "packet too big". */
export function icmpv6Error(error: Icmpv6Error, extra: Partial<Ipv6Fields> = {}): Uint8Array {
  const { source, destination, type = 2, code = 0, quote } = error;
  const message = join(be(1, type), be(1, code), be(2, 0), be(4, 1400), quote);
  const pseudo = pseudoHeader(source, destination, IPPROTO.icmpv6, message.length);
  const payload = withChecksum(message, 2, pseudo);
  return ipv6({ source, destination, protocol: IPPROTO.icmpv6, payload, ...extra });
}

/** Protocol and place of the transport header; undefined for a fragment, of which no sum can be made. */
function transportOf(ip: Uint8Array): { readonly protocol: number; readonly at: number } | undefined {
  let protocol = ip[6] ?? 0;
  let at = 40;
  while (Object.values<number>(EXTENSION).includes(protocol)) {
    if (protocol === EXTENSION.fragment && at16(ip, at + 2) !== 0) return undefined;
    const length = protocol === EXTENSION.fragment ? 8 : ((ip[at + 1] ?? 0) + 1) * 8;
    protocol = ip[at] ?? 0;
    at += length;
  }
  return { protocol, at };
}

/** The checksums in an IPv6 packet, and in what it quotes, that are wrong. */
export function checksumProblems6(ip: Uint8Array, what = ''): string[] {
  const transport = transportOf(ip);
  const end = 40 + at16(ip, 4);
  if (transport === undefined || end > ip.length) return [];
  const { protocol, at } = transport;
  const body = ip.subarray(at, end);
  if (protocol === IPPROTO.udp && at16(body, 6) === 0) return [];
  if (protocol === IPPROTO.sctp) return isSctpChecksumRight(body) ? [] : [`${what}SCTP checksum`];
  const [source, destination] = [formatAddress(ip.subarray(8, 24)), formatAddress(ip.subarray(24, 40))];
  const right = onesSum(pseudoHeader(source, destination, protocol, body.length), body) === 0xffff;
  const problems = right ? [] : [`${what}checksum of protocol ${protocol}`];
  const isError = protocol === IPPROTO.icmpv6 && (body[0] ?? 0) < 128;
  return isError ? [...problems, ...checksumProblems6(body.subarray(8), 'quoted ')] : problems;
}
