// SPDX-License-Identifier: Apache-2.0
/** Every reason that the operator's planning gives comes out of a cluster that it fits. */
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode, IpvsBpfPolicy } from '../../../../src/api/generated/resource-types.ts';
import type { NodeResourceStatus, PolicySpec } from '../../../../src/api/resources.ts';
import type { AgentFacts, ClusterPod } from '../../../../src/core/cluster-facts.ts';
import { deliveredPath, deliveryPodName } from '../../../../src/core/module-delivery.ts';
import {
  EVENT_REASONS,
  type EventReason,
  NODE_CONDITIONS,
  type NodeReason,
  POLICY_CONDITIONS,
  type PolicyConditionType,
  type PolicyReason,
  PROBLEM_REASONS,
  type ProblemReason,
  WAITING_REASONS,
  type WaitingReason,
} from '../../../../src/core/reasons.ts';
import { casesOf, conditionCases, LOOP_EVENTS, type LoopEvent, without } from '../../cases.ts';
import { condition, NOW, policy, policySpec } from './builders.ts';
import { bad, good, World } from './world.ts';

/** Brings a cluster to where its policy "p", or an Event, says what is to be tested. */
type Case = () => World;
type Agent = (object: IpvsBpfNode) => NodeResourceStatus;
type ModuleFile = NonNullable<NonNullable<NodeResourceStatus['module']>['file']>['state'];

const NO_SERVICES: Partial<PolicySpec> = {
  services: { include: [], exclude: [], filtering: 'Respect' },
};
const UNMAPPED: Partial<PolicySpec> = {
  module: {
    activation: 'Live',
    kernelMappings: [{ literal: 'x', path: '/x' }],
    imagePullSecrets: [],
    unsupportedKernel: 'Fail',
  },
};
const rolloutOf = (change: Partial<PolicySpec['rollout']>) => ({
  rollout: { ...policySpec().rollout, ...change },
});

/** The agents of a cluster with one policy behave like this until nothing changes any more. */
function settled(change: Partial<PolicySpec> = {}, agent?: Agent, nodes: readonly string[] = ['n1']): World {
  const world = new World([policy('p', change)], nodes);
  world.settle(agent ?? good(world));
  return world;
}

/** The canary was ready a day ago. */
const soaking = (): World => twoNodes(rolloutOf({ soakSeconds: 100_000 }));
const twoNodes = (change: Partial<PolicySpec> = {}): World => settled(change, undefined, ['n1', 'n2']);

function firstVisit(): World {
  const world = new World([policy('p', {}, { finalizers: [] })], ['n1']);
  world.plan();
  return world;
}

/** Nothing has reported yet. */
function made(nodes: readonly string[] = ['n1'], change: Partial<PolicySpec> = {}): World {
  const world = new World([policy('p', change)], nodes);
  world.plan();
  world.plan();
  return world;
}

/** An agent for which all goes well, with something more to say. */
function saying(more: NodeResourceStatus, change: Partial<PolicySpec> = {}): World {
  const world = new World([policy('p', change)], ['n1']);
  const fine = good(world);
  world.settle((object) => {
    const status = fine(object);
    const types = new Set(more.conditions?.map(({ type }) => type));
    const conditions = status.conditions?.filter(({ type }) => !types.has(type)) ?? [];
    return { ...status, ...more, conditions: [...conditions, ...(more.conditions ?? [])] };
  });
  return world;
}

/** A node that works on without one of its Services. */
function serviceOff(): World {
  const world = new World([policy('p')], ['n1']);
  const fine = good(world);
  world.settle((object) => {
    const { revision } = object.spec;
    return {
      ...fine(object),
      lastFailure: { rung: 'ServiceOff', rollback: 'Succeeded', revision, message: '' },
    };
  });
  return world;
}

const proxy = (mode: string, version?: string): World =>
  saying({ kubeProxy: { mode, ...(version === undefined ? {} : { version }) } });

const checksFail = (): World =>
  saying({ conditions: [condition('PreflightPassed', 'False'), condition('Ready', 'False')] });

