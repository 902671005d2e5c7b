// SPDX-License-Identifier: Apache-2.0
/** From what the cluster's demo found to the table at its end. Pure. */
import { COUNTERS } from '../src/core/abi.ts';
import { aligned, median } from './results.ts';

export interface PathFigures {
  /** Requests from outside that were answered. */
  readonly outside: number;
  readonly milliseconds: readonly number[];
  /** Entries of nf_conntrack that these requests left behind. */
  readonly tracked: number;
  /** Requests from a pod that were answered. */
  readonly inside: number;
  /** Entries of nf_conntrack that those left behind. */
  readonly insideTracked: number;
}

export interface DemoFigures {
  readonly wanted: { readonly outside: number; readonly inside: number };
  readonly native: PathFigures;
  readonly accelerated: PathFigures;
  readonly nodes: number;
  /** Of the packets of the accelerated requests, those that tc ingress forwarded past the IP stack: 0 to 1. */
  readonly forwardedShare: number;
  /** Nodes whose listings before and after are the same. */
  readonly asBefore: number;
}

/** What `bpftool -j map dump` prints of a map of counters that there is one of for each processor. */
interface CounterDump {
  readonly formatted: { readonly key: number; readonly values: readonly { readonly value: number }[] };
}

/** Packets by what became of them. */
export type Packets = Readonly<Record<string, number>>;

/** The sum over all processors of all nodes. */
export function packetsOf(dumps: readonly string[]): Packets {
  const entries = dumps.flatMap((dump) => JSON.parse(dump) as readonly CounterDump[]);
  const sums = COUNTERS.map((name, index) => {
    const values = entries.filter(({ formatted }) => formatted.key === index);
    const perCpu = values.flatMap(({ formatted }) => formatted.values.map(({ value }) => value));
    return [name, perCpu.reduce((sum, value) => sum + value, 0)] as const;
  });
  return Object.fromEntries(sums);
}

const FORWARDED = ['ForwardRequest', 'ForwardReply'] as const;
/** By the way through the IP stack. */
const TRANSLATED = ['Snat', 'SnatKept', 'SnatReversed'] as const;

/** Of the packets between two looks, those that were forwarded past the IP stack: 0 to 1. */
export function forwardedShare(before: Packets, after: Packets): number {
  const grown = (names: readonly string[]): number =>
    names.reduce((sum, name) => sum + (after[name] ?? 0) - (before[name] ?? 0), 0);
  const forwarded = grown(FORWARDED);
  return forwarded === 0 ? 0 : forwarded / (forwarded + grown(TRANSLATED));
}

/** The table, and whether it shows what it should. */
export function demoTable(figures: DemoFigures): {
  readonly text: string;
  readonly ok: boolean;
} {
  const { wanted, native, accelerated, nodes, asBefore } = figures;
  const row = (text: string, cell: (path: PathFigures) => string | number) => [
    text,
    String(cell(native)),
    String(cell(accelerated)),
  ];
  const lines = aligned([
    ['', 'kube-proxy ipvs', 'ipvs-bpf'],
    row(`requests from outside answered, of ${wanted.outside}`, ({ outside }) => outside),
    row('  conntrack entries that they made', ({ tracked }) => tracked),
    row('  median latency, ms (emulated machines)', ({ milliseconds }) => median(milliseconds).toFixed(1)),
    row(`requests from a pod answered, of ${wanted.inside}`, ({ inside }) => inside),
    row('  conntrack entries that they made', ({ insideTracked }) => insideTracked),
    ['packets of all these past the IP stack', '', `${Math.round(figures.forwardedShare * 100)} %`],
  ]);
  const answered = [native, accelerated].every(
    ({ outside, inside }) => outside === wanted.outside && inside === wanted.inside,
  );
  const isTracked = native.tracked > 0 && native.insideTracked > 0;
  const isUntracked = accelerated.tracked === 0 && accelerated.insideTracked === 0;
  const ok = answered && isTracked && isUntracked && figures.forwardedShare > 0 && asBefore === nodes;
  const end = `nodes that are what they were before the policy: ${asBefore} of ${nodes}`;
  return { text: [...lines, end].join('\n'), ok };
}
