// SPDX-License-Identifier: Apache-2.0
/** docs/metrics.md, the alerts and the dashboard, compared with the metrics that the code has. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { AGENT_METRICS, AGENT_PREFIX } from '../../../src/agent/measures.ts';
import { PROBLEM_REASONS } from '../../../src/core/reasons.ts';
import { OPERATOR_PREFIX, operatorMetrics } from '../../../src/operator/metrics.ts';
import { Metrics } from '../../../src/runtime/metrics.ts';
import { check, DEFINED } from './metric-names.ts';
import { parsePromql } from './promql.ts';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const page = read('docs/metrics.md');
const matches = (pattern: string, text: string) => new RegExp(`^(?:${pattern})$`).test(text);

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}
const groups = parse(read('charts/ipvs-bpf/files/alerts.yaml')) as readonly { readonly rules: Rule[] }[];
const rules = groups.flatMap((group) => group.rules);

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
const dashboard = JSON.parse(read('charts/ipvs-bpf/files/dashboard.json')) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
};

describe('docs/metrics.md', () => {
  it('has every metric with its type, labels and meaning, and no other', () => {
    const rows = [...page.matchAll(/^\| `(ipvsbpf_\w+)` \| .* \|$/gm)].map(([row]) => row);
    const expected = [...DEFINED].map(([name, { type, labels, help }]) => {
      const list = labels.map((label) => `\`${label}\``).join(', ') || '–';
      return `| \`${name}\` | ${type} | ${list} | ${help} |`;
    });
    expect(rows.sort()).toEqual(expected.sort());
  });

  it('has every alert with its severity, and no other', () => {
    const rows = [...page.matchAll(/^\| `(IpvsBpf\w+)` \| (\w+) \| \S.* \|$/gm)].map(
      ([, alert, severity]) => `${alert} ${severity}`,
    );
    expect(rows.sort()).toEqual(rules.map(({ alert, labels }) => `${alert} ${labels.severity}`).sort());
  });
});

describe('what /metrics answers', () => {
  it.each([
    [OPERATOR_PREFIX, operatorMetrics('1.2.3')],
    [AGENT_PREFIX, new Metrics(AGENT_PREFIX, AGENT_METRICS)],
  ])('has every metric of %s and, of its own, no other', async (prefix, metrics) => {
    const text = await metrics.text();
    const found = [...text.matchAll(/^# TYPE (ipvsbpf_\w+) (\w+)$/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    );
    const own = [...DEFINED].filter(([name]) => name.startsWith(AGENT_PREFIX) === (prefix === AGENT_PREFIX));
    expect(found.sort()).toEqual(own.map(([name, { type }]) => `${name} ${type}`).sort());
  });
});

describe('alerts', () => {
  it.each(rules.map((rule) => [rule.alert, rule] as const))('%s asks for what there is', (_, rule) => {
    const { problems, labels } = check(rule.expr);
    expect(problems).toEqual([]);
    const { summary, description } = rule.annotations;
    const used = [...`${summary} ${description}`.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
    expect(used.filter((label) => !labels.includes(label ?? ''))).toEqual([]);
    expect(rule.for).toMatch(/^\d+m$/);
    expect(['warning', 'critical']).toContain(rule.labels.severity);
  });

  it.each(PROBLEM_REASONS.map((reason) => [reason]))('tell of nodes with %s', (reason) => {
    const selectors = rules.flatMap(({ expr }) => parsePromql(expr).selectors);
    const told = selectors.some(({ metric, matchers }) =>
      matchers.some(({ label, value }) => {
        if (metric === 'ipvsbpf_policy_nodes')
          return value === 'unreachable' && reason === 'AgentUnreachable';
        return metric === 'ipvsbpf_policy_problem_nodes' && label === 'reason' && matches(value, reason);
      }),
    );
    expect(told).toBe(true);
  });

  it('have names of their own', () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  });
});

describe('the dashboard', () => {
  const panels = dashboard.panels.filter(({ type }) => type !== 'row');
  const targets = panels.flatMap(({ title, targets = [] }) =>
    targets.map((target) => [title, target.expr, target.legendFormat] as const),
  );
  const tables = new Set(panels.filter(({ type }) => type === 'table').map(({ title }) => title));
  const variables = dashboard.templating.list.map(({ name }) => name);
  const filled = (expression: string): string =>
    expression.replaceAll('$__rate_interval', '5m').replace(/\$(\w+)/g, (_, name: string) => {
      expect(variables).toContain(name);
      return '.*';
    });

  it.each(targets)('%s asks for what there is: %s', (_, expression, legend) => {
    const { problems, labels } = check(filled(expression));
    expect(problems).toEqual([]);
    const used = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '');
    expect(used.filter((label) => !labels.includes(label))).toEqual([]);
  });

  it('names the series of an aggregation by the labels that it keeps', () => {
    for (const [title, expression, legend] of targets) {
      const kept = parsePromql(filled(expression)).groupings.filter((label) => label !== 'le');
      // A table has a column for each label.
      if (kept.length === 0 || (legend === '' && tables.has(title))) continue;
      const used = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? '');
      expect([...new Set(used)].sort(), title).toEqual([...new Set(kept)].sort());
    }
  });

  it('lists for its variables the values of labels that there are', () => {
    const queries = dashboard.templating.list.flatMap(({ query }) =>
      typeof query === 'object' ? [(query as { readonly query: string }).query] : [],
    );
    expect(queries).toHaveLength(2);
    for (const query of queries) {
      const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(query) ?? [];
      expect(check(`sum by (${label}) (${metric})`).problems).toEqual([]);
    }
  });

  it('has every metric of the datapath and of the rollout somewhere', () => {
    const shown = new Set(
      targets
        .flatMap(([, expression]) => parsePromql(filled(expression)).selectors)
        .map(({ metric }) => metric),
    );
    for (const metric of [
      'ipvsbpf_policy_nodes',
      'ipvsbpf_agent_datapath_events_total',
      'ipvsbpf_agent_probe_success',
    ]) {
      expect(shown).toContain(metric);
    }
  });

  it('gives each panel a number of its own', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });
});

describe('the check of expressions', () => {
  it.each([
    ['ipvsbpf_nothing', 'there is no ipvsbpf_nothing'],
    ['ipvsbpf_policy_nodes{stat="ready"}', 'ipvsbpf_policy_nodes has no stat'],
    ['ipvsbpf_policy_nodes{state="raedy"}', 'ipvsbpf_policy_nodes state is never raedy'],
    ['sum by (polcy) (ipvsbpf_policy_nodes)', 'nothing has polcy'],
    ['ipvsbpf_reconcile_duration_seconds', 'there is no ipvsbpf_reconcile_duration_seconds'],
  ])('finds what is wrong with %s', (expression, problem) => {
    expect(check(expression).problems).toEqual([problem]);
  });

  it('refuses what is no PromQL', () => {
    expect(() => check('sum(ipvsbpf_policy_nodes')).toThrow(/no PromQL at character/);
  });
});
