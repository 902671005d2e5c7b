// SPDX-License-Identifier: Apache-2.0
/** Prometheus metrics that are all defined before the first one has a value. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** Of a histogram: upper bounds, ascending. */
  readonly buckets?: readonly number[];
}

/** By name, without the prefix. */
export type MetricDefinitions = Readonly<Record<string, MetricDefinition>>;

type NamesOf<D extends MetricDefinitions, T extends MetricDefinition['type']> = {
  [N in keyof D]: D[N]['type'] extends T ? N : never;
}[keyof D] &
  string;

type LabelsOf<D extends MetricDefinitions, N extends keyof D> = Readonly<
  Record<D[N]['labels'][number], string>
>;

/** One value of a metric. */
export interface Series<L> {
  readonly labels: L;
  readonly value: number;
}

/** The metrics of a process, and those that prom-client has for every Node process. */
export class Metrics<D extends MetricDefinitions> {
  readonly #registry = new Registry();
  readonly #prefix: string;
  readonly #counters = new Map<string, Counter>();
  readonly #gauges = new Map<string, Gauge>();
  readonly #histograms = new Map<string, Histogram>();

  /** @param prefix first part of every name, without the underscore ("product") */
  constructor(prefix: string, definitions: D) {
    this.#prefix = prefix;
    collectDefaultMetrics({ register: this.#registry });
    for (const [name, definition] of Object.entries(definitions)) this.#define(name, definition);
  }

  /** Adds 1. */
  increment<N extends NamesOf<D, 'counter'>>(name: N, labels: LabelsOf<D, N>): void {
    this.#counters.get(name)?.inc({ ...labels });
  }

  /** Lets a series be there from the start, at 0: to Prometheus one that appears at 1 has not increased. */
  begin<N extends NamesOf<D, 'counter'>>(name: N, labels: LabelsOf<D, N>): void {
    this.#counters.get(name)?.inc({ ...labels }, 0);
  }

  /** Makes all series of a counter these, which something else counts. */
  setTotals<N extends NamesOf<D, 'counter'>>(name: N, series: readonly Series<LabelsOf<D, N>>[]): void {
    const counter = this.#counters.get(name);
    counter?.reset();
    for (const { labels, value } of series) counter?.inc({ ...labels }, value);
  }

  /** Makes all series of a gauge these; the others go away. */
  set<N extends NamesOf<D, 'gauge'>>(name: N, series: readonly Series<LabelsOf<D, N>>[]): void {
    const gauge = this.#gauges.get(name);
    if (gauge === undefined) return;
    clear(gauge);
    for (const { labels, value } of series) gauge.set({ ...labels }, value);
  }

  /** Sets one series of a gauge and leaves the others. */
  setOne<N extends NamesOf<D, 'gauge'>>(name: N, labels: LabelsOf<D, N>, value: number): void {
    this.#gauges.get(name)?.set({ ...labels }, value);
  }

  observe<N extends NamesOf<D, 'histogram'>>(name: N, labels: LabelsOf<D, N>, value: number): void {
    this.#histograms.get(name)?.observe({ ...labels }, value);
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  #define(name: string, { type, help, labels, buckets }: MetricDefinition): void {
    const options = {
      name: `${this.#prefix}_${name}`,
      help,
      labelNames: [...labels],
      registers: [this.#registry],
    };
    switch (type) {
      case 'counter':
        this.#counters.set(name, new Counter(options));
        break;
      case 'gauge': {
        const gauge = new Gauge(options);
        clear(gauge);
        this.#gauges.set(name, gauge);
        break;
      }
      case 'histogram':
        this.#histograms.set(name, new Histogram({ ...options, buckets: [...(buckets ?? [])] }));
    }
  }
}

/** A gauge without labels is 0 after a reset; what is not known is to have no value. */
function clear(gauge: Gauge): void {
  gauge.reset();
  gauge.remove({});
}
