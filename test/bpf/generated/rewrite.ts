// SPDX-License-Identifier: Apache-2.0
/**
 * What a translated packet looks like. A checksum that was right is computed anew over the whole packet; any
 * other (a fragment's, a wrong one's) changes by what has changed under it.
 */
import { crc32c, isSctpChecksumRight, SCTP_CHECK_AT, sctpChecksum } from '../crc32c.ts';
import { carriedOver, checksumOf, isRight, sumOf } from './checksum.ts';
import { type Address, SCTP, TCP, UDP } from './maps.ts';
import { addressAt, type IpPacket } from './packet.ts';

export interface End {
  readonly address: Address;
  readonly port: number;
}

export type Ends = { readonly source?: End; readonly destination?: End };

const checkOffset = (protocol: number) => (protocol === TCP ? 16 : 6);

function writeEnds(frame: Buffer, packet: IpPacket, ends: Ends): void {
  const digits = packet.family === 4 ? 24 : 0;
  for (const name of ['source', 'destination'] as const) {
    const end = ends[name];
    if (end === undefined) continue;
    frame.write(end.address.slice(digits), addressAt(packet, name), 'hex');
    if (packet.fragment?.later) continue;
    frame.writeUInt16BE(end.port, packet.transport + (name === 'source' ? 0 : 2));
  }
}

/** Sum of everything that a translation may change under a transport checksum: addresses and ports. */
function endsSum(frame: Buffer, { family, start, transport }: IpPacket): number {
  const [from, to] = family === 4 ? [start + 12, start + 20] : [start + 8, start + 40];
  return sumOf(frame, from, to) + sumOf(frame, transport, transport + 4);
}

/** Sum of a whole packet with its pseudo header (RFC 793, 768, 8200), or undefined if it is not whole. */
function wholeSum(frame: Buffer, packet: IpPacket): number | undefined {
  const { family, start, transport, stated, protocol } = packet;
  if (stated === undefined || start + stated > frame.length || packet.fragment !== undefined)
    return undefined;
  const end = start + stated;
  const [from, to] = family === 4 ? [start + 12, start + 20] : [start + 8, start + 40];
  return sumOf(frame, from, to) + protocol + (end - transport) + sumOf(frame, transport, end);
}

/** The checksum at `at` after the change, given the sums of the whole, or of what may change. */
function followed(before: Buffer, after: Buffer, at: number, packet: IpPacket): number {
  const whole = wholeSum(before, packet);
  if (whole !== undefined && isRight(whole))
    return checksumOf((wholeSum(after, packet) as number) - after.readUInt16BE(at));
  return carriedOver(before.readUInt16BE(at), endsSum(before, packet), endsSum(after, packet));
}

/** What a translation does beside giving a packet other ends. */
export interface How {
  /** Hops less to go. */
  readonly hops?: number;
  /** The packet is cut up later, and its parts get their SCTP checksums then. */
  readonly isCutUp?: boolean;
  /** Of a fragment: bytes of the whole datagram behind the IP header. */
  readonly whole?: number;
}

/** CRC of the ports with as many zero bytes behind them as the checksum covers. */
function portsCrc(frame: Buffer, { transport }: IpPacket, length: number): number {
  const bytes = Buffer.alloc(length);
  frame.copy(bytes, 0, transport, transport + 4);
  return crc32c(bytes);
}

/** A CRC that was wrong, or of which not all is there, changes as that of zero bytes with these ports does. */
function followSctp(before: Buffer, after: Buffer, packet: IpPacket, { isCutUp, whole }: How): void {
  const { transport, length, fragment } = packet;
  const at = transport + SCTP_CHECK_AT;
  if (isCutUp) return;
  const end = transport + length;
  if (fragment === undefined && isSctpChecksumRight(before.subarray(transport, end))) {
    after.set(sctpChecksum(after.subarray(transport, end)), at);
    return;
  }
  const covered = fragment === undefined ? length : (whole ?? 0);
  const change = portsCrc(before, packet, covered) ^ portsCrc(after, packet, covered);
  after.writeUInt32LE((before.readUInt32LE(at) ^ change) >>> 0, at);
}

