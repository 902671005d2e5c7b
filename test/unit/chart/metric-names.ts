// SPDX-License-Identifier: Apache-2.0
/** What Prometheus has of operator and agents, and whether an expression asks for nothing else. */
import { AGENT_METRICS, AGENT_PREFIX } from '../../../src/agent/measures.ts';
import { COUNTERS } from '../../../src/core/abi.ts';
import { PROBLEM_REASONS } from '../../../src/core/reasons.ts';
import { OPERATOR_METRICS, OPERATOR_PREFIX } from '../../../src/operator/metrics.ts';
import type { MetricDefinition, MetricDefinitions } from '../../../src/runtime/metrics.ts';
import { parsePromql } from './promql.ts';

/** Labels of the scrape; `node` comes with the chart's PodMonitor. */
const TARGET_LABELS = ['namespace', 'pod', 'container', 'job', 'instance', 'endpoint', 'service', 'node'];

const prefixed = (prefix: string, definitions: MetricDefinitions) =>
  Object.entries(definitions).map(([name, definition]) => [`${prefix}_${name}`, definition] as const);

/** By full name. */
export const DEFINED: ReadonlyMap<string, MetricDefinition> = new Map([
  ...prefixed(OPERATOR_PREFIX, OPERATOR_METRICS),
  ...prefixed(AGENT_PREFIX, AGENT_METRICS),
]);

/** Series by name with their own labels: of a histogram its three. */
export const SERIES: ReadonlyMap<string, readonly string[]> = new Map(
  [...DEFINED].flatMap(([name, { type, labels }]) =>
    type === 'histogram'
      ? [
          [`${name}_bucket`, [...labels, 'le']],
          [`${name}_sum`, labels],
          [`${name}_count`, labels],
        ]
      : [[name, labels]],
  ) as [string, readonly string[]][],
);

/** Values that a label of a metric can have, where the code lists them. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  'ipvsbpf_policy_problem_nodes reason': PROBLEM_REASONS,
  'ipvsbpf_agent_datapath_events_total event': COUNTERS,
  'ipvsbpf_policy_nodes state': [
    'selected',
    'ready',
    'updated',
    'progressing',
    'waiting',
    'failed',
    'rolledBack',
    'skipped',
    'unreachable',
  ],
  'ipvsbpf_reconcile_last_success_timestamp_seconds key': ['cluster', 'agents'],
};

/** What an expression asks for that there is not; and its labels, those of the scrape included. */
export function check(expression: string): {
  readonly problems: readonly string[];
  readonly labels: readonly string[];
} {
  const { selectors, groupings } = parsePromql(expression);
  const problems: string[] = [];
  const labels = new Set(TARGET_LABELS);
  for (const { metric, matchers } of selectors) {
    const own = SERIES.get(metric);
    if (own === undefined) problems.push(`there is no ${metric}`);
    for (const label of own ?? []) labels.add(label);
    for (const { label, value } of matchers) {
      if (![...(own ?? []), ...TARGET_LABELS].includes(label)) problems.push(`${metric} has no ${label}`);
      problems.push(...wrongValues(`${metric} ${label}`, value));
    }
  }
  problems.push(...groupings.filter((label) => !labels.has(label)).map((label) => `nothing has ${label}`));
  return { problems, labels: [...labels] };
}

/** Each alternative of "A|B|C(D|E)" has to match a value. */
function wrongValues(where: string, pattern: string): readonly string[] {
  const known = VALUES[where];
  if (known === undefined) return [];
  const alternatives = /^[\w|]+$/.test(pattern) ? pattern.split('|') : [pattern];
  return alternatives
    .filter((one) => !known.some((value) => new RegExp(`^(?:${one})$`).test(value)))
    .map((one) => `${where} is never ${one}`);
}
