// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode } from '../../../../src/api/generated/resource-types.ts';
import type { NodeResourceStatus, PolicySpec } from '../../../../src/api/resources.ts';
import { conditionOf, isReady } from '../../../../src/core/conditions.ts';
import { deliveredPath } from '../../../../src/core/module-delivery.ts';
import { moduleFor } from '../../../../src/core/policy-nodes.ts';
import { NOW, policy, policySpec, service } from './builders.ts';
import { bad, good, World } from './world.ts';

describe('a policy', () => {
  it('has every condition from the first visit on, before anything is done', () => {
    const world = new World([policy('p', {}, { finalizers: [] })], ['n1']);
    const steps = world.plan();
    expect(steps.map(({ kind }) => kind)).toEqual(['addFinalizer', 'applyPolicyStatus']);
    expect(world.conditions('p')).toMatchObject({
      Ready: 'Unknown Reconciling',
      Degraded: 'Unknown Reconciling',
    });
  });

  it('rolls out to every node, and then has nothing to do', () => {
    const world = new World([policy('p')], ['n1', 'n2', 'n3']);
    world.settle(good(world));
    expect(world.conditions('p')).toEqual({
      Ready: 'True AllNodesReady',
      Accepted: 'True Accepted',
      Progressing: 'False Complete',
      Degraded: 'False AsExpected',
      ProxyModeSupported: 'Unknown NotReported',
    });
    expect(world.plan()).toEqual([]);
    expect(world.state.policies[0]?.status?.nodes).toMatchObject({
      selected: 3,
      ready: 3,
      updated: 3,
      failed: 0,
    });
  });

  it('is not ready right after an edit of the whitelist, and no node is disrupted', () => {
    const world = new World([policy('p')], ['n1']);
    world.state = {
      ...world.state,
      services: [service('a', 'web'), service('a', 'db', { clusterIP: '10.96.0.2' })],
    };
    world.settle(good(world));
    const include = [{ namespace: 'a', name: 'db' }];
    world.edit('p', { services: { include, exclude: [], filtering: 'Respect' } });
    expect(world.state.policies.some(isReady)).toBe(false);
    expect(world.plan().map(({ kind }) => kind)).toEqual(['applySlice', 'applyPolicyStatus']);
    expect(world.state.policies.some(isReady)).toBe(false);
    world.settle(good(world));
    expect(world.state.policies.some(isReady)).toBe(true);
  });

  it('halts when a node fails, says so, and tries again when asked to', () => {
    const world = new World([policy('p')], ['n1', 'n2']);
    world.settle(bad);
    expect(world.conditions('p')).toMatchObject({
      Ready: 'False RolloutHalted',
      Progressing: 'False Halted',
      Degraded: 'True RolledBack',
    });
    expect(world.state.policies[0]?.status).toMatchObject({
      problemNodes: [{ node: 'n1', reason: 'RolledBack' }],
      waitingNodes: [{ node: 'n2', reason: 'Halted' }],
    });
    const policies = world.state.policies.map((each) => ({
      ...each,
      metadata: { ...each.metadata, annotations: { 'ipvs-bpf.io/retry': '1' } },
    }));
    world.state = { ...world.state, policies };
    world.settle(good(world));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('stays ready with a Service that a node took off, says so, and tries again when asked to', () => {
    const world = new World([policy('p')], ['n1']);
    const lastFailure = {
      rung: 'ServiceOff',
      rollback: 'Succeeded',
      message: 'Service a/web: gone',
    } as const;
    const withoutWeb = (object: IpvsBpfNode): NodeResourceStatus => ({
      ...good(world)(object),
      lastFailure: { ...lastFailure, revision: object.spec.revision },
    });
    world.settle(withoutWeb);
    expect(world.conditions('p')).toMatchObject({
      Ready: 'True AllNodesReady',
      Degraded: 'False AsExpected',
    });
    expect(world.state.policies[0]?.status).toMatchObject({
      nodes: { ready: 1, failed: 0 },
      problemNodes: [{ node: 'n1', reason: 'ServiceOff', message: 'Service a/web: gone' }],
    });
    expect(world.state.nodeObjects[0]?.spec.attempt).toBe(1);
    const policies = world.state.policies.map((each) => ({
      ...each,
      metadata: { ...each.metadata, annotations: { 'ipvs-bpf.io/retry': '1' } },
    }));
    world.state = { ...world.state, policies };
    world.plan();
    expect(world.state.nodeObjects[0]?.spec.attempt).toBe(2);
    expect(world.conditions('p').Ready).toBe('False RollingOut');
    world.settle(good(world));
    expect(world.state.policies[0]?.status?.problemNodes).toEqual([]);
    expect(world.state.nodeObjects[0]?.spec.attempt).toBe(2);
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('believes nothing that a node said before it rebooted, and disrupts no other meanwhile', () => {
    const world = new World([policy('p')], ['n1', 'n2']);
    const booted = (bootID: string) => {
      const nodes = world.state.nodes.map((each) => {
        if (each.metadata.name !== 'n2') return each;
        const nodeInfo = { kernelVersion: '6.1.0-1-amd64', ...each.status?.nodeInfo, bootID };
        return { ...each, status: { ...each.status, nodeInfo } };
      });
      world.state = { ...world.state, nodes };
    };
    const reportOf = (bootID: string) => (object: IpvsBpfNode) => ({ ...good(world)(object), bootID });
    booted('first');
    world.settle(reportOf('first'));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
    booted('second');
    world.plan();
    expect(world.conditions('p').Ready).toBe('False RollingOut');
    world.edit('p', { datapath: { ...policySpec().datapath, sessionMapMaxEntries: 4096 } });
    const granted = () => world.state.nodeObjects.filter(({ spec }) => spec.disruptionGrant !== undefined);
    for (let round = 0; round < 5; round += 1) {
      world.plan();
      world.report((object) => ({ ...object.status, bootID: 'first' }));
      world.after(100);
    }
    expect(granted()).toEqual([]);
    world.settle(reportOf('second'));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('puts every node back when it is deleted, one after the other, and goes', () => {
    const world = new World([policy('p')], ['n1', 'n2']);
    world.settle(good(world));
    const deletionTimestamp = '2026-01-01T00:00:00Z';
    const policies = world.state.policies.map((each) => ({
      ...each,
      metadata: { ...each.metadata, deletionTimestamp },
    }));
    world.state = { ...world.state, policies };
    world.plan();
    expect(world.conditions('p').Ready).toBe('False Reverting');
    expect(world.state.nodeObjects.map(({ spec }) => spec.action)).toEqual(['Revert', 'Revert']);
    world.report(good(world));
    world.plan();
    expect(world.state.nodeObjects.filter(({ spec }) => spec.disruptionGrant !== undefined)).toHaveLength(1);
    world.settle(good(world));
    expect(world.state).toMatchObject({ policies: [], nodeObjects: [], slices: [] });
  });

  it('forgets a node that is gone from the cluster, whatever it was last', () => {
    for (const second of [good, () => bad]) {
      const world = new World([policy('p', { failurePolicy: { maxFailedNodes: 1 } })], ['n1', 'n2']);
      world.settle((object) => (object.metadata.name === 'n2' ? second : good)(world)(object));
      const { n2: _, ...agents } = world.state.agents;
      world.state = { ...world.state, agents, nodes: world.state.nodes.slice(0, 1) };
      world.settle(good(world));
      expect(world.state.nodeObjects.map(({ metadata }) => metadata.name)).toEqual(['n1']);
      expect(world.state.policies[0]?.status?.nodes).toMatchObject({ selected: 1, ready: 1, failed: 0 });
      expect(world.conditions('p')).toMatchObject({
        Ready: 'True AllNodesReady',
        Degraded: 'False AsExpected',
      });
    }
  });

  it('goes without a node that is gone before it was put back', () => {
    const world = new World([policy('p')], ['n1']);
    world.settle(good(world));
    const [each] = world.state.policies;
    const deletionTimestamp = '2026-01-01T00:00:00Z';
    if (each === undefined) throw new Error('there is no policy');
    const policies = [{ ...each, metadata: { ...each.metadata, deletionTimestamp } }];
    world.state = { ...world.state, policies, agents: {} };
    world.plan();
    // It may come back: nobody else would put it back then.
    expect(world.state.nodeObjects.map(({ spec }) => spec.action)).toEqual(['Revert']);
    world.state = { ...world.state, nodes: [] };
    world.plan();
    expect(world.state).toMatchObject({ policies: [], nodeObjects: [], slices: [] });
  });

  it('writes nothing more about a node whose object it deletes', () => {
    const world = new World([policy('p', { mode: 'DryRun' })], ['n1']);
    world.settle(good(world));
    world.edit('p', { nodeSelector: { matchLabels: { pool: 'other' } } });
    world.state = { ...world.state, agents: { n1: { pod: false } } };
    const about = world.plan().filter((step) => 'name' in step && step.name === 'n1');
    expect(about.map(({ kind }) => kind)).toEqual(['deleteNode']);
  });

  it('only looks in mode DryRun, and turns off in mode Disabled', () => {
    const world = new World([policy('p', { mode: 'DryRun' })], ['n1']);
    world.settle(good(world));
    expect(world.state.nodeObjects[0]?.spec.action).toBe('Observe');
    expect(world.conditions('p').Ready).toBe('True DryRunPassed');
    world.edit('p', { mode: 'Disabled' });
    world.settle(good(world));
    expect(world.state.nodeObjects[0]?.spec).toMatchObject({ action: 'Apply', mode: 'Disabled' });
    expect(world.conditions('p').Ready).toBe('True DisabledAsRequested');
  });

  it('leaves a node to the older policy', () => {
    const younger = policy('a-younger', {}, { creationTimestamp: '2025-06-01T00:00:00Z' });
    const world = new World([younger, policy('older')], ['n1']);
    world.settle(good(world));
    expect(world.state.nodeObjects[0]?.spec.policyRef.name).toBe('older');
    expect(world.conditions('a-younger')).toMatchObject({
      Accepted: 'False NodeSelectorConflict',
      Ready: 'False NotAccepted',
    });
    expect(world.conditions('older').Ready).toBe('True AllNodesReady');
  });

  it.each<[string, Partial<PolicySpec>, string]>([
    ['selects no node', { nodeSelector: { matchLabels: { x: 'y' } } }, 'False NoMatchingNodes'],
    [
      'selects no Service',
      { services: { include: [], exclude: [], filtering: 'Respect' } },
      'False NotAccepted',
    ],
    [
      'has a regular expression that is none',
      {
        module: {
          activation: 'Live',
          kernelMappings: [{ regexp: '(', path: '/x' }],
          imagePullSecrets: [],
          unsupportedKernel: 'Skip',
        },
      },
      'False NotAccepted',
    ],
    [
      'has no module for a kernel',
      {
        module: {
          activation: 'Live',
          kernelMappings: [{ literal: 'x', path: '/x' }],
          imagePullSecrets: [],
          unsupportedKernel: 'Fail',
        },
      },
      'False RolloutHalted',
    ],
  ])('that %s is not ready', (_, change, expected) => {
    const world = new World([policy('p', change)], ['n1']);
    world.settle(good(world));
    expect(world.conditions('p').Ready).toBe(expected);
  });

  it('says when an agent is silent', () => {
    const world = new World([policy('p')], ['n1']);
    world.settle(good(world));
    world.state = { ...world.state, agents: { n1: { renewedAt: NOW, pod: true } } };
    world.plan();
    expect(world.conditions('p').Degraded).toBe('True AgentUnreachable');
    const reachable = conditionOf(
      world.state.nodeObjects[0]?.status?.conditions?.toReversed(),
      'AgentReachable',
    );
    expect(reachable?.reason).toBe('LeaseStale');
  });
});

describe('kernel mappings', () => {
  const kernelMappings = [
    { literal: '6.1.0-1-amd64', path: '/a' },
    { regexp: '6\\.1\\..*', path: '/m/$' + '{KERNEL_FULL_VERSION}/ip_vs.ko' },
    { regexp: '6\\.12\\..*', image: 'r/ip-vs:$' + '{KERNEL_FULL_VERSION}' },
  ];

  it.each([
    ['6.1.0-1-amd64', { ok: true, path: '/a' }],
    ['6.1.9', { ok: true, path: '/m/6.1.9/ip_vs.ko' }],
    ['16.1.9', { ok: false }],
    [
      '6.12.3+a1',
      { ok: true, image: 'r/ip-vs:6.12.3_a1', path: deliveredPath('r/ip-vs:6.12.3_a1', '6.12.3+a1') },
    ],
  ])('%s', (release, expected) => {
    expect(
      moduleFor(
        { activation: 'Live', kernelMappings, imagePullSecrets: [], unsupportedKernel: 'Skip' },
        release,
      ),
    ).toEqual(expected);
  });
});
