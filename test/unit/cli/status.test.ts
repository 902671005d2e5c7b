// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { clusterStatusText } from '../../../src/cli/status-text.ts';
import { type ClusterObjects, summarizeCluster } from '../../../src/core/cluster-summary.ts';
import {
  agentDaemonSet,
  objects,
  operatorDeployment,
  readyCondition,
  readyNode,
  readyPolicy,
} from './objects.ts';

const text = (change: Partial<ClusterObjects>, named: readonly string[] = [], ignoreWarnings = false) =>
  `\n${clusterStatusText(summarizeCluster(objects(change), named), { ignoreWarnings })}`;

describe('the status of a cluster', () => {
  it('when all is as it should be', () => {
    expect(text({})).toMatchInlineSnapshot(`
      "
      Operator  ipvs-bpf/ipvs-bpf-operator  2 of 2 ready  registry.example/ipvs-bpf:0.1.0
      Agents    ipvs-bpf/ipvs-bpf-agent     2 of 2 ready  registry.example/ipvs-bpf:0.1.0

      Policies
        NAME  MODE     READY  REASON         NODES  DONE  WAITING  FAILED  SERVICES  REJECTED
        shop  Enabled  yes    AllNodesReady  2      2     0        0       2         1

      Versions (nodes)
        agents      0.1.0 (2)
        kernels     6.1.0-1-amd64 (2)
        ip_vs       Patched ABC (2)
        kube-proxy  ipvs v1.34.2 (2)

      Ready.
      "
    `);
    expect(summarizeCluster(objects(), []).ready).toBe(true);
  });

  it('in the middle of a rollout', () => {
    const policies = [
      readyPolicy('shop', {
        nodes: { selected: 2, ready: 1, waiting: 1, failed: 0 },
        waitingNodes: [{ node: 'n2', reason: 'WaitingForCanary', message: 'The canaries go first: n1.' }],
        conditions: [readyCondition('False', 'RollingOut', '1 of 2 nodes ready.')],
      }),
    ];
    expect(text({ policies })).toMatchInlineSnapshot(`
      "
      Operator  ipvs-bpf/ipvs-bpf-operator  2 of 2 ready  registry.example/ipvs-bpf:0.1.0
      Agents    ipvs-bpf/ipvs-bpf-agent     2 of 2 ready  registry.example/ipvs-bpf:0.1.0

      Policies
        NAME  MODE     READY  REASON      NODES  DONE  WAITING  FAILED  SERVICES  REJECTED
        shop  Enabled  no     RollingOut  2      1     1        0       2         1

      Versions (nodes)
        agents      0.1.0 (2)
        kernels     6.1.0-1-amd64 (2)
        ip_vs       Patched ABC (2)
        kube-proxy  ipvs v1.34.2 (2)

      Errors
        Policy shop: RollingOut: 1 of 2 nodes ready.
        What to do: docs/reference.md#conditions-of-an-ipvsbpfpolicy

      Waiting
        Node n2: WaitingForCanary: The canaries go first: n1.
        What to do: docs/reference.md#waiting-nodes

      Not ready: Policy shop: RollingOut
      "
    `);
  });

  it('when a node has failed', () => {
    const policies = [
      readyPolicy('shop', {
        nodes: { selected: 2, ready: 1, waiting: 0, failed: 1 },
        problemNodes: [
          { node: 'n2', reason: 'RolledBack', message: 'ModuleInUse: ip_vs is in use by xt_ipvs.' },
        ],
        conditions: [readyCondition('False', 'RolloutHalted', 'More than 0 nodes failed.')],
      }),
      readyPolicy('edge'),
    ];
    expect(text({ policies })).toMatchInlineSnapshot(`
      "
      Operator  ipvs-bpf/ipvs-bpf-operator  2 of 2 ready  registry.example/ipvs-bpf:0.1.0
      Agents    ipvs-bpf/ipvs-bpf-agent     2 of 2 ready  registry.example/ipvs-bpf:0.1.0

      Policies
        NAME  MODE     READY  REASON         NODES  DONE  WAITING  FAILED  SERVICES  REJECTED
        shop  Enabled  no     RolloutHalted  2      1     0        1       2         1
        edge  Enabled  yes    AllNodesReady  2      2     0        0       2         1

      Versions (nodes)
        agents      0.1.0 (2)
        kernels     6.1.0-1-amd64 (2)
        ip_vs       Patched ABC (2)
        kube-proxy  ipvs v1.34.2 (2)

      Errors
        Policy shop: RolloutHalted: More than 0 nodes failed.
        Node n2: RolledBack: ModuleInUse: ip_vs is in use by xt_ipvs.
        What to do: docs/reference.md#conditions-of-an-ipvsbpfpolicy, docs/reference.md#problem-nodes

      Not ready: Policy shop: RolloutHalted
      "
    `);
  });

  it('with all that is only to be known', () => {
    const policies = [
      readyPolicy('shop', {
        rejectedServices: [{ namespace: 'a', name: 'h', reason: 'Headless', message: 'It has no address.' }],
        serviceCaveats: [{ namespace: 'a', name: 'web', reason: 'SelfAccessTranslated' }],
        problemNodes: [{ node: 'n1', reason: 'ServiceOff', message: 'a/api: no answer' }],
        conditions: [
          readyCondition('True', 'AllNodesReady', ''),
          { ...readyCondition('True', 'Deprecated', 'Mode ipvs is deprecated.'), type: 'ProxyModeSupported' },
        ],
      }),
    ];
    const preflight = [
      { check: 'Root', result: 'Pass' as const },
      { check: 'ForeignPrograms', result: 'Warn' as const, message: 'others are attached' },
    ];
    const nodes = [readyNode('n1', 'shop', { preflight }), readyNode('n2', 'shop')];
    expect(text({ policies, nodes })).toMatchInlineSnapshot(`
      "
      Operator  ipvs-bpf/ipvs-bpf-operator  2 of 2 ready  registry.example/ipvs-bpf:0.1.0
      Agents    ipvs-bpf/ipvs-bpf-agent     2 of 2 ready  registry.example/ipvs-bpf:0.1.0

      Policies
        NAME  MODE     READY  REASON         NODES  DONE  WAITING  FAILED  SERVICES  REJECTED
        shop  Enabled  yes    AllNodesReady  2      2     0        0       2         1

      Versions (nodes)
        agents      0.1.0 (2)
        kernels     6.1.0-1-amd64 (2)
        ip_vs       Patched ABC (2)
        kube-proxy  ipvs v1.34.2 (2)

      Warnings
        Node n1: ServiceOff: a/api: no answer
        Policy shop: Deprecated: Mode ipvs is deprecated.
        Service a/h: Headless: It has no address.
        Service a/web: SelfAccessTranslated
        Node n1: ForeignPrograms: others are attached
        What to do: docs/reference.md#problem-nodes, docs/reference.md#proxymodesupported, docs/reference.md#rejected-services, docs/reference.md#caveats-of-services, docs/reference.md#checks-of-nodes

      Ready.
      "
    `);
    const summary = summarizeCluster(objects({ policies, nodes }), []);
    expect(summary).toMatchObject({ ready: true, errors: [] });
    expect(text({ policies, nodes }, [], true)).not.toContain('Warnings');
  });

  it('without the chart', () => {
    const nothing = { operators: [], agents: [], policies: undefined, nodes: [] };
    expect(text(nothing)).toMatchInlineSnapshot(`
      "
      Operator  not there
      Agents    not there

      Errors
        Cluster: NotInstalled: The API server knows no IpvsBpfPolicy: install the chart.
        What to do: README.md#use-it-on-a-cluster

      Not ready: Cluster: NotInstalled
      "
    `);
    expect(text(nothing)).not.toContain('Ready.');
  });

  it('with the chart and without a policy', () => {
    expect(text({ agents: [], policies: [], nodes: [] })).toContain('There is no policy');
    expect(summarizeCluster(objects({ agents: [], policies: [], nodes: [] }), []).ready).toBe(true);
  });
});

