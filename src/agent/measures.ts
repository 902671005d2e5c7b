// SPDX-License-Identifier: Apache-2.0
/** The agent's metrics; docs/metrics.md explains each, and a test compares. */
import type { NodeResourceStatus } from '../api/resources.ts';
import { sameValue } from '../core/canonical.ts';
import type { Drift, DriftReason } from '../core/drift.ts';
import type { NodeFacts } from '../core/facts.ts';
import { whitelistRevision } from '../core/node-spec.ts';
import type { NodeProgress, NodeTarget } from '../core/node-target.ts';
import { portCount, snatPortRanges } from '../core/port-pool.ts';
import { NODE_CONDITIONS } from '../core/reasons.ts';
import type { StepKind } from '../core/steps.ts';
import { type MetricDefinitions, Metrics } from '../runtime/metrics.ts';

export const AGENT_PREFIX = 'ipvsbpf_agent';

export const AGENT_METRICS = {
  build_info: { type: 'gauge', help: '1, with the version of the agent.', labels: ['version'] },
  node_info: {
    type: 'gauge',
    help: '1, with what the node runs: origin and srcversion of ip_vs, kernel release, and the revision that it has.',
    labels: ['origin', 'srcversion', 'kernel', 'revision'],
  },
  switch_on: { type: 'gauge', help: '1 while net.ipv4.vs.bpf_mode is on, otherwise 0.', labels: [] },
  condition: {
    type: 'gauge',
    help: 'Conditions of the node that the agent writes; 1 for the status and reason that hold.',
    labels: ['type', 'status', 'reason'],
  },
  services: {
    type: 'gauge',
    help: 'Services of the whitelist on this node by state (accelerated, rejected).',
    labels: ['state'],
  },
  virtual_servers_accelerated: {
    type: 'gauge',
    help: 'Virtual servers that run accelerated.',
    labels: [],
  },
  session_map_entries: { type: 'gauge', help: 'Sessions in the session map.', labels: [] },
  session_map_max_entries: { type: 'gauge', help: 'Sessions that the session map has room for.', labels: [] },
  snat_ports: {
    type: 'gauge',
    help: 'Ports of one SNAT address that may stand for clients, towards one real server and protocol.',
    labels: [],
  },
  datapath_events_total: {
    type: 'counter',
    help: 'What the programs and the module counted, by event: packets, sessions, connections.',
    labels: ['event'],
  },
  step_duration_seconds: {
    type: 'histogram',
    help: 'How long a step took, by kind and outcome (done, failed).',
    labels: ['step', 'outcome'],
    buckets: [0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300],
  },
  failures_total: {
    type: 'counter',
    help: 'Attempts, and probes between them, that failed; by step and reason.',
    labels: ['step', 'reason'],
  },
  rollbacks_total: {
    type: 'counter',
    help: 'Where the node stopped after a failure, by rung and outcome (Succeeded, Failed).',
    labels: ['rung', 'outcome'],
  },
  drift_total: {
    type: 'counter',
    help: 'Times that something else had changed what the node set, by reason.',
    labels: ['reason'],
  },
  probe_success: {
    type: 'gauge',
    help: '1 if the last probe of the node passed, 0 if it failed; none while nothing is probed.',
    labels: [],
  },
  last_outage_seconds: {
    type: 'gauge',
    help: 'For how long nothing was answered when the module was last exchanged.',
    labels: [],
  },
  last_outage_connections_dropped: {
    type: 'gauge',
    help: 'Connections that were lost when the module was last exchanged.',
    labels: [],
  },
  last_outage_timestamp_seconds: {
    type: 'gauge',
    help: 'When the module was last exchanged, in seconds since 1970.',
    labels: [],
  },
  whitelist_sync_seconds: {
    type: 'histogram',
    help: 'From an edit of the whitelist reaching the agent until the node follows it.',
    labels: [],
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  },
  looks_total: {
    type: 'counter',
    help: 'Looks at the node by outcome (done, failed).',
    labels: ['outcome'],
  },
  last_look_timestamp_seconds: {
    type: 'gauge',
    help: 'When a look at the node last ended without an error, in seconds since 1970; at first when the agent started.',
    labels: [],
  },
  api_connected: {
    type: 'gauge',
    help: '1 while the agent follows the API server, 0 while it goes on without.',
    labels: [],
  },
} as const satisfies MetricDefinitions;

/** What a look at the node found. */
export interface Measured {
  readonly status: NodeResourceStatus;
  readonly facts: NodeFacts;
  /** The last probe; undefined while nothing is probed. */
  readonly probe: { readonly passed: boolean } | undefined;
}

export interface NodeMeasuresOptions {
  readonly version: string;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly date: () => number;
  /** Asked for each scrape. */
  readonly apiProblem: () => string | undefined;
}

/** Turns what happens on a node into metrics. */
export class NodeMeasures {
  readonly #metrics = new Metrics(AGENT_PREFIX, AGENT_METRICS);
  readonly #options: NodeMeasuresOptions;
  #drift: DriftReason | undefined;
  #appliedRevision: string | undefined;
  /** The whitelist that came in last, and is not yet followed. */
  #pending: { readonly revision: string; readonly since: number } | undefined;

