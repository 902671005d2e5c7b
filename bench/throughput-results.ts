// SPDX-License-Identifier: Apache-2.0
/** From what wrk and iperf3 print to the throughput benchmark's result. Pure. */
import { aligned, median } from './results.ts';

/** What is measured once a round, in this order. */
export const CASES = [
  { path: 'routed', frontend: '' },
  { path: 'ipvs', frontend: 'ClusterIP' },
  { path: 'ipvs', frontend: 'NodePort' },
  { path: 'ipvs-bpf', frontend: 'ClusterIP' },
  { path: 'ipvs-bpf', frontend: 'NodePort' },
] as const;
export type Case = (typeof CASES)[number];
export type PathName = Case['path'];

/** One run of wrk. */
export interface Requests {
  readonly answered: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of sockets (connect, read, write, timeout). */
  readonly errors: number;
}

export interface Measurement {
  readonly round: number;
  readonly case: Case;
  readonly requests: Requests;
  readonly mbitPerSecond: number;
  /** For how much of the time the director's processor ran: well below 1 something else was the bottleneck. */
  readonly busy: { readonly requests: number; readonly transfer: number };
}

interface Value {
  readonly median: number;
  /** Largest minus smallest of the rounds. */
  readonly spread: number;
}

/** Medians of the ratios of each round: rounds differ more than what one of them has. */
interface Ratios {
  readonly requests: number;
  /** Of requests for a second that the director's processor ran; the same as `requests` if it always did. */
  readonly requestsOfProcessor: number;
  readonly p99: number;
  readonly mbit: number;
  readonly mbitOfProcessor: number;
}

export interface CaseResult {
  readonly path: PathName;
  readonly frontend: Case['frontend'];
  readonly requestsPerSecond: Value;
  readonly p50Ms: Value;
  readonly p99Ms: Value;
  /** Of all rounds. */
  readonly answered: number;
  readonly errors: number;
  readonly mbitPerSecond: Value;
  /** The least of all measurements. */
  readonly busy: number;
  /** To native IPVS with the same frontend. */
  readonly toNative?: Ratios;
  /** To plain routing. */
  readonly toRouted?: Ratios;
}

export interface ThroughputResult {
  /** Release of the kernel that was booted. */
  readonly kernel: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly cases: readonly CaseResult[];
}

const milliseconds: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

/**
 * @param text what `wrk --latency` printed
 * @throws Error if something is missing, or an answer had another status than 2xx or 3xx
 */
export function parseWrk(text: string): Requests {
  const matched = (pattern: RegExp): RegExpExecArray => {
    const found = pattern.exec(text);
    if (found === null) throw new Error(`wrk did not say what was expected:\n${text}`);
    return found;
  };
  const percentile = (percent: number): number => {
    const [, value, unit = ''] = matched(new RegExp(`^ +${percent}% +([\\d.]+)(us|ms|s|m) *$`, 'm'));
    return Number(value) * (milliseconds[unit] ?? Number.NaN);
  };
  const bad = /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1];
  if (bad !== undefined) throw new Error(`${bad} answers of wrk's requests were not 2xx or 3xx`);
  const errors = /^ +Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$/m.exec(text);
  return {
    answered: Number(matched(/^ +(\d+) requests in /m)[1]),
    perSecond: Number(matched(/^Requests\/sec: +([\d.]+)$/m)[1]),
    p50Ms: percentile(50),
    p99Ms: percentile(99),
    errors: (errors ?? []).slice(1).reduce((sum, count) => sum + Number(count), 0),
  };
}

/**
 * Megabits a second that the server received.
 * @param text what `iperf3 --json` printed
 * @throws Error if it failed or nothing came through
 */
export function parseIperf(text: string): number {
  const report = JSON.parse(text) as {
    readonly error?: string;
    readonly end?: { readonly sum_received?: { readonly bits_per_second?: number } };
  };
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  const bits = report.end?.sum_received?.bits_per_second;
  if (bits === undefined || !(bits > 0)) throw new Error(`iperf3 measured nothing:\n${text}`);
  return bits / 1e6;
}

