// SPDX-License-Identifier: Apache-2.0
/** Prometheus metrics of a process that works on a queue of keys. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Finished } from './work-queue.ts';

export class Metrics {
  readonly registry = new Registry();
  readonly #prefix: string;
  readonly #runs: Counter<'key' | 'outcome'>;
  readonly #duration: Histogram<'key'>;
  readonly #lastSuccess: Gauge<'key'>;
  readonly #gauges = new Map<string, Gauge>();
  readonly #counters = new Map<string, Counter>();

  /** @param prefix first part of every name, without the underscore ("product") */
  constructor(prefix: string) {
    this.#prefix = prefix;
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.#runs = new Counter({
      name: `${prefix}_reconcile_total`,
      help: 'Runs of the work queue by kind of key and outcome (done, later, failed).',
      labelNames: ['key', 'outcome'],
      registers,
    });
    this.#duration = new Histogram({
      name: `${prefix}_reconcile_duration_seconds`,
      help: 'How long a run of the work queue took.',
      labelNames: ['key'],
      buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    });
    this.#lastSuccess = new Gauge({
      name: `${prefix}_reconcile_last_success_timestamp_seconds`,
      help: 'When a run of the work queue last succeeded, in seconds since 1970.',
      labelNames: ['key'],
      registers,
    });
  }

  /** Counts a run; of "kind/name" only the kind becomes a label, so that the number of series stays small. */
  observe(finished: Finished): void {
    const key = finished.key.split('/')[0] ?? '';
    this.#runs.inc({ key, outcome: finished.outcome });
    this.#duration.observe({ key }, finished.durationMs / 1000);
    if (finished.outcome === 'done') this.#lastSuccess.setToCurrentTime({ key });
  }

  /** Sets all series of a gauge; those that are not named any more go away. */
  setGauge(
    name: string,
    help: string,
    series: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[],
  ): void {
    const full = `${this.#prefix}_${name}`;
    let gauge = this.#gauges.get(full);
    if (gauge === undefined) {
      const labelNames = Object.keys(series[0]?.labels ?? {});
      if (series.length === 0) return;
      gauge = new Gauge({ name: full, help, labelNames, registers: [this.registry] });
      this.#gauges.set(full, gauge);
    }
    gauge.reset();
    for (const { labels, value } of series) gauge.set({ ...labels }, value);
  }

  count(name: string, help: string, labels: Readonly<Record<string, string>>): void {
    const full = `${this.#prefix}_${name}`;
    let counter = this.#counters.get(full);
    if (counter === undefined) {
      counter = new Counter({
        name: full,
        help,
        labelNames: Object.keys(labels),
        registers: [this.registry],
      });
      this.#counters.set(full, counter);
    }
    counter.inc({ ...labels });
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
