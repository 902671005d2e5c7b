// SPDX-License-Identifier: Apache-2.0
/** From what bench/demo.sh found to the table at the end of the demo. Pure. */
import { aligned } from './results.ts';

const KINDS = [
  'instructions',
  'conntrack',
  'answered',
  'datagrams',
  'connections',
  'mbit',
  'sessions',
  'differences',
] as const;
type Kind = (typeof KINDS)[number];
type Path = 'direct' | 'ipvs' | 'ipvs-bpf';

export interface Figure {
  readonly path: Path;
  readonly kind: Kind;
  readonly value: number;
}

/** @throws Error if a line is none of ours */
export function parseFigure(line: string): Figure {
  const figure = JSON.parse(line) as Figure;
  if (!KINDS.includes(figure.kind) || !Number.isFinite(figure.value))
    throw new Error(`not a figure: ${line}`);
  return figure;
}

/**
 * The table, and whether it shows what it should: over ipvs-bpf every request answered, no
 * conntrack entry, at least as many sessions as requests; and nothing left behind.
 * @throws Error if a figure is missing
 */
export function summary(
  release: string,
  figures: readonly Figure[],
): { readonly text: string; readonly ok: boolean } {
  const get = (path: Path, kind: Kind): number => {
    const found = figures.find((figure) => figure.path === path && figure.kind === kind);
    if (found === undefined) throw new Error(`${path}: ${kind} is missing`);
    return found.value;
  };
  const base = get('direct', 'instructions');
  const share = (path: Path) => get(path, 'instructions') - base;
  const row = (title: string, cell: (path: 'ipvs' | 'ipvs-bpf') => number | string) => [
    title,
    String(cell('ipvs')),
    String(cell('ipvs-bpf')),
  ];
  const lines = aligned([
    [`Linux ${release}`, 'native IPVS', 'ipvs-bpf'],
    row('instructions a request, whole system', (path) => get(path, 'instructions')),
    row('  of them the load balancer’s', share),
    row('conntrack entries made by 100 requests and 100 datagrams', (path) => get(path, 'conntrack')),
    row('IPVS connections', (path) => get(path, 'connections')),
    row('sessions in the eBPF map', (path) => (path === 'ipvs' ? '-' : get(path, 'sessions'))),
    row('requests answered, of 500', (path) => get(path, 'answered')),
    row('UDP questions answered, of 100', (path) => get(path, 'datagrams')),
    row('transfer, Mbit/s of the guest’s clock', (path) => get(path, 'mbit')),
  ]);
  const below = (1 - share('ipvs-bpf') / share('ipvs')) * 100;
  const left = get('ipvs-bpf', 'differences');
  return {
    text: [
      ...lines,
      '',
      `The load balancer's share is ${below.toFixed(1)} % below native IPVS's.`,
      left === 0 ? 'After "node down" nothing differs from before.' : 'After "node down" something differs.',
    ].join('\n'),
    ok:
      get('ipvs-bpf', 'conntrack') === 0 &&
      get('ipvs-bpf', 'sessions') >= 500 &&
      get('ipvs-bpf', 'answered') === 500 &&
      get('ipvs-bpf', 'datagrams') === 100 &&
      left === 0,
  };
}
