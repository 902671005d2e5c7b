// SPDX-License-Identifier: Apache-2.0
/** From what bench/guest.sh measured to the benchmark's result. Pure. */
import type { AddressFamily } from '../src/ports.ts';

export const PATHS = [
  'direct',
  'routed',
  'routed-conntrack',
  'iptables',
  'nftables',
  'ipvs',
  'ipvs-bpf-interfaces',
  'ipvs-bpf-pod',
  'ipvs-bpf',
] as const;
export type PathName = (typeof PATHS)[number];

/** Those that are only written for IPv4. */
export const IPV4_PATHS: readonly PathName[] = ['iptables', 'nftables'];

/** One line of bench/guest.sh. `short` and `long` are instructions, a request and 64 KiB; `memory` is bytes a session. */
export interface Measurement {
  readonly path: PathName;
  readonly kind: 'short' | 'long' | 'answered' | 'conntrack' | 'memory';
  readonly repeat: number;
  readonly value: number;
}

export interface PathResult {
  readonly name: PathName;
  /** Instructions of the whole system; the share is what is above the path `direct`. */
  readonly shortRequest: {
    readonly instructions: number;
    readonly lbShare: number;
    /** Largest minus smallest of the repeats. */
    readonly spread: number;
    /** Conntrack entries made by as many requests as one repeat has. */
    readonly conntrackEntries: number;
  };
  readonly longTransfer: { readonly instructionsPer64KiB: number; readonly lbShare: number };
  /** Of slabs and maps; only if sessions were open. */
  readonly bytesPerSession?: number;
}

/** What was there while it was measured, and not asked for. */
export interface Beside {
  readonly services: number;
  readonly sessions: number;
}

export interface BenchResult {
  /** Release of the kernel that was booted. */
  readonly kernel: string;
  readonly family: AddressFamily;
  readonly beside: Beside;
  readonly paths: readonly PathResult[];
}

/** @throws Error if a line is no measurement */
export function parseMeasurement(line: string): Measurement {
  const value = JSON.parse(line) as Measurement;
  if (!PATHS.includes(value.path) || !Number.isFinite(value.value)) {
    throw new Error(`not a measurement: ${line}`);
  }
  return value;
}

function values(all: readonly Measurement[], path: PathName, kind: Measurement['kind']): readonly number[] {
  const found = all.filter((one) => one.path === path && one.kind === kind).map(({ value }) => value);
  if (found.length === 0) throw new Error(`path ${path} was not measured: no ${kind}`);
  return found;
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

/** @throws Error if something of a path is missing, or a request was not answered */
export function summarize(
  { kernel, family, beside }: Omit<BenchResult, 'paths'>,
  all: readonly Measurement[],
): BenchResult {
  const names = PATHS.filter((path) => all.some((one) => one.path === path));
  const baseShort = median(values(all, 'direct', 'short'));
  const baseLong = median(values(all, 'direct', 'long'));
  const paths = names.map((name) => {
    const short = values(all, name, 'short');
    const instructions = median(short);
    const instructionsPer64KiB = median(values(all, name, 'long'));
    return {
      name,
      shortRequest: {
        instructions,
        lbShare: instructions - baseShort,
        spread: Math.max(...short) - Math.min(...short),
        conntrackEntries: median(values(all, name, 'conntrack')),
      },
      longTransfer: { instructionsPer64KiB, lbShare: instructionsPer64KiB - baseLong },
      ...memoryOf(all, name),
    };
  });
  return { kernel, family, beside, paths };
}

function memoryOf(
  all: readonly Measurement[],
  path: PathName,
): Pick<PathResult, 'bytesPerSession'> | undefined {
  const found = all.find((one) => one.path === path && one.kind === 'memory');
  return found === undefined ? undefined : { bytesPerSession: found.value };
}

function thousands(instructions: number): string {
  return (instructions / 1000).toFixed(1);
}

/** The result for people: thousands of instructions. */
export function table({ kernel, family, beside, paths }: BenchResult): string {
  const withMemory = paths.some(({ bytesPerSession }) => bytesPerSession !== undefined);
  const rows = paths.map(({ name, shortRequest, longTransfer, bytesPerSession }) => [
    name,
    thousands(shortRequest.instructions),
    thousands(shortRequest.lbShare),
    thousands(shortRequest.spread),
    String(shortRequest.conntrackEntries),
    thousands(longTransfer.instructionsPer64KiB),
    thousands(longTransfer.lbShare),
    ...(withMemory ? [String(bytesPerSession ?? '')] : []),
  ]);
  const head = ['path', 'a request', 'LB share', 'spread', 'conntrack', '64 KiB', 'LB share'];
  if (withMemory) head.push('bytes a session');
  const title = `Linux ${kernel}, ${family}, thousands of instructions, whole system${besideText(beside)}`;
  return [title, ...aligned([head, ...rows])].join('\n');
}

function besideText({ services, sessions }: Beside): string {
  const parts = [
    ...(services > 0 ? [`${services} further Services`] : []),
    ...(sessions > 0 ? [`${sessions} open sessions`] : []),
  ];
  return parts.length > 0 ? `, beside ${parts.join(' and ')}` : '';
}

/** First column to the left, the others to the right. */
export function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** How far below native IPVS's share ipvs-bpf's is, in percent; undefined unless both were measured. */
export function reduction({ paths }: BenchResult): number | undefined {
  const share = (name: PathName) => paths.find((path) => path.name === name)?.shortRequest.lbShare;
  const native = share('ipvs');
  const own = share('ipvs-bpf');
  return native === undefined || own === undefined ? undefined : (1 - own / native) * 100;
}
