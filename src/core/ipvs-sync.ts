// SPDX-License-Identifier: Apache-2.0
/**
 * Messages of IPVS's synchronisation, version 1 (net/netfilter/ipvs/ip_vs_sync.c: struct ip_vs_sync_mesg, struct
 * ip_vs_sync_v4, struct ip_vs_sync_v6), out of lines of /proc/net/ip_vs_conn. Everything is in network byte order.
 */
import type { SessionEnds, TrackedConnection } from '../connection-ports.ts';
import type { IpvsDaemon, Protocol } from '../ports.ts';
import { addressBytes, formatAddress, protocolNumber } from './abi.ts';

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

interface Connection {
  readonly protocol: Protocol;
  readonly client: Uint8Array;
  readonly virtual: Uint8Array;
  readonly real: Uint8Array;
  readonly ports: readonly [client: number, virtual: number, real: number];
  readonly state: number;
  readonly flags: number;
  readonly seconds: number;
}

/** What tells a connection from others: all of its line but state and timeout. */
export function connectionKey(line: string): string {
  return line.split(/\s+/).slice(0, 7).join(' ');
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
  // Most are in the usual one, and need not be looked into.
  const others = lines
    .map((line) => line.split(/\s+/))
    .filter(([name = '', ...rest]) => isUnusual(name, rest[6]));
  const states = new Map(others.map((fields) => [fields.slice(0, 5).join(' '), fields[7] ?? '']));
  return sessions.map((session) => {
    const state = states.size === 0 ? undefined : states.get(lineHead(session));
    return { ...session, state: state ?? USUAL_STATE[session.protocol] };
  });
}

function isUnusual(protocol: string, state: string | undefined): boolean {
  return protocol in USUAL_STATE && state !== USUAL_STATE[protocol as Protocol];
}

/** Protocol, client and virtual server, as a line begins. */
function lineHead({ protocol, client, virtual }: SessionEnds): string {
  return [
    protocol,
    ...[client, virtual].flatMap(({ address, port }) => [hexOf(address), hexOfPort(port)]),
  ].join(' ');
}

function hexOf(address: string): string {
  const hex = Buffer.from(addressBytes(address)).toString('hex');
  return hex.length === 8 ? hex.toUpperCase() : (hex.match(/.{4}/g) ?? []).join(':');
}

function hexOfPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

/** Undefined if the line does not begin as one. */
export function virtualAddressOf(line: string): string | undefined {
  const bytes = bytesOf(line.split(/\s+/)[3] ?? '');
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/** Undefined for what no message can say: an unknown protocol or state, ends of two families, a persistence engine's. */
function parse(line: string): Connection | undefined {
  const [
    name = '',
    caddr = '',
    cport = '',
    vaddr = '',
    vport = '',
    daddr = '',
    dport = '',
    state = '',
    expires = '',
    pe,
  ] = line.trim().split(/\s+/);
  if (!(name in STATES) || pe !== undefined) return undefined;
  const protocol = name as Protocol;
  const [client, virtual, real] = [caddr, vaddr, daddr].map(bytesOf);
  if (client === undefined || virtual?.length !== client.length || real?.length !== client.length)
    return undefined;
  const isTemplate = cport === '0000';
  const number = (isTemplate ? TEMPLATE_STATES : STATES[protocol]).indexOf(state);
  if (number < 0) return undefined;
  const inactive = ACTIVE.has(state) ? 0 : INACTIVE;
  return {
    protocol,
    client,
    virtual,
    real,
    ports: [Number.parseInt(cport, 16), Number.parseInt(vport, 16), Number.parseInt(dport, 16)],
    state: number,
    flags: isTemplate ? TEMPLATE : inactive,
    seconds: Math.max(Number(expires), LEAST_SECONDS),
  };
}

/** "0A090001", or "fd00:0000:…" in full. */
function bytesOf(text: string): Uint8Array | undefined {
  const digits = text.replaceAll(':', '');
  return /^([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32})$/.test(digits) ? Buffer.from(digits, 'hex') : undefined;
}

function encode(connection: Connection): Uint8Array {
  const { client, virtual, real, ports, protocol, state, flags, seconds } = connection;
  const isIpv6 = client.length === 16;
  const out = Buffer.alloc(CONNECTION_BYTES[isIpv6 ? 16 : 4]);
  out.writeUInt8(isIpv6 ? TYPE_IPV6 : 0, 0);
  out.writeUInt8(protocolNumber(protocol), 1);
  out.writeUInt16BE(out.length, 2);
  out.writeUInt32BE(flags, 4);
  out.writeUInt16BE(state, 8);
  for (const [index, port] of ports.entries()) out.writeUInt16BE(port, 10 + 2 * index);
  // Bytes 16 to 19 are the firewall mark of the virtual server, which a line does not tell.
  out.writeUInt32BE(seconds, 20);
  for (const [index, address] of [client, virtual, real].entries())
    out.set(address, 24 + index * address.length);
  return out;
}

/** One datagram each. Lines that no message can say are left out. */
export function syncMessages(lines: readonly string[], syncId: number): readonly Uint8Array[] {
  const encoded = lines.flatMap((line) => {
    const connection = parse(line);
    return connection === undefined ? [] : [encode(connection)];
  });
  const out: Uint8Array[] = [];
  for (let at = 0; at < encoded.length; at += CONNECTIONS_A_MESSAGE) {
    out.push(message(encoded.slice(at, at + CONNECTIONS_A_MESSAGE), syncId));
  }
  return out;
}

function message(connections: readonly Uint8Array[], syncId: number): Uint8Array {
  const head = Buffer.alloc(MESSAGE_HEAD_BYTES);
  const whole = Buffer.concat([head, ...connections]);
  whole.writeUInt8(syncId, 1);
  whole.writeUInt16BE(whole.length, 2);
  whole.writeUInt8(connections.length, 4);
  whole.writeUInt8(VERSION, 5);
  return whole;
}
