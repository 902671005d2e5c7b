// SPDX-License-Identifier: Apache-2.0
/** Builds packets with right checksums, and says what is wrong with those of a packet. IPv6: packet6.ts. */
import { addressBytes } from '../../src/core/abi.ts';
import { isSctpChecksumRight, withSctpChecksum } from './crc32c.ts';

export const IPPROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;
export const ETH_P = { ipv4: 0x0800, vlan: 0x8100, ipv6: 0x86dd } as const;
export const ETHERNET_LENGTH = 14;

/** An address and a port. */
export interface End {
  readonly address: string;
  readonly port: number;
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** `length` bytes that differ from each other and from zero. */
export function filler(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((i * 7 + seed * 31) % 255) + 1);
}

export function ipv4Bytes(address: string): Uint8Array {
  return Uint8Array.from(address.split('.').map(Number));
}

export function be(size: 1 | 2 | 4, value: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (value >>> (8 * (size - 1 - i))) & 0xff);
}

/** Sum of the 16-bit words in ones' complement (RFC 1071); an odd last byte counts as its high half. */
export function onesSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

export function withChecksum(bytes: Uint8Array, at: number, ...pseudo: readonly Uint8Array[]): Uint8Array {
  const sum = ~onesSum(...pseudo, bytes) & 0xffff;
  const out = Uint8Array.from(bytes);
  out.set(be(2, sum), at);
  return out;
}

/** Of either family: the fields have other sizes, but the same sum. */
export function pseudoHeader(
  source: string,
  destination: string,
  protocol: number,
  length: number,
): Uint8Array {
  return join(addressBytes(source), addressBytes(destination), be(2, protocol), be(2, length));
}

export interface Ipv4Fields {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly payload: Uint8Array;
  /** A multiple of 4 bytes. */
  readonly options?: Uint8Array;
  readonly id?: number;
  readonly ttl?: number;
  readonly moreFragments?: boolean;
  /** In bytes. */
  readonly fragmentOffset?: number;
  /** What the header says instead of the right length. */
  readonly totalLength?: number;
}

export function ipv4(fields: Ipv4Fields): Uint8Array {
  const options = fields.options ?? new Uint8Array(0);
  const length = 20 + options.length + fields.payload.length;
  const header = join(
    be(1, 0x40 | (5 + options.length / 4)),
    be(1, 0),
    be(2, fields.totalLength ?? length),
    be(2, fields.id ?? 0x1234),
    be(2, (fields.moreFragments ? 0x2000 : 0) | ((fields.fragmentOffset ?? 0) / 8)),
    be(1, fields.ttl ?? 63),
    be(1, fields.protocol),
    be(2, 0),
    ipv4Bytes(fields.source),
    ipv4Bytes(fields.destination),
    options,
  );
  return join(withChecksum(header, 10), fields.payload);
}

/** What is sent from one end to another. */
export interface Segment {
  readonly from: End;
  readonly to: End;
  readonly payload?: Uint8Array | undefined;
  /** Of a TCP header, ACK and PSH by default. */
  readonly flags?: number | undefined;
  /** Type of an SCTP packet's first chunk, DATA by default. */
  readonly chunk?: number | undefined;
}

export const TCP_FLAGS = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10, urg: 0x20 } as const;

export function tcpSegment({ from, to, payload = filler(5), flags = 0x18 }: Segment): Uint8Array {
  const header = join(
    be(2, from.port),
    be(2, to.port),
    be(4, 0x11223344),
    be(4, 0x55667788),
    be(2, 0x5000 | flags),
    be(2, 0x7210),
    be(4, 0),
  );
  const segment = join(header, payload);
  return withChecksum(segment, 16, pseudoHeader(from.address, to.address, IPPROTO.tcp, segment.length));
}

export interface Datagram extends Segment {
  /** Sent without a checksum (RFC 768). */
  readonly unchecked?: boolean;
}

export function udpDatagram({ from, to, payload = filler(5), unchecked = false }: Datagram): Uint8Array {
  const length = 8 + payload.length;
  const datagram = join(be(2, from.port), be(2, to.port), be(2, length), be(2, 0), payload);
  if (unchecked) return datagram;
  const checked = withChecksum(datagram, 6, pseudoHeader(from.address, to.address, IPPROTO.udp, length));
  // A sum of zero is sent as its other representation, because zero means "none".
  if (checked[6] === 0 && checked[7] === 0) checked.fill(0xff, 6, 8);
  return checked;
}

