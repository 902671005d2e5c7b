// SPDX-License-Identifier: Apache-2.0
/** What the agents report of kube-proxy, and what a policy says of it. */
import { describe, expect, it } from 'vitest';
import type { Condition, NodeSpec } from '../../../../src/api/resources.ts';
import { conditionOf } from '../../../../src/core/conditions.ts';
import { planCluster } from '../../../../src/core/policy-plan.ts';
import { facts, node, nodeObject, policy, policySpec } from './builders.ts';

const { snat, ipvs, datapath } = policySpec();
const SPEC: NodeSpec = {
  policyRef: { name: 'p', uid: 'uid-p' },
  action: 'Observe',
  mode: 'Enabled',
  revision: 'r',
  attempt: 0,
  timeouts: { stepSeconds: 120, nodeSeconds: 900 },
  driftPolicy: 'Correct',
  snat,
  ipvs,
  datapath,
  module: { activation: 'Live' },
};

type Proxy = readonly [mode: string, version?: string];

/** The condition of a policy with a node for each of these kube-proxies. */
function supported(...proxies: readonly Proxy[]): Condition | undefined {
  const names = proxies.map((_, i) => `n${i}`);
  const one = policy('p');
  const reconciling = { type: 'Ready', status: 'Unknown', reason: 'Reconciling', message: '' } as const;
  const status = { conditions: [{ ...reconciling, lastTransitionTime: '2025-12-31T00:00:00Z' }] };
  const { steps } = planCluster(
    facts({
      policies: [{ ...one, status }],
      nodes: names.map((name) => node(name)),
      nodeObjects: proxies.map(([mode, version], i) =>
        nodeObject(`n${i}`, SPEC, { kubeProxy: { mode, ...(version === undefined ? {} : { version }) } }),
      ),
    }),
  );
  const applied = steps.find((step) => step.kind === 'applyPolicyStatus');
  return conditionOf(applied?.status.conditions, 'ProxyModeSupported');
}

describe('ProxyModeSupported', () => {
  it.each<[string, readonly Proxy[], string]>([
    ['is not known before an agent has reported', [['']], 'Unknown NotReported'],
    ['holds before 1.35', [['ipvs', 'v1.34.4']], 'True Supported'],
    ['holds if the version is not known', [['ipvs']], 'True Supported'],
    ['holds if the version is empty', [['ipvs', '']], 'True Supported'],
    ['says that mode ipvs is deprecated from 1.35 on', [['ipvs', 'v1.35.0']], 'True Deprecated'],
    ["says so of a distributor's too", [['ipvs', 'v1.36.1-eks-3025e55']], 'True Deprecated'],
    ['goes by the newest', [['ipvs', 'v1.34.4'], ['ipvs', 'v1.35.1'], ['ipvs']], 'True Deprecated'],
    ['does not hold in another mode', [['nftables', 'v1.34.4']], 'False NotIpvs'],
    [
      'does not hold on one node of two',
      [
        ['ipvs', 'v1.35.0'],
        ['iptables', 'v1.35.0'],
      ],
      'False NotIpvs',
    ],
    ['does not hold in another mode of whatever version', [['nftables']], 'False NotIpvs'],
    ['points at the feature gate from 1.40 on', [['nftables', 'v1.40.0']], 'False GateDisabled'],
    ['says from 1.43 on that there is no mode ipvs', [['nftables', 'v1.43.0']], 'False Removed'],
    [
      'goes by the versions of those in another mode',
      [
        ['ipvs', 'v1.42.0'],
        ['nftables', 'v1.39.0'],
      ],
      'False NotIpvs',
    ],
  ])('%s', (_, proxies, expected) => {
    const condition = supported(...proxies);
    expect(`${condition?.status} ${condition?.reason}`).toBe(expected);
  });

  it('names the release in which mode ipvs is deprecated, and the one in which it goes', () => {
    expect(supported(['ipvs', 'v1.35.2'])?.message).toBe(
      'Mode ipvs is deprecated in kube-proxy 1.35, and will be removed in 1.43.',
    );
  });
});
