// SPDX-License-Identifier: Apache-2.0
/** Reads packets, by RFC 791, 792, 4443 and 8200, and bpf/abi.h where that says more. */
import { type Address, type Family, MAPPED, SCTP, TCP, UDP } from './maps.ts';

export const ETHERNET = 14;
export const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd, vlan: 0x8100 } as const;
export const ICMP = { 4: 1, 6: 58 } as const;
/** Headers of IPv6 that are looked behind, and how many of them at the most. */
export const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;
const EXTENSIONS: readonly number[] = Object.values(EXTENSION);
const MOST_EXTENSIONS = 5;
/** Every quote of an ICMP error has so much of the transport header, and every packet as well. */
export const LEAST_TRANSPORT = 8;

export interface Fragment {
  /** It does not begin with the transport header. */
  readonly later: boolean;
  readonly last: boolean;
  /** Identification as in the header, in hexadecimal digits. */
  readonly id: string;
}

/** An IP packet in a frame: offsets count from the start of the frame. */
export interface IpPacket {
  readonly family: Family;
  readonly start: number;
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: number;
  readonly transport: number;
  /** Bytes of the transport header and what follows; 0: less than LEAST_TRANSPORT. */
  readonly length: number;
  readonly fragment: Fragment | undefined;
  /** What the IP header says, from its own first byte on; undefined: it says nothing. */
  readonly stated: number | undefined;
}

/** `other`: another version of IP than asked for. */
export type Read = IpPacket | 'truncated' | 'other';

export const isPacket = (read: Read): read is IpPacket => typeof read === 'object';
export const hasPorts = ({ protocol }: IpPacket) => [TCP, UDP, SCTP].includes(protocol);
export const isIcmp = ({ family, protocol }: IpPacket) => protocol === ICMP[family];
export const sourcePort = (frame: Buffer, { transport }: IpPacket) => frame.readUInt16BE(transport);
export const destinationPort = (frame: Buffer, { transport }: IpPacket) => frame.readUInt16BE(transport + 2);
/** Where the address stands that is replaced. */
export const addressAt = (packet: IpPacket, end: 'source' | 'destination') =>
  packet.start + (packet.family === 4 ? 12 : 8) + (end === 'source' ? 0 : packet.family === 4 ? 4 : 16);

/** True for a packet that has the part of the transport header which a translation rewrites. */
export function hasWholeHeader({ protocol, length }: IpPacket): boolean {
  if (protocol === SCTP) return length >= 12;
  return length >= (protocol === TCP ? 20 : LEAST_TRANSPORT);
}

/** ICMP errors that are forwarded: the types of RFC 792 that quote a packet, and all of RFC 4443. */
export function isIcmpError(frame: Buffer, packet: IpPacket): boolean {
  const type = frame.readUInt8(packet.transport);
  return packet.family === 6 ? type < 128 : [3, 4, 11].includes(type);
}

/** Length in a way that neither the packet's own header nor the end of the frame is exceeded. */
function bounded(stated: number | undefined, start: number, transport: number, end: number) {
  const last = stated === undefined ? end : Math.min(start + stated, end);
  if (last < transport) return undefined;
  return last - transport < LEAST_TRANSPORT ? 0 : last - transport;
}

function readIpv4(frame: Buffer, start: number, end: number): Read {
  if (frame.length < start + 20) return 'truncated';
  if (frame.readUInt8(start) >> 4 !== 4) return 'other';
  const headerLength = (frame.readUInt8(start) & 0xf) * 4;
  const transport = start + headerLength;
  if (headerLength < 20) return 'truncated';
  // A packet of more than 64 KB that is cut up later (GSO) has 0 there.
  const stated = frame.readUInt16BE(start + 2) || undefined;
  const length = bounded(stated, start, transport, end);
  if (length === undefined) return 'truncated';
  const offset = frame.readUInt16BE(start + 6);
  const fragment =
    (offset & 0x3fff) === 0
      ? undefined
      : {
          later: (offset & 0x1fff) !== 0,
          last: (offset & 0x2000) === 0,
          id: frame.toString('hex', start + 4, start + 6),
        };
  const source = MAPPED + frame.toString('hex', start + 12, start + 16);
  const destination = MAPPED + frame.toString('hex', start + 16, start + 20);
  const protocol = frame.readUInt8(start + 9);
  return { family: 4, start, source, destination, protocol, transport, length, fragment, stated };
}

interface Behind {
  readonly protocol: number;
  readonly transport: number;
  readonly fragment: Fragment | undefined;
}

/** Goes behind extension headers, not behind a later fragment's and a routing header that is not done with. */
function behindExtensions(frame: Buffer, first: number, at: number): Behind | 'truncated' {
  let behind: Behind = { protocol: first, transport: at, fragment: undefined };
  for (let i = 0; i < MOST_EXTENSIONS && EXTENSIONS.includes(behind.protocol); i += 1) {
    const { protocol: kind, transport: header } = behind;
    if (frame.length < header + 8) return 'truncated';
    const protocol = frame.readUInt8(header);
    const segmentsLeft = frame.readUInt8(header + 3);
    if (kind === EXTENSION.routing && segmentsLeft > 0) return behind;
    if (kind !== EXTENSION.fragment) {
      const length = (frame.readUInt8(header + 1) + 1) * 8;
      behind = { ...behind, protocol, transport: header + length };
      continue;
    }
    const offset = frame.readUInt16BE(header + 2);
    const later = (offset & 0xfff8) !== 0;
    const id = frame.toString('hex', header + 4, header + 8);
    const fragment = (offset & 0xfff9) === 0 ? undefined : { later, last: (offset & 1) === 0, id };
    behind = { protocol, transport: header + 8, fragment };
    if (later) return behind;
  }
  return behind;
}

function readIpv6(frame: Buffer, start: number, end: number): Read {
  if (frame.length < start + 40) return 'truncated';
  if (frame.readUInt8(start) >> 4 !== 6) return 'other';
  const behind = behindExtensions(frame, frame.readUInt8(start + 6), start + 40);
  if (behind === 'truncated') return 'truncated';
  // A jumbogram has 0 there (RFC 2675).
  const payload = frame.readUInt16BE(start + 4);
  const stated = payload === 0 ? undefined : 40 + payload;
  const length = bounded(stated, start, behind.transport, end);
  if (length === undefined) return 'truncated';
  const source = frame.toString('hex', start + 8, start + 24);
  const destination = frame.toString('hex', start + 24, start + 40);
  return { family: 6, start, source, destination, ...behind, length, stated };
}

/** The packet of a family that begins at `start`; it ends at `end` at the latest. */
export function readPacket(family: Family, frame: Buffer, start = ETHERNET, end = frame.length): Read {
  return family === 4 ? readIpv4(frame, start, end) : readIpv6(frame, start, end);
}

/** The packet that an ICMP error quotes, if there is enough of it to know whose it is. */
export function readQuote(frame: Buffer, error: IpPacket): IpPacket | undefined {
  const quote = readPacket(error.family, frame, error.transport + 8, error.transport + error.length);
  if (!isPacket(quote) || quote.length === 0 || quote.fragment?.later) return undefined;
  return quote;
}