/** `payload` is what the chunk carries. */
export function sctpPacket({ from, to, payload = filler(5), chunk = 0 }: Segment): Uint8Array {
  const header = join(be(2, from.port), be(2, to.port), be(4, 0x11223344), be(4, 0));
  return withSctpChecksum(join(header, be(1, chunk), be(1, 3), be(2, 4 + payload.length), payload));
}

export type Transport = 'TCP' | 'UDP' | 'SCTP';

/** Bytes of a transport header, of SCTP with that of the chunk. */
export const HEADER_LENGTH: Readonly<Record<Transport, number>> = { TCP: 20, UDP: 8, SCTP: 16 };

const PROTOCOLS: Readonly<Record<Transport, number>> = {
  TCP: IPPROTO.tcp,
  UDP: IPPROTO.udp,
  SCTP: IPPROTO.sctp,
};

export const protocolOf = (transport: Transport): number => PROTOCOLS[transport];

export function transportPayload(transport: Transport, segment: Datagram): Uint8Array {
  if (transport === 'SCTP') return sctpPacket(segment);
  return transport === 'TCP' ? tcpSegment(segment) : udpDatagram(segment);
}

type Extra = Partial<Ipv4Fields> & { readonly unchecked?: boolean };

/** A whole packet with ports; `extra` goes to the IP header. */
export function packet(
  transport: Transport,
  segment: Segment,
  { unchecked = false, ...extra }: Extra = {},
): Uint8Array {
  return ipv4({
    source: segment.from.address,
    destination: segment.to.address,
    protocol: protocolOf(transport),
    payload: transportPayload(transport, { ...segment, unchecked }),
    ...extra,
  });
}

export interface IcmpError {
  readonly source: string;
  readonly destination: string;
  readonly type?: number;
  readonly code?: number;
  /** Bytes 4 to 7: next-hop MTU and the like. */
  readonly rest?: number;
  /** The packet that caused it, as much of it as is quoted. */
  readonly quote: Uint8Array;
}

/** A whole ICMP packet, by default "fragmentation needed". */
export function icmpError(error: IcmpError, extra: Partial<Ipv4Fields> = {}): Uint8Array {
  const { source, destination, type = 3, code = 4, rest = 1400, quote } = error;
  const message = join(be(1, type), be(1, code), be(2, 0), be(4, rest), quote);
  return ipv4({ source, destination, protocol: IPPROTO.icmp, payload: withChecksum(message, 2), ...extra });
}

export interface Tag {
  readonly vlan: number;
}

/** Destination and source in the Ethernet header: BPF_PROG_RUN takes zeros for the address of the device. */
export const ETHERNET = Uint8Array.of(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1);

/** A frame to the device. */
export function frame(payload: Uint8Array, type: number = ETH_P.ipv4, ...tags: readonly Tag[]): Uint8Array {
  const inLine = tags.flatMap(({ vlan }) => [be(2, ETH_P.vlan), be(2, vlan)]);
  return join(ETHERNET, ...inLine, be(2, type), payload);
}

export function at16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function transportProblems(ip: Uint8Array, headerLength: number, what: string): string[] {
  const protocol = ip[9];
  const body = ip.subarray(headerLength, at16(ip, 2));
  // Of a fragment, or of what a short quote leaves, no sum can be made.
  if (at16(ip, 6) & 0x3fff || at16(ip, 2) > ip.length) return [];
  if (protocol === IPPROTO.icmp) {
    const sum = onesSum(body) === 0xffff ? [] : [`${what}ICMP checksum`];
    return (body[0] ?? 0) === 8 ? sum : [...sum, ...checksumProblems(body.subarray(8), `quoted `)];
  }
  if (protocol === IPPROTO.udp && at16(body, 6) === 0) return [];
  if (protocol === IPPROTO.sctp) return isSctpChecksumRight(body) ? [] : [`${what}SCTP checksum`];
  const pseudo = join(ip.subarray(12, 20), be(2, protocol ?? 0), be(2, body.length));
  return onesSum(pseudo, body) === 0xffff ? [] : [`${what}transport checksum`];
}

/** The checksums in an IPv4 packet, and in what it quotes, that are wrong. */
export function checksumProblems(ip: Uint8Array, what = ''): string[] {
  const headerLength = ((ip[0] ?? 0) & 0xf) * 4;
  const header = onesSum(ip.subarray(0, headerLength)) === 0xffff ? [] : [`${what}IP header checksum`];
  return [...header, ...transportProblems(ip, headerLength, what)];
}

/** The same, of an Ethernet frame. */
export function frameProblems(bytes: Uint8Array): string[] {
  return checksumProblems(bytes.subarray(ETHERNET_LENGTH));
}
