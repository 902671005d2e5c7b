// SPDX-License-Identifier: Apache-2.0
/** The operator's metrics; docs/metrics.md explains each, and a test compares. */
import type { IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import { type MetricDefinitions, Metrics } from '../runtime/metrics.ts';
import type { Finished } from '../runtime/work-queue.ts';

export const OPERATOR_PREFIX = 'ipvsbpf';

export const OPERATOR_METRICS = {
  build_info: { type: 'gauge', help: '1, with the version of the operator.', labels: ['version'] },
  leader: { type: 'gauge', help: '1 for the replica that leads, 0 for one that stands by.', labels: [] },
  policy_condition: {
    type: 'gauge',
    help: 'Conditions of policies; 1 for the status and reason that hold.',
    labels: ['policy', 'type', 'status', 'reason'],
  },
  policy_nodes: { type: 'gauge', help: 'Nodes of policies by state.', labels: ['policy', 'state'] },
  policy_problem_nodes: {
    type: 'gauge',
    help: 'Nodes that status.problemNodes of policies lists, 20 at most, by reason.',
    labels: ['policy', 'reason'],
  },
  policy_waiting_nodes: {
    type: 'gauge',
    help: 'Nodes that status.waitingNodes of policies lists, 20 at most, by reason.',
    labels: ['policy', 'reason'],
  },
  policy_services: {
    type: 'gauge',
    help: 'Services of policies by state (selected, accelerated, rejected).',
    labels: ['policy', 'state'],
  },
  policy_rejected_services: {
    type: 'gauge',
    help: 'Services that status.rejectedServices of policies lists, 20 at most, by reason.',
    labels: ['policy', 'reason'],
  },
  rollout_halted: {
    type: 'gauge',
    help: '1 while the rollout of a policy is halted because too many nodes failed, otherwise 0.',
    labels: ['policy'],
  },
  reconcile_total: {
    type: 'counter',
    help: 'Runs of the work queue by kind of key and outcome (done, later, failed).',
    labels: ['key', 'outcome'],
  },
  reconcile_duration_seconds: {
    type: 'histogram',
    help: 'How long a run of the work queue took.',
    labels: ['key'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  reconcile_last_success_timestamp_seconds: {
    type: 'gauge',
    help: 'When everything was last looked at, and all that was to be written was written, in seconds since 1970; 0 before.',
    labels: ['key'],
  },
  steps_total: { type: 'counter', help: 'Writes by kind and outcome.', labels: ['kind', 'outcome'] },
  api_requests_total: {
    type: 'counter',
    help: 'Requests to the API server, but for watches.',
    labels: ['method', 'status'],
  },
} as const satisfies MetricDefinitions;

export type OperatorMetrics = Metrics<typeof OPERATOR_METRICS>;

export function operatorMetrics(version: string): OperatorMetrics {
  const metrics = new Metrics(OPERATOR_PREFIX, OPERATOR_METRICS);
  metrics.setOne('build_info', { version }, 1);
  metrics.setOne('leader', {}, 0);
  return metrics;
}

/** Counts a run; of "kind/name" only the kind becomes a label, so that the number of series stays small. */
export function measureRun(metrics: OperatorMetrics, { key, outcome, durationMs }: Finished): void {
  const kind = key.split('/')[0] ?? '';
  metrics.increment('reconcile_total', { key: kind, outcome });
  metrics.observe('reconcile_duration_seconds', { key: kind }, durationMs / 1000);
}

/** What the policies' status says, in numbers. */
export function measurePolicies(metrics: OperatorMetrics, policies: readonly IpvsBpfPolicy[]): void {
  const ofEach = <T>(take: (policy: string, status: NonNullable<IpvsBpfPolicy['status']>) => readonly T[]) =>
    policies.flatMap(({ metadata, status }) => take(metadata.name, status ?? {}));
  metrics.set(
    'policy_condition',
    ofEach((policy, { conditions = [] }) =>
      conditions.map(({ type, status, reason }) => ({ labels: { policy, type, status, reason }, value: 1 })),
    ),
  );
  metrics.set(
    'policy_nodes',
    ofEach((policy, { nodes = {} }) => byState(policy, nodes)),
  );
  metrics.set(
    'policy_services',
    ofEach((policy, { services = {} }) => byState(policy, services)),
  );
  metrics.set(
    'policy_problem_nodes',
    ofEach((policy, { problemNodes = [] }) => byReason(policy, problemNodes)),
  );
  metrics.set(
    'policy_waiting_nodes',
    ofEach((policy, { waitingNodes = [] }) => byReason(policy, waitingNodes)),
  );
  metrics.set(
    'policy_rejected_services',
    ofEach((policy, { rejectedServices = [] }) => byReason(policy, rejectedServices)),
  );
  metrics.set(
    'rollout_halted',
    ofEach((policy, { conditions = [] }) => {
      const halted = conditions.some(({ type, reason }) => type === 'Progressing' && reason === 'Halted');
      return [{ labels: { policy }, value: halted ? 1 : 0 }];
    }),
  );
}

function byState(policy: string, counts: Readonly<Record<string, unknown>>) {
  return Object.entries(counts).flatMap(([state, value]) =>
    typeof value === 'number' ? [{ labels: { policy, state }, value }] : [],
  );
}

function byReason(policy: string, items: readonly { readonly reason: string }[]) {
  const counts = new Map<string, number>();
  for (const { reason } of items) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(([reason, value]) => ({ labels: { policy, reason }, value }));
}