export function nameOf({ path, frontend }: Pick<Case, 'path' | 'frontend'>): string {
  return `${path} ${frontend}`.trim();
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

/** One request in so many may have met an error of a socket. */
export const REQUESTS_AN_ERROR = 1000;

/** @throws Error that names the case if nothing was answered, or more requests failed than may */
export function checkErrors(each: Case, { answered, errors }: Requests): void {
  if (answered === 0) throw new Error(`${nameOf(each)}: no answers`);
  if (errors * REQUESTS_AN_ERROR > answered) {
    throw new Error(
      `${nameOf(each)}: ${errors} socket errors with ${answered} answers; one in ${REQUESTS_AN_ERROR} is allowed`,
    );
  }
}

/** Connections of others: of iperf3's, and what the machine does by itself. */
const FEW_ENTRIES = 100;

/**
 * Whether the packets took the way that is measured: only the native one leaves a conntrack entry for each connection.
 * @param tracked entries that were not there before
 * @throws Error that names the case if not
 */
export function checkTracked(each: Case, { answered }: Requests, tracked: number): void {
  const wanted = each.path === 'ipvs' ? tracked * 2 > answered : tracked < FEW_ENTRIES;
  if (!wanted) throw new Error(`${nameOf(each)}: ${tracked} conntrack entries of ${answered} requests`);
}

/** @throws Error if a case was not measured in each round */
export function summarize(
  kernel: string,
  seconds: number,
  measurements: readonly Measurement[],
): ThroughputResult {
  const rounds = Math.max(0, ...measurements.map(({ round }) => round));
  const cases = CASES.map((each) => {
    const own = ofCase(measurements, rounds, each);
    return { ...figures(each, own), ...ratiosOf(measurements, rounds, each, own) };
  });
  return { kernel, rounds, seconds, cases };
}

function ofCase(all: readonly Measurement[], rounds: number, each: Case): readonly Measurement[] {
  const found = all.filter((one) => nameOf(one.case) === nameOf(each)).toSorted((a, b) => a.round - b.round);
  if (found.length === 0 || found.length !== rounds) {
    throw new Error(`${nameOf(each)}: measured ${found.length} times in ${rounds} rounds`);
  }
  return found;
}

function figures({ path, frontend }: Case, own: readonly Measurement[]): CaseResult {
  const value = (of: (one: Measurement) => number): Value => {
    const all = own.map(of);
    return { median: median(all), spread: Math.max(...all) - Math.min(...all) };
  };
  const sum = (of: (one: Measurement) => number) => own.reduce((total, one) => total + of(one), 0);
  return {
    path,
    frontend,
    requestsPerSecond: value(({ requests }) => requests.perSecond),
    p50Ms: value(({ requests }) => requests.p50Ms),
    p99Ms: value(({ requests }) => requests.p99Ms),
    answered: sum(({ requests }) => requests.answered),
    errors: sum(({ requests }) => requests.errors),
    mbitPerSecond: value((one) => one.mbitPerSecond),
    busy: Math.min(...own.flatMap(({ busy }) => [busy.requests, busy.transfer])),
  };
}

function ratiosOf(
  all: readonly Measurement[],
  rounds: number,
  { path, frontend }: Case,
  own: readonly Measurement[],
): Pick<CaseResult, 'toNative' | 'toRouted'> {
  if (path === 'routed') return {};
  const toRouted = ratios(own, ofCase(all, rounds, { path: 'routed', frontend: '' }));
  if (path === 'ipvs') return { toRouted };
  return { toRouted, toNative: ratios(own, ofCase(all, rounds, { path: 'ipvs', frontend })) };
}

function ratios(own: readonly Measurement[], others: readonly Measurement[]): Ratios {
  const ratio = (of: (one: Measurement) => number): number =>
    median(own.map((one, index) => of(one) / of(others[index] ?? one)));
  return {
    requests: ratio(({ requests }) => requests.perSecond),
    requestsOfProcessor: ratio(({ requests, busy }) => requests.perSecond / busy.requests),
    p99: ratio(({ requests }) => requests.p99Ms),
    mbit: ratio((one) => one.mbitPerSecond),
    mbitOfProcessor: ratio(({ mbitPerSecond, busy }) => mbitPerSecond / busy.transfer),
  };
}

/** The result for people. */
export function table({ kernel, rounds, seconds, cases }: ThroughputResult): string {
  const head = ['path', 'requests/s', 'spread', 'p50 ms', 'p99 ms', 'errors', 'Mbit/s', 'spread', 'busy'];
  const rows = cases.map((each) => [
    nameOf(each),
    each.requestsPerSecond.median.toFixed(0),
    each.requestsPerSecond.spread.toFixed(0),
    each.p50Ms.median.toFixed(2),
    each.p99Ms.median.toFixed(2),
    String(each.errors),
    each.mbitPerSecond.median.toFixed(0),
    each.mbitPerSecond.spread.toFixed(0),
    percent(each.busy),
  ]);
  return [
    `Linux ${kernel}, rounds: ${rounds}, ${seconds} s each measurement`,
    ...aligned([head, ...rows]),
    '',
    ...aligned([
      ['ratio', 'requests/s', 'of processor', 'p99', 'Mbit/s', 'of processor'],
      ...cases.flatMap(ratioRows),
    ]),
  ].join('\n');
}

function ratioRows(each: CaseResult): readonly string[][] {
  const row = (to: string, of: Ratios | undefined): string[][] => {
    if (of === undefined) return [];
    const values = [of.requests, of.requestsOfProcessor, of.p99, of.mbit, of.mbitOfProcessor];
    return [[`${nameOf(each)} / ${to}`, ...values.map((value) => value.toFixed(2))]];
  };
  return [...row(`ipvs ${each.frontend}`, each.toNative), ...row('routed', each.toRouted)];
}

/** Cases of which the director waited for something else at least once. */
export function idleCases({ cases }: ThroughputResult): readonly string[] {
  return cases.filter(({ busy }) => busy < 0.9).map(nameOf);
}
