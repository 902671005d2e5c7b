// SPDX-License-Identifier: Apache-2.0
/** Numbers of the scale benchmark: what the operator's metrics say, and how times are shown. */

export interface Totals {
  /** Requests to the API server so far, watches not counted. */
  readonly requests: number;
  /** Looks at everything, and the time that they took with their writes. */
  readonly plans: number;
  readonly planSeconds: number;
  /** Whether it leads. */
  readonly leads: boolean;
  /** When a look at everything had ended well last, in seconds since 1970; 0: none has. */
  readonly lastLook: number;
}

/** @param text metrics as Prometheus reads them */
export function totals(text: string): Totals {
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  const look = '\\{key="cluster"\\}';
  return {
    requests: sum('ipvsbpf_api_requests_total'),
    plans: sum(`ipvsbpf_reconcile_duration_seconds_count${look}`),
    planSeconds: sum(`ipvsbpf_reconcile_duration_seconds_sum${look}`),
    leads: sum('ipvsbpf_leader') === 1,
    lastLook: sum(`ipvsbpf_reconcile_last_success_timestamp_seconds${look}`),
  };
}

export function difference(
  before: Totals,
  after: Totals,
): Pick<Totals, 'requests' | 'plans' | 'planSeconds'> {
  return {
    requests: after.requests - before.requests,
    plans: after.plans - before.plans,
    planSeconds: after.planSeconds - before.planSeconds,
  };
}

/** Of an odd number of values. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** "0.31 s (0.25 to 0.42)"; one value stands alone. */
export function seconds(milliseconds: readonly number[]): string {
  const show = (value: number): string => (value / 1000).toFixed(2);
  if (milliseconds.length === 1) return `${show(milliseconds[0] ?? Number.NaN)} s`;
  const [least, most] = [Math.min(...milliseconds), Math.max(...milliseconds)];
  return `${show(median(milliseconds))} s (${show(least)} to ${show(most)})`;
}

export function MiB(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MiB`;
}
