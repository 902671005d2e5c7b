// SPDX-License-Identifier: Apache-2.0
/** Byte codecs for the structs of bpf/abi.h, and address helpers. Host byte order is little endian. */
import type { PortRange, SnatMode } from '../datapath-ports.ts';
import type { AddressFamily, Protocol } from '../ports.ts';

/** IPVS_BPF_ABI */
export const ABI_VERSION = 10;
/** IPVS_SERVICE_ID_MAX */
export const SERVICE_ID_MAX = 0xffffff;
/** IPVS_SNAT_ADDRS: ids of SNAT addresses are 1 to this minus 1. */
export const SNAT_ADDRESSES = 1024;
/** IPVS_PORT_RANGES */
export const PORT_RANGES = 4;

export const AF_INET = 2;
export const AF_INET6 = 10;

/** Counters in the order of enum ipvs_counter, named as users see them. */
export const COUNTERS = [
  'Snat',
  'SnatReversed',
  'SnatKept',
  'IcmpEgress',
  'IcmpIngress',
  'FragmentEgress',
  'SessionAdded',
  'SessionReplaced',
  'SessionRemoved',
  'ReplyReassembled',
  'BypassMapFull',
  'BypassUnsupported',
  'DropMapFull',
  'DropNoSession',
  'DropNoAddress',
  'DropNoPort',
  'DropRepliesFull',
  'DropMalformed',
  'DropRewrite',
  'ForwardRequest',
  'ForwardReply',
  'Begun',
  'Told',
  'BypassMultihomed',
  'DropHeld',
  'NativeMoved',
] as const;

const SNAT_MODES: readonly SnatMode[] = ['Never', 'External', 'Always'];
const SNAT_MASK = 0x3;
const DROP_ON_FULL = 0x4;

const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** IPPROTO_* of a protocol. */
export function protocolNumber(protocol: Protocol): number {
  return PROTOCOL_NUMBERS[protocol];
}

/** The protocol with this IPPROTO_* number, or undefined. */
export function protocolByNumber(number: number): Protocol | undefined {
  return (Object.keys(PROTOCOL_NUMBERS) as Protocol[]).find((name) => PROTOCOL_NUMBERS[name] === number);
}

/** AF_INET or AF_INET6. */
export function familyNumber(family: AddressFamily): number {
  return family === 'IPv4' ? AF_INET : AF_INET6;
}

/** The family with this AF_* number. Throws RangeError for any other. */
export function familyByNumber(number: number): AddressFamily {
  if (number === AF_INET) return 'IPv4';
  if (number === AF_INET6) return 'IPv6';
  throw new RangeError(`address family ${number} is neither IPv4 nor IPv6`);
}

/** The family that an address text is of, by its form only. */
export function addressFamily(address: string): AddressFamily {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}

function parseIPv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[i] = Number(part);
  }
  return bytes;
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parseIPv4(part);
      if (v4 === undefined) return undefined;
      out.push(...v4);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
      const group = Number.parseInt(part, 16);
      out.push(group >> 8, group & 0xff);
    }
  }
  return out;
}

function parseIPv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? '');
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? '') : [];
  if (head === undefined || tail === undefined) return undefined;
  const length = head.length + tail.length;
  if (halves.length === 1 ? length !== 16 : length > 14) return undefined;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The 4 or 16 bytes of an address, network byte order. Throws RangeError if it is none. */
export function addressBytes(address: string): Uint8Array {
  const bytes = address.includes(':') ? parseIPv6(address) : parseIPv4(address);
  if (bytes === undefined) throw new RangeError(`"${address}" is not an IPv4 or IPv6 address`);
  return bytes;
}

/** struct ipvs_addr: an IPv4 address as ::ffff:a.b.c.d. Throws RangeError. */
export function mappedBytes(address: string): Uint8Array {
  const bytes = addressBytes(address);
  if (bytes.length === 16) return bytes;
  const mapped = new Uint8Array(16);
  mapped[10] = 0xff;
  mapped[11] = 0xff;
  mapped.set(bytes, 12);
  return mapped;
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((byte) => byte === 0);
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 1 };
  for (let start = 0; start < groups.length; start += 1) {
    let end = start;
    while (end < groups.length && groups[end] === 0) end += 1;
    if (end - start > best.length) best = { start, length: end - start };
    if (end > start) start = end;
  }
  return best;
}

/** Text of 4 bytes (IPv4) or 16 (IPv6, RFC 5952). Throws RangeError for another length. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  const { start, length } = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

/** Text of a struct ipvs_addr: IPv4 if it is mapped. */
export function formatMapped(bytes: Uint8Array): string {
  return isMapped(bytes) ? formatAddress(bytes.subarray(12, 16)) : formatAddress(bytes);
}