const failing = (rollback: 'Failed' | 'Succeeded' | 'NotNeeded'): World =>
  settled({}, (object) => {
    const status = bad(object);
    const { lastFailure } = status;
    return lastFailure === undefined ? status : { ...status, lastFailure: { ...lastFailure, rollback } };
  });

function agents(world: World, change: AgentFacts): World {
  world.state = { ...world.state, agents: { ...world.state.agents, n1: change } };
  world.plan();
  return world;
}

/** Node n1 is not Ready; its agent does what it is asked. */
function sickNode(nodes: readonly string[], change: Partial<PolicySpec> = {}): World {
  const world = new World([policy('p', change)], nodes);
  const [n1, ...others] = world.state.nodes;
  if (n1 === undefined) throw new Error('no node');
  const sick = { ...n1, status: { ...n1.status, conditions: [{ type: 'Ready', status: 'False' }] } };
  world.state = { ...world.state, nodes: [sick, ...others] };
  world.settle(good(world));
  return world;
}

function edited(world: World, change: (each: IpvsBpfPolicy) => IpvsBpfPolicy): World {
  world.state = { ...world.state, policies: world.state.policies.map(change) };
  return world;
}

function deleted(): World {
  const deletionTimestamp = '2026-01-01T00:00:00Z';
  const world = edited(settled(), (each) => ({ ...each, metadata: { ...each.metadata, deletionTimestamp } }));
  world.settle(good(world));
  return world;
}

function deselected(): World {
  const world = settled();
  world.edit('p', { nodeSelector: { matchLabels: { other: 'nodes' } } });
  world.settle(good(world));
  return world;
}

/** The node has its permission, and its agent is not heard of any more. */
function timedOut(): World {
  const world = made();
  world.report(good(world));
  world.plan();
  world.after(2_000);
  world.plan();
  return world;
}

const conflict = (): World => {
  const younger = policy('p', {}, { creationTimestamp: '2025-06-01T00:00:00Z' });
  const world = new World([younger, policy('older')], ['n1']);
  world.settle(good(world));
  return world;
};

const silent = (): World => agents(settled(), { renewedAt: NOW, pod: true });

const CONDITIONS: { readonly [T in PolicyConditionType]: Readonly<Record<PolicyReason<T>, Case>> } = {
  Ready: {
    AllNodesReady: settled,
    DryRunPassed: () => settled({ mode: 'DryRun' }),
    DisabledAsRequested: () => settled({ mode: 'Disabled' }),
    RollingOut: settled,
    RolloutHalted: () => settled({}, bad),
    NodesNotReady: checksFail,
    NoMatchingNodes: () => settled({ nodeSelector: { matchLabels: { x: 'y' } } }),
    NotAccepted: () => settled(NO_SERVICES),
    Reverting: deleted,
    Reconciling: firstVisit,
  },
  Accepted: {
    Accepted: settled,
    NodeSelectorConflict: conflict,
    NoServicesSelected: () => settled(NO_SERVICES),
    InvalidKernelMapping: () =>
      settled({
        module: {
          activation: 'Live',
          kernelMappings: [{ regexp: '(', path: '/x' }],
          imagePullSecrets: [],
          unsupportedKernel: 'Skip',
        },
      }),
    UnsupportedKubeProxyMode: () => proxy('nftables'),
    Reconciling: firstVisit,
  },
  Progressing: {
    RollingOut: settled,
    CanarySoaking: soaking,
    WaitingForBudget: () => sickNode(['n1', 'n2'], rolloutOf({ canary: { nodes: 0 } })),
    WaitingForNodes: made,
    Reverting: deselected,
    Complete: settled,
    Paused: () => settled(rolloutOf({ paused: true })),
    Halted: () => settled({}, bad),
    NotAccepted: () => settled(NO_SERVICES),
    Reconciling: firstVisit,
  },
  Degraded: {
    NodeFailed: () => settled(UNMAPPED),
    RolledBack: () => failing('Succeeded'),
    RollbackFailed: () => failing('Failed'),
    DriftUncorrected: () => saying({ conditions: [condition('Drifted', 'True', 'SysctlChanged')] }),
    AgentUnreachable: silent,
    AsExpected: settled,
    Reconciling: firstVisit,
  },
  ProxyModeSupported: {
    Supported: () => proxy('ipvs', 'v1.34.2'),
    Deprecated: () => proxy('ipvs', 'v1.35.0'),
    NotIpvs: () => proxy('nftables', 'v1.39.0'),
    GateDisabled: () => proxy('nftables', 'v1.40.0'),
    Removed: () => proxy('nftables', 'v1.43.0'),
    NotReported: settled,
  },
};

