// SPDX-License-Identifier: Apache-2.0
/** From what the cluster's demo found to the table at its end. Pure. */
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
  /** Nodes whose listings before and after are the same. */
  readonly asBefore: number;
}

/** The table, and whether it shows what it should. */
export function demoTable({ wanted, native, accelerated, nodes, asBefore }: DemoFigures): {
  readonly text: string;
  readonly ok: boolean;
} {
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
  ]);
  const answered = [native, accelerated].every(
    ({ outside, inside }) => outside === wanted.outside && inside === wanted.inside,
  );
  const isTracked = native.tracked > 0 && native.insideTracked > 0;
  const isUntracked = accelerated.tracked === 0 && accelerated.insideTracked === 0;
  const ok = answered && isTracked && isUntracked && asBefore === nodes;
  const end = `nodes that are what they were before the policy: ${asBefore} of ${nodes}`;
  return { text: [...lines, end].join('\n'), ok };
}