describe('a cluster is not ready', () => {
  const reasonsOf = (change: Partial<ClusterObjects>, named: readonly string[] = []) => {
    const { ready, errors } = summarizeCluster(objects(change), named);
    return [ready, ...errors.map(({ about, reason }) => `${about} ${reason}`)];
  };

  it('while the operator is rolled out', () => {
    expect(reasonsOf({ operators: [operatorDeployment({ updatedReplicas: 1 })] })).toEqual([
      false,
      'Operator NotRolledOut',
    ]);
    expect(reasonsOf({ operators: [operatorDeployment({ observedGeneration: 0 })] })).toEqual([
      false,
      'Operator NotRolledOut',
    ]);
  });

  it('while the operator is scaled to nothing', () => {
    const operator = operatorDeployment({ readyReplicas: 0, updatedReplicas: 0 });
    expect(reasonsOf({ operators: [{ ...operator, spec: { replicas: 0 } }] })).toEqual([
      false,
      'Operator NotRolledOut',
    ]);
  });

  it('while an agent is not ready, or there is none for a policy', () => {
    expect(reasonsOf({ agents: [agentDaemonSet({ numberReady: 1 })] })).toEqual([
      false,
      'Agents NotRolledOut',
    ]);
    expect(reasonsOf({ agents: [] })).toEqual([false, 'Agents NotInstalled']);
  });

  it('while the newest edit was not looked at', () => {
    const [policy] = [readyPolicy('shop')];
    const metadata = { ...policy.metadata, generation: 2 };
    expect(reasonsOf({ policies: [{ ...policy, metadata }] })).toEqual([false, 'Policy shop Reconciling']);
  });

  it('if a policy that is named is not there, and for no other policy than those that are named', () => {
    const broken = readyPolicy('edge', { conditions: [readyCondition('False', 'NoMatchingNodes', 'None.')] });
    const policies = [readyPolicy('shop'), broken];
    expect(reasonsOf({ policies }, ['shop'])).toEqual([true]);
    expect(reasonsOf({ policies }, ['shop', 'nobody'])).toEqual([false, 'Policy nobody NotFound']);
    expect(reasonsOf({ policies })).toEqual([false, 'Policy edge NoMatchingNodes']);
  });

  it('with two of the chart', () => {
    const second = operatorDeployment();
    const metadata = { ...second.metadata, namespace: 'other' };
    expect(reasonsOf({ operators: [operatorDeployment(), { ...second, metadata }] })).toEqual([
      false,
      'Deployment InstalledTwice',
    ]);
  });
});

it('of many findings the text has some, and says how many it left out', () => {
  const rejectedServices = Array.from({ length: 25 }, (_, at) => ({
    namespace: 'a',
    name: `s${at}`,
    reason: 'Headless',
  }));
  const shown = text({ policies: [readyPolicy('shop', { rejectedServices })] });
  expect(shown).toContain('a/s19');
  expect(shown).not.toContain('a/s20');
  expect(shown).toContain('and 5 more');
});