const WAITING: Readonly<Record<WaitingReason, Case>> = {
  NotReported: made,
  ModuleNotDelivered: undelivered,
  PreflightFailed: checksFail,
  AgentUnreachable: () => agents(made(), { pod: true }),
  NodeNotReady: () => sickNode(['n1']),
  WaitingForBoot: () =>
    saying({
      conditions: [
        condition('DisruptionPending', 'True', 'WaitingForBoot'),
        condition('Ready', 'False', 'WaitingForBoot'),
      ],
    }),
  WaitingForCanary: twoNodes,
  CanarySoaking: soaking,
  WaitingForBudget: () => twoNodes(rolloutOf({ canary: { nodes: 0 } })),
  Paused: () => settled(rolloutOf({ paused: true })),
  Halted: () => settled({}, bad, ['n1', 'n2']),
  NoServicesSelected: () => settled(NO_SERVICES),
};

const PROBLEMS: Readonly<Record<ProblemReason, Case>> = {
  NodeFailed: () => failing('NotNeeded'),
  RolledBack: () => failing('Succeeded'),
  RollbackFailed: () => failing('Failed'),
  NodeTimeout: timedOut,
  AgentUnreachable: silent,
  DriftUncorrected: () => saying({ conditions: [condition('Drifted', 'True', 'MapChanged')] }),
  ModuleNotDelivered: () => pulling('ErrImagePull'),
  PreflightFailed: checksFail,
  KernelNotMapped: () => settled(UNMAPPED),
  ServiceOff: serviceOff,
};

const EVENTS: Readonly<Record<Exclude<EventReason, LoopEvent>, Case>> = {
  Accepted: settled,
  NodeGranted: settled,
  NodeUpdated: settled,
  NodeReverted: deselected,
  CanarySoaked: twoNodes,
  RolloutComplete: settled,
  NotAccepted: () => settled(NO_SERVICES),
  NodeFailed: () => settled({}, bad),
  RolloutHalted: () => settled({}, bad),
  ProxyModeDeprecated: () => proxy('ipvs', 'v1.36.1'),
  AgentUnreachable: silent,
};

/** Whether an agent is there: what the operator writes into a node's status. */
function madeAt(age: number, agent: AgentFacts): World {
  const world = made();
  const creationTimestamp = new Date(NOW - age).toISOString();
  const nodeObjects = world.state.nodeObjects.map((each) => ({
    ...each,
    metadata: { ...each.metadata, creationTimestamp },
  }));
  world.told.clear();
  world.state = { ...world.state, nodeObjects };
  return agents(world, agent);
}

const IMAGE = 'r/ip-vs:1';
const MAPPED: Partial<PolicySpec> = {
  module: {
    activation: 'Live',
    kernelMappings: [{ regexp: '.*', image: IMAGE }],
    imagePullSecrets: [],
    unsupportedKernel: 'Skip',
  },
};
const MODULE_PATH = deliveredPath(IMAGE, '6.1.0-1-amd64');

/** A node that asks for a module from an image: its agent does not see the file yet. */
function undelivered(pod?: ClusterPod['status'], file: ModuleFile = 'Missing'): World {
  const world = new World([policy('p', MAPPED)], ['n1']);
  const name = deliveryPodName('n1', IMAGE, MODULE_PATH);
  const deliveryPods = pod === undefined ? [] : [{ metadata: { name }, status: pod }];
  world.state = { ...world.state, deliveryPods };
  world.settle((object) => ({
    ...bad(object),
    module: { file: { path: MODULE_PATH, state: file } },
    conditions: [condition('PreflightPassed', file === 'Found' ? 'True' : 'False')],
  }));
  return world;
}

