// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { IpvsBpfPolicy } from '../../../src/api/generated/resource-types.ts';
import { measurePolicies, measureRun, operatorMetrics } from '../../../src/operator/metrics.ts';

function policy(name: string, status: NonNullable<IpvsBpfPolicy['status']>): IpvsBpfPolicy {
  return { metadata: { name }, status } as unknown as IpvsBpfPolicy;
}

const problem = (node: string, reason: string) => ({ node, reason, message: '' });

const HALTED = policy('shop', {
  nodes: { selected: 3, ready: 1, failed: 2 },
  services: { selected: 4, accelerated: 3, rejected: 1, revision: 'w1' },
  problemNodes: [problem('n1', 'RolledBack'), problem('n2', 'RolledBack'), problem('n3', 'KernelNotMapped')],
  rejectedServices: [{ namespace: 'a', name: 'b', reason: 'Headless', message: '' }],
  conditions: [
    {
      type: 'Progressing',
      status: 'False',
      reason: 'Halted',
      message: '',
      observedGeneration: 1,
      lastTransitionTime: '2026-01-02T03:04:05Z',
    },
  ],
});

describe('metrics of the operator', () => {
  const metrics = operatorMetrics('1.2.3');
  const lines = async (metric: string): Promise<readonly string[]> =>
    (await metrics.text())
      .split('\n')
      .filter((line) => new RegExp(`^ipvsbpf_${metric}[{ ]`).test(line))
      .map((line) => line.replace('ipvsbpf_', ''))
      .sort();

  it('say what the status of a policy says', async () => {
    measurePolicies(metrics, [HALTED]);
    expect(await lines('policy_nodes')).toEqual([
      'policy_nodes{policy="shop",state="failed"} 2',
      'policy_nodes{policy="shop",state="ready"} 1',
      'policy_nodes{policy="shop",state="selected"} 3',
    ]);
    expect(await lines('policy_services')).toHaveLength(3);
    expect(await lines('policy_problem_nodes')).toEqual([
      'policy_problem_nodes{policy="shop",reason="KernelNotMapped"} 1',
      'policy_problem_nodes{policy="shop",reason="RolledBack"} 2',
    ]);
    expect(await lines('policy_rejected_services')).toEqual([
      'policy_rejected_services{policy="shop",reason="Headless"} 1',
    ]);
    expect(await lines('policy_condition')).toEqual([
      'policy_condition{policy="shop",type="Progressing",status="False",reason="Halted"} 1',
    ]);
    expect(await lines('rollout_halted')).toEqual(['rollout_halted{policy="shop"} 1']);
  });

  it('forget a policy that is gone, and know one that has no status yet', async () => {
    measurePolicies(metrics, [policy('new', {})]);
    expect(await lines('policy_nodes')).toEqual([]);
    expect(await lines('policy_problem_nodes')).toEqual([]);
    expect(await lines('rollout_halted')).toEqual(['rollout_halted{policy="new"} 0']);
  });

  it('say that a replica stands by, and its version', async () => {
    expect(await lines('leader')).toEqual(['leader 0']);
    metrics.setOne('leader', {}, 1);
    expect(await lines('leader')).toEqual(['leader 1']);
    expect(await lines('build_info')).toEqual(['build_info{version="1.2.3"} 1']);
  });

  it('count runs by the kind of their key', async () => {
    measureRun(metrics, { key: 'cluster/x', outcome: 'done', durationMs: 20, failures: 0 } as const);
    expect(await lines('reconcile_total')).toEqual(['reconcile_total{key="cluster",outcome="done"} 1']);
    expect(await lines('reconcile_duration_seconds_sum')).toEqual([
      'reconcile_duration_seconds_sum{key="cluster"} 0.02',
    ]);
  });
});
