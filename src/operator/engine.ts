// SPDX-License-Identifier: Apache-2.0
/** What a leader runs: the two keys of its queue, their triggers, and their metrics. */
import type { Cluster, Watched } from '../cluster-ports.ts';
import type { ClusterFacts } from '../core/cluster-facts.ts';
import type { ClusterPlan } from '../core/cluster-steps.ts';
import type { AgentConfig } from '../core/manifests.ts';
import { Backoff } from '../runtime/backoff.ts';
import { every } from '../runtime/ticker.ts';
import { type Finished, WorkQueue } from '../runtime/work-queue.ts';
import { reconcileAgents } from './agents.ts';
import type { Executor } from './execute.ts';
import { measurePolicies, measureRun, type OperatorMetrics } from './metrics.ts';
import { reconcileModules } from './modules.ts';
import { type Log, Reconciler } from './reconcile.ts';
import { Stores } from './stores.ts';

/** Of the queue: policies and nodes, the agents' objects, the pods that deliver modules. */
const KEYS = ['cluster', 'agents', 'modules'] as const;
type Key = (typeof KEYS)[number];
const OUTCOMES = ['done', 'later', 'failed'] as const satisfies readonly Finished['outcome'][];

/** A burst of changes costs one plan; the packets follow an edit well within a second. */
const PLAN_INTERVAL_MS = 100;

export interface EngineOptions {
  readonly cluster: Cluster;
  readonly policies: Watched;
  readonly settleFinalizer: Executor['settleFinalizer'];
  readonly plan: (facts: ClusterFacts) => ClusterPlan;
  readonly namespace: string;
  /** Undefined: agents are not this operator's business. */
  readonly agent: AgentConfig | undefined;
  readonly resyncMs: number;
  readonly metrics: OperatorMetrics;
  readonly log: Log;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly date: () => number;
  readonly random: () => number;
}

export class Engine {
  readonly stores: Stores;
  readonly #options: EngineOptions;
  readonly #queue: WorkQueue;
  readonly #reconciler: Reconciler;
  readonly #endResync: () => void;

  constructor(options: EngineOptions) {
    this.#options = options;
    const { cluster, now, random, date, log, metrics, namespace, plan, policies, settleFinalizer } = options;
    this.#queue = new WorkQueue({
      work: (key) => this.#work(key as Key),
      concurrency: 3,
      minIntervalMs: PLAN_INTERVAL_MS,
      now,
      random,
      onFinished: (finished) => this.#onFinished(finished),
    });
    this.stores = new Stores(policies, {
      cluster,
      namespace,
      now,
      onChange: () => this.wake(),
      onAgentsChange: () => this.#queue.add('agents'),
      onState: () => this.#resync(),
    });
    this.#reconciler = new Reconciler({
      cluster,
      stores: this.stores,
      plan,
      settleFinalizer,
      backoff: new Backoff({ firstMs: 250, maxMs: 60_000, now, random }),
      log,
      date,
      onFacts: (facts) => this.#measure(facts),
      onStep: (step, outcome) => metrics.increment('steps_total', { kind: step.kind, outcome }),
      onDone: () => this.#succeeded('cluster'),
    });
    for (const key of ['cluster', 'agents']) {
      metrics.setOne('reconcile_last_success_timestamp_seconds', { key }, 0);
    }
    for (const key of KEYS) {
      for (const outcome of OUTCOMES) metrics.begin('reconcile_total', { key, outcome });
    }
    this.#endResync = every(options.resyncMs, () => this.#resync(), random);
    this.#resync();
  }

  /** Plans again soon. */
  wake(): void {
    this.#queue.add('cluster');
    this.#queue.add('modules');
  }

  /** Resolves when what is being done has ended. */
  async stop(): Promise<void> {
    this.#endResync();
    this.stores.stop();
    await this.#queue.stop();
  }

  #resync(): void {
    this.wake();
    this.#queue.add('agents');
  }

  #work(key: Key): Promise<void> {
    if (key === 'agents') return this.#agents();
    return key === 'modules' ? this.#modules() : this.#reconciler.reconcile();
  }

  async #modules(): Promise<void> {
    const { agent, cluster, log, date } = this.#options;
    if (agent === undefined || !this.stores.hasSynced) return;
    const { nodeObjects, policies, deliveryPods } = this.stores.facts(date());
    await reconcileModules({
      cluster,
      config: agent,
      log,
      nodeObjects,
      policies,
      pods: deliveryPods,
      now: date(),
    });
  }

  async #agents(): Promise<void> {
    const { agent, cluster, log } = this.#options;
    const { policies, nodeObjects } = this.stores;
    if (agent === undefined || !policies.watched.hasSynced || !nodeObjects.watched.hasSynced) return;
    const wanted = () => policies.list().length > 0 || nodeObjects.list().length > 0;
    await reconcileAgents({ cluster, config: agent, log, wanted });
  }

  #onFinished(finished: Finished): void {
    const { log, metrics } = this.#options;
    measureRun(metrics, finished);
    if (finished.outcome === 'done') this.#succeeded(finished.key);
    if (finished.outcome !== 'failed') return;
    const error = finished.error instanceof Error ? finished.error.message : String(finished.error);
    log.error('a run failed', { key: finished.key, error, retryInMs: Math.round(finished.retryInMs ?? 0) });
  }

  /** Also wakes the agents when the first policy came or the last one went. */
  #measure(facts: ClusterFacts): void {
    const { metrics } = this.#options;
    const wanted = facts.policies.length > 0 || facts.nodeObjects.length > 0;
    if (wanted !== this.#wanted) this.#queue.add('agents');
    this.#wanted = wanted;
    measurePolicies(metrics, facts.policies);
  }

  #succeeded(key: string): void {
    const { metrics, date } = this.#options;
    metrics.setOne('reconcile_last_success_timestamp_seconds', { key }, date() / 1000);
  }

  #wanted = false;
}