const container = (state: object): ClusterPod['status'] => ({
  phase: 'Pending',
  containerStatuses: [{ state }],
});
const pulling = (reason: string): World => undelivered(container({ waiting: { reason, message: 'denied' } }));

const DELIVERED: { readonly ModuleDelivered: Readonly<Record<NodeReason<'ModuleDelivered'>, Case>> } = {
  ModuleDelivered: {
    NotRequested: settled,
    Delivering: undelivered,
    Delivered: () => undelivered(undefined, 'Found'),
    ImagePullFailed: () => pulling('ImagePullBackOff'),
    DeliveryFailed: () => undelivered(container({ terminated: { exitCode: 1, message: 'no /lib/modules' } })),
  },
};

const REACHABLE: { readonly AgentReachable: Readonly<Record<NodeReason<'AgentReachable'>, Case>> } = {
  AgentReachable: {
    LeaseFresh: settled,
    LeaseStale: silent,
    AgentPodMissing: () => madeAt(60_000, { pod: false }),
    NodeNotReady: () => agents(sickNode(['n1']), { pod: true }),
    Reconciling: () => madeAt(1_000, { pod: false }),
  },
};

describe('a policy says', () => {
  it.each(conditionCases(POLICY_CONDITIONS, CONDITIONS))('%s', (text, bring) => {
    expect([...bring().told]).toContain(text);
  });

  it.each(casesOf(WAITING_REASONS, WAITING))('that a node waits: %s', (reason, bring) => {
    expect([...bring().told]).toContain(`waitingNodes ${reason}`);
  });

  it.each(casesOf(PROBLEM_REASONS, PROBLEMS))('what is wrong with a node: %s', (reason, bring) => {
    expect([...bring().told]).toContain(`problemNodes ${reason}`);
  });
});

describe('the operator says of a node', () => {
  const { AgentReachable, ModuleDelivered } = NODE_CONDITIONS;
  it.each([
    ...conditionCases({ AgentReachable }, REACHABLE),
    ...conditionCases({ ModuleDelivered }, DELIVERED),
  ])('%s', (text, bring) => {
    expect([...bring().told]).toContain(text);
  });
});

describe('planning records', () => {
  const { Normal, Warning } = EVENT_REASONS;
  const cases = [
    ...casesOf(Normal, EVENTS).map(([reason, bring]) => [`Event Normal ${reason}`, bring] as const),
    ...casesOf(without(Warning, LOOP_EVENTS), EVENTS).map(
      ([reason, bring]) => [`Event Warning ${reason}`, bring] as const,
    ),
  ];

  it.each(cases)('%s', (text, bring) => {
    expect([...bring().told]).toContain(text);
  });
});

describe('a condition of a policy', () => {
  const conditionsOf = ({ state }: World) => state.policies[0]?.status?.conditions ?? [];

  it('has the generation that it is about, and moves its time only with its status', () => {
    const world = settled();
    const before = conditionsOf(world);
    world.after(60);
    world.edit('p', {
      services: { include: [{ namespace: 'a', name: 'web' }], exclude: [], filtering: 'Bypass' },
    });
    world.plan();
    expect(conditionsOf(world)).toEqual(before.map((each) => ({ ...each, observedGeneration: 2 })));
    world.after(60);
    world.edit('p', rolloutOf({ paused: true }));
    world.edit('p', NO_SERVICES);
    world.plan();
    const after = conditionsOf(world);
    expect(after.every(({ observedGeneration }) => observedGeneration === 4)).toBe(true);
    const moved = after.filter(
      ({ lastTransitionTime }, i) => lastTransitionTime !== before[i]?.lastTransitionTime,
    );
    const changed = after.filter(({ status }, i) => status !== before[i]?.status);
    expect(moved).toEqual(changed);
    expect(changed.map(({ type }) => type)).toEqual(['Ready', 'Accepted']);
  });
});
