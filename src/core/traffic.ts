// SPDX-License-Identifier: Apache-2.0
/** What goes through the virtual servers of a node: rates out of two looks, and the sum of several nodes. */
import type { ServiceEntry } from '../datapath-ports.ts';
import type { VirtualServerTotals, VirtualServerTraffic } from '../traffic-ports.ts';
import { byKey, virtualServerKey } from './virtual-servers.ts';

/** One look at a node. */
export interface TrafficLook {
  /** Milliseconds of a clock that only grows. */
  readonly at: number;
  readonly servers: readonly VirtualServerTraffic[];
  /** The whitelist map; empty if nothing is pinned. */
  readonly whitelist: readonly ServiceEntry[];
  /** Id of a whitelist entry → sessions. */
  readonly sessions: ReadonlyMap<number, number>;
  /** Id of a whitelist entry → packets that tc ingress has forwarded. */
  readonly forwarded: ReadonlyMap<number, number>;
  /** Counters of the tc programs and the module: packets since the maps were made. */
  readonly counters: Readonly<Record<string, number>>;
  /** virtualServerKey() → "namespace/name" of its Service, where that is known. */
  readonly services: ReadonlyMap<string, string>;
}

/** What is counted of one virtual server, or one Service. */
export interface TrafficNumbers {
  /** Connections that IPVS has now, and those of them that have a session on the accelerated path. */
  readonly connections: number;
  readonly sessions: number;
  readonly connectionsPerSecond: number;
  /** From clients, and back to them. */
  readonly inPacketsPerSecond: number;
  readonly outPacketsPerSecond: number;
  readonly inBytesPerSecond: number;
  readonly outBytesPerSecond: number;
  /** Of the packets in and out: those that tc ingress forwarded, past the IP stack and IPVS. */
  readonly forwardedPerSecond: number;
}

export interface TrafficRow extends TrafficNumbers {
  /** "namespace/name", or "TCP 10.96.0.10 port 80" where no Service is known. */
  readonly name: string;
  /** True if all its virtual servers are in the whitelist. */
  readonly whitelisted: boolean;
  /** sessions of connections, 0..1; null without connections. */
  readonly acceleratedShare: number | null;
  /** Forwarded packets of all, 0..1; null without packets. */
  readonly forwardedShare: number | null;
}

export interface TrafficRates {
  /** Time between the two looks. */
  readonly seconds: number;
  /** Packets that tc programs translated, and that they or the module dropped. */
  readonly translatedPerSecond: number;
  readonly droppedPerSecond: number;
  /** The one with most packets first. */
  readonly rows: readonly TrafficRow[];
}

const TRANSLATED = [
  'Snat',
  'SnatReversed',
  'IcmpEgress',
  'IcmpIngress',
  'FragmentEgress',
  'ForwardRequest',
  'ForwardReply',
];

/** Counters that went back, as after an exchange of the module, count from zero. */
export function ratesOf(before: TrafficLook, after: TrafficLook): TrafficRates {
  const seconds = Math.max(0.001, (after.at - before.at) / 1000);
  const old = new Map(before.servers.map(({ server, totals }) => [virtualServerKey(server), totals]));
  const whitelist = byKey(after.whitelist);
  const rows = after.servers.map((traffic): TrafficRow => {
    const key = virtualServerKey(traffic.server);
    const entry = whitelist.get(key);
    const sessions = entry === undefined ? 0 : (after.sessions.get(entry.id) ?? 0);
    const numbers = {
      connections: traffic.connections,
      sessions,
      ...perSecond(old.get(key), traffic.totals, seconds),
      forwardedPerSecond: forwardedSince(before, after, entry?.id) / seconds,
    };
    return row(after.services.get(key) ?? serverName(traffic), entry !== undefined, numbers);
  });
  const grown = (name: string): number =>
    increase(before.counters[name], after.counters[name] ?? 0) / seconds;
  const drops = Object.keys(after.counters).filter((name) => name.startsWith('Drop'));
  return {
    seconds,
    translatedPerSecond: sum(TRANSLATED.map(grown)),
    droppedPerSecond: sum(drops.map(grown)),
    rows: byName(rows),
  };
}

/** The same of several nodes together. */
export function sumOfNodes(nodes: readonly TrafficRates[]): TrafficRates {
  return {
    seconds: Math.max(0, ...nodes.map(({ seconds }) => seconds)),
    translatedPerSecond: sum(nodes.map(({ translatedPerSecond }) => translatedPerSecond)),
    droppedPerSecond: sum(nodes.map(({ droppedPerSecond }) => droppedPerSecond)),
    rows: byName(nodes.flatMap(({ rows }) => rows)),
  };
}

function serverName({ server }: VirtualServerTraffic): string {
  return `${server.protocol} ${server.address} port ${server.port}`;
}

function row(name: string, whitelisted: boolean, numbers: TrafficNumbers): TrafficRow {
  const packets = numbers.inPacketsPerSecond + numbers.outPacketsPerSecond;
  return {
    name,
    whitelisted,
    acceleratedShare: share(numbers.sessions, numbers.connections),
    forwardedShare: share(numbers.forwardedPerSecond, packets),
    ...numbers,
  };
}

/** Both are read one after the other: a session may be there whose connection was not yet. */
function share(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.min(1, part / whole);
}

/** An id is never given to another virtual server. */
function forwardedSince(before: TrafficLook, after: TrafficLook, id: number | undefined): number {
  return id === undefined ? 0 : increase(before.forwarded.get(id), after.forwarded.get(id) ?? 0);
}

type Rates = Omit<TrafficNumbers, 'connections' | 'sessions' | 'forwardedPerSecond'>;

/** One that was not there at the first look came to what it has since then. */
function perSecond(
  before: VirtualServerTotals | undefined,
  after: VirtualServerTotals,
  seconds: number,
): Rates {
  const rate = (field: keyof VirtualServerTotals): number =>
    increase(before?.[field], after[field]) / seconds;
  return {
    connectionsPerSecond: rate('connections'),
    inPacketsPerSecond: rate('inPackets'),
    outPacketsPerSecond: rate('outPackets'),
    inBytesPerSecond: rate('inBytes'),
    outBytesPerSecond: rate('outBytes'),
  };
}

function increase(before: number | undefined, after: number): number {
  return before === undefined || after < before ? after : after - before;
}

function byName(rows: readonly TrafficRow[]): readonly TrafficRow[] {
  const merged = new Map<string, TrafficRow>();
  for (const next of rows) {
    const before = merged.get(next.name);
    merged.set(next.name, before === undefined ? next : together(before, next));
  }
  const packets = (one: TrafficRow): number => one.inPacketsPerSecond + one.outPacketsPerSecond;
  return [...merged.values()].sort((a, b) => packets(b) - packets(a) || (a.name < b.name ? -1 : 1));
}

function together(a: TrafficRow, b: TrafficRow): TrafficRow {
  return row(a.name, a.whitelisted && b.whitelisted, {
    connections: a.connections + b.connections,
    sessions: a.sessions + b.sessions,
    connectionsPerSecond: a.connectionsPerSecond + b.connectionsPerSecond,
    inPacketsPerSecond: a.inPacketsPerSecond + b.inPacketsPerSecond,
    outPacketsPerSecond: a.outPacketsPerSecond + b.outPacketsPerSecond,
    inBytesPerSecond: a.inBytesPerSecond + b.inBytesPerSecond,
    outBytesPerSecond: a.outBytesPerSecond + b.outBytesPerSecond,
    forwardedPerSecond: a.forwardedPerSecond + b.forwardedPerSecond,
  });
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