  constructor(options: NodeMeasuresOptions) {
    this.#options = options;
    this.#metrics.setOne('build_info', { version: options.version }, 1);
    this.#metrics.setOne('last_look_timestamp_seconds', {}, options.date() / 1000);
    for (const reason of NODE_CONDITIONS.Drifted.True) this.#metrics.begin('drift_total', { reason });
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    this.#metrics.setOne('api_connected', {}, this.#options.apiProblem() === undefined ? 1 : 0);
    return this.#metrics.text();
  }

  looked(outcome: 'done' | 'failed'): void {
    this.#metrics.increment('looks_total', { outcome });
    if (outcome === 'done') {
      this.#metrics.setOne('last_look_timestamp_seconds', {}, this.#options.date() / 1000);
    }
  }

  /** A spec or a whitelist has come in. One that needs a new revision waits for its turn: that is no delay. */
  received({ spec, services }: NodeTarget): void {
    const revision = whitelistRevision(services);
    if (revision === this.#pending?.revision) return;
    const follows = spec.action === 'Apply' && spec.revision === this.#appliedRevision;
    this.#pending = follows ? { revision, since: this.#options.now() } : undefined;
  }

  stepped(step: StepKind, outcome: 'done' | 'failed', seconds: number): void {
    this.#metrics.observe('step_duration_seconds', { step, outcome }, seconds);
  }

  /** Counts a failure that is in `after` and not in `before`. */
  progressed(before: NodeProgress, after: NodeProgress): void {
    const { failure } = after;
    if (failure === undefined || sameValue(failure, before.failure)) return;
    const { step = '', reason = '', rung, rollback } = failure;
    this.#metrics.increment('failures_total', { step, reason });
    if (rung === undefined || rollback === undefined) return;
    this.#metrics.increment('rollbacks_total', { rung, outcome: rollback });
  }

  /** What a look found changed by something else; the same in one look after the other counts once. */
  drifted(drift: Drift | undefined): void {
    if (drift !== undefined && drift.reason !== this.#drift) {
      this.#metrics.increment('drift_total', { reason: drift.reason });
    }
    this.#drift = drift?.reason;
  }

  reported({ status, facts, probe }: Measured): void {
    this.#metrics.set('probe_success', gauge(probe === undefined ? undefined : Number(probe.passed)));
    this.#measureNode(status);
    this.#measureDatapath(facts);
    this.#measureOutage(status.lastDisruption);
    this.#appliedRevision = status.appliedRevision;
    const pending = this.#pending;
    if (pending === undefined || status.services?.revision !== pending.revision) return;
    this.#metrics.observe('whitelist_sync_seconds', {}, (this.#options.now() - pending.since) / 1000);
    this.#pending = undefined;
  }

  #measureNode(status: NodeResourceStatus): void {
    const { module, services, conditions = [] } = status;
    const origin: string = module?.origin ?? 'Absent';
    const srcversion = module?.srcversion ?? '';
    const kernel = status.kernelRelease ?? '';
    const revision = status.appliedRevision ?? '';
    this.#metrics.set('node_info', [{ labels: { origin, srcversion, kernel, revision }, value: 1 }]);
    this.#metrics.set('switch_on', gauge(module?.switch === 'On' ? 1 : 0));
    this.#metrics.set('virtual_servers_accelerated', gauge(services?.virtualServers));
    this.#metrics.set('services', [
      { labels: { state: 'accelerated' }, value: services?.accelerated ?? 0 },
      { labels: { state: 'rejected' }, value: services?.rejected ?? 0 },
    ]);
    this.#metrics.set(
      'condition',
      conditions.map(({ type, status, reason }) => ({ labels: { type, status, reason }, value: 1 })),
    );
  }

  #measureDatapath({ datapath, localPortRange, localReservedPorts }: NodeFacts): void {
    this.#metrics.set('session_map_entries', gauge(datapath?.sessionCount));
    this.#metrics.set('session_map_max_entries', gauge(datapath?.state.sessionMapMaxEntries));
    this.#metrics.set('snat_ports', gauge(portCount(snatPortRanges(localPortRange, localReservedPorts))));
    this.#metrics.setTotals(
      'datapath_events_total',
      Object.entries(datapath?.counters ?? {}).map(([event, value]) => ({ labels: { event }, value })),
    );
  }

  #measureOutage(last: NodeResourceStatus['lastDisruption']): void {
    const { outageMilliseconds: lasted } = last ?? {};
    this.#metrics.set('last_outage_seconds', gauge(lasted === undefined ? undefined : lasted / 1000));
    this.#metrics.set('last_outage_connections_dropped', gauge(last?.connectionsDropped));
    const at = last?.at === undefined ? undefined : Date.parse(last.at) / 1000;
    this.#metrics.set('last_outage_timestamp_seconds', gauge(at));
  }
}

/** The one series of a gauge without labels; none if the value is not known. */
function gauge(value: number | undefined) {
  return value === undefined ? [] : [{ labels: {}, value }];
}
