// SPDX-License-Identifier: Apache-2.0
/**
 * Messages of IPVS's synchronisation, version 1 (net/netfilter/ipvs/ip_vs_sync.c: struct ip_vs_sync_mesg, struct
 * ip_vs_sync_v4, struct ip_vs_sync_v6), out of lines of /proc/net/ip_vs_conn. Everything is in network byte order.
 */
import type { SessionEnds, TrackedConnection } from '../connection-ports.ts';
import type { IpvsDaemon, Protocol } from '../ports.ts';
import { addressBytes, protocolNumber } from './abi.ts';

const MESSAGE_HEAD_BYTES = 8;
const VERSION = 1;
const TYPE_IPV6 = 1;
const CONNECTION_BYTES = { 4: 36, 16: 72 } as const;
/** IP_VS_CONN_F_INACTIVE, IP_VS_CONN_F_TEMPLATE */
const INACTIVE = 0x100;
const TEMPLATE = 0x1000;
/** A message is one datagram, which fits a frame. */
const CONNECTIONS_A_MESSAGE = 18;
/** A connection that is about to end gets this long to be seen. */
const LEAST_SECONDS = 10;

/** Three addresses and three ports, of one family. */
const IPV4_ENDS = /^[0-9A-Fa-f]{36}$/;
const IPV6_ENDS = /^[0-9A-Fa-f]{108}$/;
/** The firewall mark of the virtual server, which a line does not tell. */
const NO_MARK = '00000000';

/** In the order of enum ip_vs_tcp_state and so on: linux/ip_vs.h and net/ip_vs.h. */
const STATES: Readonly<Record<Protocol, readonly string[]>> = {
  TCP: [
    ...['NONE', 'ESTABLISHED', 'SYN_SENT', 'SYN_RECV', 'FIN_WAIT', 'TIME_WAIT', 'CLOSE'],
    ...['CLOSE_WAIT', 'LAST_ACK', 'LISTEN', 'SYNACK'],
  ],
  UDP: ['UDP'],
  SCTP: [
    ...['NONE', 'INIT1', 'INIT', 'C-SENT', 'C-REPLIED', 'C-WAIT', 'COOKIE', 'C-ECHOED', 'ESTABLISHED'],
    ...['S-SENT', 'S-RECEIVED', 'S-ACK-SENT', 'REJECTED', 'CLOSED'],
  ],
};
const TEMPLATE_STATES: readonly string[] = ['NONE', 'ASSURED'];
const ACTIVE: ReadonlySet<string> = new Set(['ESTABLISHED', 'UDP']);

/** The daemon that takes the messages, and ends with them. By its id it is known as ours. */
export const RESTORE_DAEMON: IpvsDaemon = { state: 'backup', interface: 'lo', syncId: 0xbf };

/** True for one that a run which was killed may have left. */
export function isOurDaemon({ state, interface: name, syncId }: IpvsDaemon): boolean {
  return (
    state === RESTORE_DAEMON.state && name === RESTORE_DAEMON.interface && syncId === RESTORE_DAEMON.syncId
  );
}

/** What tells a connection from others: all of its line but state and timeout. */
export function connectionKey(line: string): string {
  return line.slice(0, endOf(3, line));
}

/** Characters of an address: %08X or %pI6 (ip_vs_conn_seq_show). */
const ADDRESS_WIDTH = { 4: 8, 6: 39 } as const;

/** Where so many ends stop, each an address and a port of four digits, with a blank before either. */
function endOf(ends: number, line: string): number {
  const begin = line.indexOf(' ');
  const isIpv4 = line.charAt(begin + 1 + ADDRESS_WIDTH[4]) === ' ';
  return begin + ends * (ADDRESS_WIDTH[isIpv4 ? 4 : 6] + 6);
}

/** The virtual address of a line, as addressInLine() has it. */
export function virtualOf(line: string): string | undefined {
  return line.split(' ', 4)[3];
}

/** "0A090001", or "fd00:0000:…" in full. */
export function addressInLine(address: string): string {
  const hex = Buffer.from(addressBytes(address)).toString('hex');
  return hex.length === 8 ? hex.toUpperCase() : (hex.match(/.{4}/g) ?? []).join(':');
}

/** What a connection is in when nothing else is said of it. */
const USUAL_STATE: Readonly<Record<Protocol, string>> = {
  TCP: 'ESTABLISHED',
  UDP: 'UDP',
  SCTP: 'ESTABLISHED',
};

