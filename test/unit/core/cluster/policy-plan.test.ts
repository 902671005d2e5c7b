// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode, IpvsBpfPolicy } from '../../../../src/api/generated/resource-types.ts';
import { NATIVE_REVISION, type NodeResourceStatus, type PolicySpec } from '../../../../src/api/resources.ts';
import type { ClusterFacts } from '../../../../src/core/cluster-facts.ts';
import type { ClusterStep } from '../../../../src/core/cluster-steps.ts';
import { conditionOf, isReady } from '../../../../src/core/conditions.ts';
import { whitelistRevision } from '../../../../src/core/node-spec.ts';
import { moduleFor } from '../../../../src/core/policy-nodes.ts';
import { planCluster } from '../../../../src/core/policy-plan.ts';
import { condition, facts, NOW, node, nodeObject, policy, service } from './builders.ts';

/** A cluster in which everything that is planned is done at once, and agents do what they are asked. */
class World {
  state: ClusterFacts;

  constructor(policies: readonly IpvsBpfPolicy[], nodes: readonly string[]) {
    this.state = facts({ policies, nodes: nodes.map((name) => node(name)) });
  }

  plan(): readonly ClusterStep[] {
    const { steps } = planCluster(this.state);
    for (const step of steps) this.state = written(this.state, step);
    return steps;
  }

  /** The agents answer for the specs that are there. */
  report(status: (object: IpvsBpfNode) => NodeResourceStatus): void {
    const nodeObjects = this.state.nodeObjects.map((object) => {
      const conditions = [
        ...(status(object).conditions ?? []),
        ...(object.status?.conditions ?? []).filter(({ type }) => type === 'AgentReachable'),
      ];
      const observedGeneration = object.metadata.generation ?? 0;
      return { ...object, status: { ...status(object), observedGeneration, conditions } };
    });
    this.state = { ...this.state, nodeObjects };
  }

  after(seconds: number): void {
    const now = this.state.now + seconds * 1000;
    const agents = Object.fromEntries(
      Object.entries(this.state.agents).map(([name, agent]) => [name, { ...agent, renewedAt: now }]),
    );
    this.state = { ...this.state, now, agents };
  }

  edit(name: string, change: Partial<PolicySpec>): void {
    const policies = this.state.policies.map((each) =>
      each.metadata.name === name
        ? {
            ...each,
            metadata: { ...each.metadata, generation: (each.metadata.generation ?? 0) + 1 },
            spec: { ...each.spec, ...change },
          }
        : each,
    );
    this.state = { ...this.state, policies };
  }

  /** type=status reason of a policy's conditions */
  conditions(name: string): Record<string, string> {
    const found = this.state.policies.find(({ metadata }) => metadata.name === name);
    return Object.fromEntries(
      (found?.status?.conditions ?? []).map(({ type, status, reason }) => [type, `${status} ${reason}`]),
    );
  }

  settle(status: (object: IpvsBpfNode) => NodeResourceStatus): void {
    for (let round = 0; round < 30; round += 1) {
      this.plan();
      this.report(status);
      this.after(100);
    }
    this.plan();
  }
}

function written(state: ClusterFacts, step: ClusterStep): ClusterFacts {
  switch (step.kind) {
    case 'applyPolicyStatus':
    case 'addFinalizer': {
      const policies = state.policies.map((each) => {
        if (each.metadata.name !== step.policy.metadata.name) return each;
        if (step.kind === 'applyPolicyStatus') return { ...each, status: step.status };
        return { ...each, metadata: { ...each.metadata, finalizers: ['ipvs-bpf.io/revert-nodes'] } };
      });
      return { ...state, policies };
    }
    case 'applyNode': {
      const old = state.nodeObjects.find(({ metadata }) => metadata.name === step.name);
      const made = nodeObject(step.name, step.spec);
      const generation = (old?.metadata.generation ?? 0) + 1;
      const metadata = { ...made.metadata, generation, annotations: step.annotations };
      const next = { ...made, metadata, status: old?.status ?? {} };
      return { ...state, nodeObjects: [...state.nodeObjects.filter((each) => each !== old), next] };
    }
    case 'deleteNode':
      return {
        ...state,
        nodeObjects: state.nodeObjects.filter(({ metadata }) => metadata.name !== step.name),
      };
    case 'applySlice': {
      const rest = state.slices.filter(({ metadata }) => metadata.name !== step.name);
      const slice = {
        apiVersion: 'ipvs-bpf.io/v1alpha1' as const,
        kind: 'IpvsBpfServiceSlice' as const,
        metadata: { name: step.name },
        spec: step.spec,
      };
      return { ...state, slices: [...rest, slice] };
    }
    case 'deleteSlice':
      return { ...state, slices: state.slices.filter(({ metadata }) => metadata.name !== step.name) };
    case 'applyNodeCondition': {
      const nodeObjects = state.nodeObjects.map((each) =>
        each.metadata.name === step.name
          ? {
              ...each,
              status: {
                ...each.status,
                conditions: [
                  ...(each.status?.conditions ?? []).filter(({ type }) => type !== step.condition.type),
                  step.condition,
                ],
              },
            }
          : each,
      );
      return { ...state, nodeObjects };
    }
    case 'removeFinalizer':
      return {
        ...state,
        policies: state.policies.filter(({ metadata }) => metadata.name !== step.policy.metadata.name),
      };
    case 'recordEvent':
      return state;
  }
}

/** An agent for which everything goes well. */
const good =
  (world: World) =>
  ({ spec, status }: IpvsBpfNode): NodeResourceStatus => {
    const before = status?.appliedRevision ?? NATIVE_REVISION;
    const appliedRevision = spec.disruptionGrant === undefined ? before : spec.revision;
    const reached =
      spec.action === 'Observe' || spec.mode === 'Disabled' || appliedRevision === spec.revision;
    return {
      appliedRevision,
      attempt: appliedRevision === spec.revision ? (spec.attempt ?? 0) : 0,
      services: {
        revision: whitelistRevision(
          world.state.slices
            .filter((slice) => slice.spec.policyRef.name === spec.policyRef.name)
            .flatMap((slice) => slice.spec.services),
        ),
      },
      conditions: [condition('PreflightPassed', 'True'), condition('Ready', reached ? 'True' : 'False')],
    };
  };

/** An agent that fails and goes back. */
const bad = ({ spec, status }: IpvsBpfNode): NodeResourceStatus => {
  const tried = spec.disruptionGrant !== undefined || status?.lastFailure?.revision === spec.revision;
  return {
    appliedRevision: NATIVE_REVISION,
    attempt: tried ? (spec.attempt ?? 0) : 0,
    ...(tried
      ? {
          lastFailure: {
            revision: spec.revision,
            reason: 'InsertFailed',
            message: 'no',
            rollback: 'Succeeded',
          },
        }
      : {}),
    conditions: [condition('PreflightPassed', 'True'), condition('Ready', 'False')],
  };
};

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
      { module: { kernelMappings: [{ regexp: '(', path: '/x' }], unsupportedKernel: 'Skip' } },
      'False NotAccepted',
    ],
    [
      'has no module for a kernel',
      { module: { kernelMappings: [{ literal: 'x', path: '/x' }], unsupportedKernel: 'Fail' } },
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
  ];

  it.each([
    ['6.1.0-1-amd64', { ok: true, path: '/a' }],
    ['6.1.9', { ok: true, path: '/m/6.1.9/ip_vs.ko' }],
    ['16.1.9', { ok: false }],
  ])('%s', (release, expected) => {
    expect(moduleFor({ kernelMappings, unsupportedKernel: 'Skip' }, release)).toEqual(expected);
  });
});