function followTransport(before: Buffer, after: Buffer, packet: IpPacket, how: How): void {
  if (packet.protocol === SCTP) {
    followSctp(before, after, packet, how);
    return;
  }
  const at = packet.transport + checkOffset(packet.protocol);
  const isUdp = packet.protocol === UDP;
  // UDP without a checksum stays so, and 0 is written in its other representation (RFC 768).
  if (isUdp && before.readUInt16BE(at) === 0) return;
  const check = followed(before, after, at, packet);
  after.writeUInt16BE(isUdp && check === 0 ? 0xffff : check, at);
}

function followIpv4Header(before: Buffer, after: Buffer, { family, start, transport }: IpPacket): void {
  if (family === 6) return;
  const at = start + 10;
  const sum = sumOf(before, start, transport);
  const changed = sumOf(after, start, transport);
  const check = isRight(sum)
    ? checksumOf(changed - after.readUInt16BE(at))
    : carriedOver(before.readUInt16BE(at), sum, changed);
  after.writeUInt16BE(check, at);
}

/** A packet with ports, or a fragment of one, with other ends. */
export function translated(before: Buffer, packet: IpPacket, ends: Ends, how: How = {}): Buffer {
  const after = Buffer.from(before);
  writeEnds(after, packet, ends);
  const hopCount = packet.start + (packet.family === 4 ? 8 : 7);
  after.writeUInt8(after.readUInt8(hopCount) - (how.hops ?? 0), hopCount);
  followIpv4Header(before, after, packet);
  if (!packet.fragment?.later) followTransport(before, after, packet, how);
  return after;
}

/** Where the transport checksum of a quote stands that is followed, if the quote goes so far and has one. */
function quotedCheckAt(frame: Buffer, quote: IpPacket): number | undefined {
  // What an SCTP checksum covers is seldom quoted: it stays as it is.
  if (quote.protocol === SCTP) return undefined;
  const offset = checkOffset(quote.protocol);
  if (quote.length < offset + 2) return undefined;
  const at = quote.transport + offset;
  return quote.protocol === UDP && frame.readUInt16BE(at) === 0 ? undefined : at;
}

/** The quote's own checksums, which are what the translated packet's would have been. */
function followQuote(before: Buffer, after: Buffer, quote: IpPacket): void {
  followIpv4Header(before, after, quote);
  const at = quotedCheckAt(before, quote);
  if (at === undefined) return;
  const check = followed(before, after, at, quote);
  after.writeUInt16BE(quote.protocol === UDP && check === 0 ? 0xffff : check, at);
}

/** Sum of an ICMP message as its checksum covers it: ICMPv6 has a pseudo header. */
function messageSum(frame: Buffer, { family, start, transport, protocol }: IpPacket, end: number): number {
  const message = sumOf(frame, transport, end);
  return family === 4
    ? message
    : message + sumOf(frame, start + 8, start + 40) + protocol + (end - transport);
}

/** An ICMP error with another `end`, about a packet with that as its other end. */
export function translatedError(
  before: Buffer,
  error: IpPacket,
  quote: IpPacket,
  end: { readonly source: End } | { readonly destination: End },
): Buffer {
  const after = Buffer.from(before);
  const digits = error.family === 4 ? 24 : 0;
  const [name, { address }] =
    'source' in end ? (['source', end.source] as const) : (['destination', end.destination] as const);
  after.write(address.slice(digits), addressAt(error, name), 'hex');
  writeEnds(after, quote, 'source' in end ? { destination: end.source } : { source: end.destination });
  followIpv4Header(before, after, error);
  followQuote(before, after, quote);
  const at = error.transport + 2;
  const last = error.start + (error.stated ?? before.length - error.start);
  const [old, fresh] = [messageSum(before, error, last), messageSum(after, error, last)];
  const check = isRight(old)
    ? checksumOf(fresh - after.readUInt16BE(at))
    : carriedOver(before.readUInt16BE(at), old, fresh);
  after.writeUInt16BE(check, at);
  return after;
}