/** These sessions with the states of their connections, among lines of /proc/net/ip_vs_conn. */
export function withStates(
  sessions: readonly SessionEnds[],
  lines: readonly string[],
): readonly TrackedConnection[] {
  // Most are in the usual one. There may be very many, while packets are held back: no more is looked at than needs to be.
  const others = lines.filter((line) => !line.includes(' ESTABLISHED ') && !line.includes(' UDP '));
  const states = new Map(others.map((line) => [line.slice(0, endOf(2, line)), fieldsOf(line)[7] ?? '']));
  const ports = new Set(others.map((line) => Number.parseInt(line.split(' ', 3)[2] ?? '', 16)));
  return sessions.map((session) => {
    const state = ports.has(session.client.port) ? states.get(beginningOf(session)) : undefined;
    return { ...session, state: state ?? USUAL_STATE[session.protocol] };
  });
}

/** Protocol, client and virtual server, as a line begins. */
function beginningOf({ protocol, client, virtual }: SessionEnds): string {
  const ends = [client, virtual].map(({ address, port }) => `${addressInLine(address)} ${portInLine(port)}`);
  return [protocol, ...ends].join(' ');
}

function portInLine(port: number): string {
  return hex(port, 4).toUpperCase();
}

function fieldsOf(line: string): readonly string[] {
  return line.split(' ').filter(Boolean);
}

function hex(number: number, digits: number): string {
  return number.toString(16).padStart(digits, '0');
}

/** How connections begin in a message, and their timeouts, by all that decides it: many have the same. */
type Beginnings = Map<string, readonly [beginning: string, timeout: string] | undefined>;

/**
 * A connection in a message, as hexadecimal digits. Undefined for what no message can say: an unknown protocol or state,
 * ends of two families, a persistence engine's.
 */
function encode(line: string, beginnings: Beginnings): string | undefined {
  const [name = '', caddr = '', cport = '', vaddr = '', vport = '', daddr = '', dport = ''] = line.split(
    ' ',
    7,
  );
  const isIpv6 = caddr.includes(':');
  const addresses = isIpv6 ? `${caddr}${vaddr}${daddr}`.replaceAll(':', '') : `${caddr}${vaddr}${daddr}`;
  const ports = `${cport}${vport}${dport}`;
  if (!(isIpv6 ? IPV6_ENDS : IPV4_ENDS).test(`${addresses}${ports}`)) return undefined;
  const isTemplate = cport === '0000';
  const rest = line.slice(endOf(3, line));
  const key = `${name} ${isIpv6} ${isTemplate}${rest}`;
  if (!beginnings.has(key)) beginnings.set(key, encodeBeginning(name, isIpv6, isTemplate, fieldsOf(rest)));
  const known = beginnings.get(key);
  return known && `${known[0]}${ports}${NO_MARK}${known[1]}${addresses}`;
}

function encodeBeginning(
  name: string,
  isIpv6: boolean,
  isTemplate: boolean,
  [state = '', expires = '', pe]: readonly string[],
): readonly [string, string] | undefined {
  if (!(name in STATES) || pe !== undefined) return undefined;
  const protocol = name as Protocol;
  const number = (isTemplate ? TEMPLATE_STATES : STATES[protocol]).indexOf(state);
  if (number < 0) return undefined;
  const flags = isTemplate ? TEMPLATE : ACTIVE.has(state) ? 0 : INACTIVE;
  const type = hex(isIpv6 ? TYPE_IPV6 : 0, 2);
  const length = hex(CONNECTION_BYTES[isIpv6 ? 16 : 4], 4);
  const beginning = `${type}${hex(protocolNumber(protocol), 2)}${length}${hex(flags, 8)}${hex(number, 4)}`;
  return [beginning, hex(Math.max(Number(expires), LEAST_SECONDS), 8)];
}

/** One datagram each. Lines that no message can say are left out. */
export function syncMessages(lines: readonly string[], syncId: number): readonly Uint8Array[] {
  const beginnings: Beginnings = new Map();
  const encoded = lines.map((line) => encode(line, beginnings)).filter((one) => one !== undefined);
  const out: Uint8Array[] = [];
  for (let at = 0; at < encoded.length; at += CONNECTIONS_A_MESSAGE) {
    out.push(message(encoded.slice(at, at + CONNECTIONS_A_MESSAGE), syncId));
  }
  return out;
}

function message(connections: readonly string[], syncId: number): Uint8Array {
  const whole = Buffer.from(`${'00'.repeat(MESSAGE_HEAD_BYTES)}${connections.join('')}`, 'hex');
  whole.writeUInt8(syncId, 1);
  whole.writeUInt16BE(whole.length, 2);
  whole.writeUInt8(connections.length, 4);
  whole.writeUInt8(VERSION, 5);
  return whole;
}