/** The address in the one form that this program compares and prints. Throws RangeError. */
export function canonicalAddress(address: string): string {
  return formatAddress(addressBytes(address));
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export interface ServiceKey {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
}

/** struct ipvs_service_key */
export function encodeServiceKey(key: ServiceKey): Uint8Array {
  const bytes = new Uint8Array(20);
  bytes.set(mappedBytes(key.address), 0);
  view(bytes).setUint16(16, key.port, false);
  bytes[18] = protocolNumber(key.protocol);
  return bytes;
}

export function decodeServiceKey(bytes: Uint8Array): ServiceKey {
  const protocol = protocolByNumber(bytes[18] ?? 0);
  if (protocol === undefined) throw new RangeError(`protocol ${bytes[18]} in ipvs_services`);
  return { address: formatMapped(bytes.subarray(0, 16)), port: view(bytes).getUint16(16, false), protocol };
}

export interface ServiceValue {
  readonly id: number;
  readonly snat: SnatMode;
  readonly dropOnFull: boolean;
}

/** struct ipvs_service. Throws RangeError for an id out of 1..SERVICE_ID_MAX. */
export function encodeService(value: ServiceValue): Uint8Array {
  if (!Number.isInteger(value.id) || value.id < 1 || value.id > SERVICE_ID_MAX) {
    throw new RangeError(`service id ${value.id} is not in 1..${SERVICE_ID_MAX}`);
  }
  const bytes = new Uint8Array(8);
  view(bytes).setUint32(0, value.id, true);
  view(bytes).setUint32(4, SNAT_MODES.indexOf(value.snat) | (value.dropOnFull ? DROP_ON_FULL : 0), true);
  return bytes;
}

export function decodeService(bytes: Uint8Array): ServiceValue {
  const flags = view(bytes).getUint32(4, true);
  const snat = SNAT_MODES[flags & SNAT_MASK];
  if (snat === undefined) throw new RangeError(`SNAT mode ${flags & SNAT_MASK} in ipvs_services`);
  return { id: view(bytes).getUint32(0, true), snat, dropOnFull: (flags & DROP_ON_FULL) !== 0 };
}

/** Where service_id is in struct ipvs_session_key. */
const SESSION_SERVICE_ID = 16;

/** The id of the whitelist entry in a struct ipvs_session_key. */
export function sessionServiceId(key: Uint8Array): number {
  return view(key).getUint32(SESSION_SERVICE_ID, true);
}

/** struct ipvs_snat_addr */
export function encodeSnatAddress(address: string): Uint8Array {
  const bytes = new Uint8Array(20);
  bytes.set(mappedBytes(address), 0);
  view(bytes).setUint32(16, familyNumber(addressFamily(address)), true);
  return bytes;
}

/** The address in a struct ipvs_snat_addr, or undefined if its id is free. */
export function decodeSnatAddress(bytes: Uint8Array): string | undefined {
  return view(bytes).getUint32(16, true) === 0 ? undefined : formatMapped(bytes.subarray(0, 16));
}

/** struct ipvs_snat_if */
export function encodeSnatInterface(ifindex: number, family: AddressFamily): Uint8Array {
  const bytes = new Uint8Array(8);
  view(bytes).setUint32(0, ifindex, true);
  view(bytes).setUint32(4, familyNumber(family), true);
  return bytes;
}

export function decodeSnatInterface(bytes: Uint8Array): { ifindex: number; family: AddressFamily } {
  return { ifindex: view(bytes).getUint32(0, true), family: familyByNumber(view(bytes).getUint32(4, true)) };
}

export function encodeUint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  view(bytes).setUint32(0, value, true);
  return bytes;
}

export function decodeUint32(bytes: Uint8Array): number {
  return view(bytes).getUint32(0, true);
}

/** struct ipvs_prefix of "address/length". Throws RangeError. */
export function encodePrefix(prefix: string): Uint8Array {
  const [address = '', length = '', ...rest] = prefix.split('/');
  const raw = addressBytes(address);
  const bits = Number(length);
  if (rest.length > 0 || !/^[0-9]{1,3}$/.test(length) || bits > raw.length * 8) {
    throw new RangeError(`"${prefix}" is not a prefix such as 10.0.0.0/8 or fd00::/8`);
  }
  const mappedBits = raw.length === 4 ? bits + 96 : bits;
  const masked = mappedBytes(address).map((byte, i) => byte & prefixMask(mappedBits - 8 * i));
  const bytes = new Uint8Array(20);
  view(bytes).setUint32(0, mappedBits, true);
  bytes.set(masked, 4);
  return bytes;
}

function prefixMask(bits: number): number {
  if (bits >= 8) return 0xff;
  return bits <= 0 ? 0 : (0xff << (8 - bits)) & 0xff;
}

export function decodePrefix(bytes: Uint8Array): string {
  const bits = view(bytes).getUint32(0, true);
  const address = bytes.subarray(4, 20);
  if (bits >= 96 && isMapped(address)) return `${formatMapped(address)}/${bits - 96}`;
  return `${formatAddress(address)}/${bits}`;
}

/** The prefix as the map has it: host bits cleared, canonical address. Throws RangeError. */
export function canonicalPrefix(prefix: string): string {
  return decodePrefix(encodePrefix(prefix));
}

/** struct ipvs_port_range[IPVS_PORT_RANGES]. Throws RangeError if ranges overlap or are too many. */
export function encodePortRanges(ranges: readonly PortRange[]): Uint8Array {
  if (ranges.length === 0 || ranges.length > PORT_RANGES) {
    throw new RangeError(`there must be 1 to ${PORT_RANGES} port ranges, not ${ranges.length}`);
  }
  const bytes = new Uint8Array(4 * PORT_RANGES);
  let previous = 0;
  for (const [i, { first, last }] of ranges.entries()) {
    if (
      !Number.isInteger(first) ||
      !Number.isInteger(last) ||
      first <= previous ||
      last < first ||
      last > 65535
    ) {
      throw new RangeError(`port range ${first}-${last} is not valid, ascending and disjoint`);
    }
    view(bytes).setUint16(4 * i, first, true);
    view(bytes).setUint16(4 * i + 2, last, true);
    previous = last;
  }
  return bytes;
}

export function decodePortRanges(bytes: Uint8Array): PortRange[] {
  const out: PortRange[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const first = view(bytes).getUint16(at, true);
    const last = view(bytes).getUint16(at + 2, true);
    if (first === 0 && last === 0) break;
    out.push({ first, last });
  }
  return out;
}
