// SPDX-License-Identifier: Apache-2.0
/** Clocks that jump: the operator's, which gives grants, and the agents', which take them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { conditionOf } from '../../../../src/core/conditions.ts';
import { LEASE_STALE_MS } from '../../../../src/core/policy-nodes.ts';
import { type Grant, planRollout, type RolloutNode } from '../../../../src/core/rollout.ts';
import { NOW, policy, policySpec } from './builders.ts';
import { good, World } from './world.ts';

const HOUR = 3_600_000;
const NODES = 4;
const TARGET = 'r1';

/** A spec of a node, as the API server has it or as the agent has read it. */
interface Spec {
  readonly generation: number;
  readonly grant: Grant | undefined;
}

interface SimulatedNode {
  readonly name: string;
  readonly spec: Spec;
  /** What the agent has read last: it goes by this. */
  readonly read: Spec;
  /** The agent's clock runs so many milliseconds ahead. */
  readonly ahead: number;
  readonly reachable: boolean;
  readonly checksPass: boolean;
  readonly state: 'Native' | 'Busy' | 'Applied' | 'Failed' | 'Stuck';
  readonly readySince: number | undefined;
}

type Act =
  | 'read'
  | 'start'
  | 'succeed'
  | 'fail'
  | 'getStuck'
  | 'vanish'
  | 'appear'
  | 'breakChecks'
  | 'mendChecks';

/** A rollout of which each clock shows what it wants. `real` is the time that passes. */
class Rollout {
  nodes: readonly SimulatedNode[];
  real = NOW;
  /** The operator's clock runs so many milliseconds ahead. */
  ahead = 0;
  readonly maxUnavailable: number;
  readonly maxFailedNodes: number;
  readonly canaries: number;
  #recorded: { readonly canaryNodes: readonly string[]; readonly soakedAt: number | undefined } = {
    canaryNodes: [],
    soakedAt: undefined,
  };

  constructor(maxUnavailable: number, maxFailedNodes: number, canaries: number) {
    this.maxUnavailable = maxUnavailable;
    this.maxFailedNodes = maxFailedNodes;
    this.canaries = canaries;
    const spec = { generation: 1, grant: undefined };
    this.nodes = Array.from({ length: NODES }, (_, i) => ({
      name: `n${i}`,
      spec,
      read: spec,
      ahead: 0,
      reachable: true,
      checksPass: true,
      state: 'Native',
      readySince: undefined,
    }));
  }

  get disrupted(): number {
    return this.nodes.filter(({ state }) => state === 'Busy' || state === 'Stuck').length;
  }

  act(index: number, act: Act): void {
    this.nodes = this.nodes.map((node, i) => (i === index ? this.#after(node, act) : node));
  }

  agentClock(index: number, ahead: number): void {
    this.nodes = this.nodes.map((node, i) => (i === index ? { ...node, ahead } : node));
  }

  /** What the operator does with the time that it believes in. Answers how many nodes have failed for it. */
  plan(): { readonly bad: number; readonly granted: number } {
    const { rollout } = policySpec();
    const settings = { ...rollout, maxUnavailable: this.maxUnavailable, canary: { nodes: this.canaries } };
    const now = this.real + this.ahead;
    const plan = planRollout({
      now,
      settings,
      maxFailedNodes: this.maxFailedNodes,
      deleting: false,
      nodes: this.nodes.map((node) => this.#seen(node, now)),
      ...this.#recorded,
    });
    this.#recorded = { canaryNodes: plan.canaryNodes, soakedAt: plan.soakedAt };
    let granted = 0;
    this.nodes = this.nodes.map((node) => {
      const decision = plan.decisions.get(node.name);
      if (decision?.state === 'TimedOut') return node;
      const grant = decision?.state === 'Granted' ? decision.grant : undefined;
      if (decision?.state === 'Granted' && decision.isNew && node.spec.grant === undefined) granted += 1;
      if (grant?.expiresAt === node.spec.grant?.expiresAt) return node;
      return { ...node, spec: { generation: node.spec.generation + 1, grant } };
    });
    const states = [...plan.decisions.values()].map(({ state }) => state);
    return { granted, bad: states.filter((state) => state === 'Failed' || state === 'TimedOut').length };
  }

  /** As policy-nodes.ts sees a node. The operator measures an agent's silence by a clock that never jumps. */
  #seen(node: SimulatedNode, now: number): RolloutNode {
    const { name, state, spec, read, reachable, readySince } = node;
    const observed = read.generation === spec.generation;
    return {
      name,
      target: TARGET,
      applied: state === 'Applied' ? TARGET : 'native',
      revert: false,
      preferredCanary: false,
      observed,
      preflight: node.checksPass ? 'Passed' : 'Failed',
      readySince: readySince === undefined ? undefined : Math.min(now, readySince),
      waitsForBoot: false,
      busy: state === 'Busy',
      rebooted: false,
      mayStart: !observed,
      failed: state === 'Failed' || state === 'Stuck',
      stuck: state === 'Stuck',
      agentReachable: reachable,
      agentSeenAt: reachable ? now : now - 2 * LEASE_STALE_MS,
      nodeReady: true,
      grant: spec.grant,
    };
  }

  #after(node: SimulatedNode, act: Act): SimulatedNode {
    const { state, read, reachable, spec, ahead } = node;
    const clock = this.real + ahead;
    switch (act) {
      case 'read':
        return reachable ? { ...node, read: spec } : node;
      case 'start':
        // Also without the API server: what was read holds.
        return state === 'Native' && read.grant !== undefined && read.grant.expiresAt > clock
          ? { ...node, state: 'Busy' }
          : node;
      case 'succeed':
        return state === 'Busy' ? { ...node, state: 'Applied', readySince: clock } : node;
      case 'fail':
        return state === 'Busy' ? { ...node, state: 'Failed' } : node;
      case 'getStuck':
        return state === 'Busy' ? { ...node, state: 'Stuck' } : node;
      case 'vanish':
        return { ...node, reachable: false };
      case 'appear':
        return { ...node, reachable: true };
      case 'breakChecks':
        return { ...node, checksPass: false };
      case 'mendChecks':
        return { ...node, checksPass: true };
    }
  }
}

const ACTS: readonly Act[] = [
  ...(['read', 'read', 'start', 'start', 'succeed', 'fail', 'getStuck', 'vanish', 'appear'] as const),
  ...(['breakChecks', 'mendChecks', 'mendChecks'] as const),
];
const jump = fc.integer({ min: -5, max: 5 }).map((hours) => hours * HOUR);
const sometimes = fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: jump });
const events = fc.array(
  fc.record({
    node: fc.nat(NODES - 1),
    act: fc.constantFrom<Act>(...ACTS),
    seconds: fc.nat(20),
    operatorClock: sometimes,
    agentClock: sometimes,
  }),
  { maxLength: 80 },
);

describe('whatever the clocks of operator and agents show', () => {
  it('never are more nodes disrupted than allowed, and none starts after too many failures', () => {
    fc.assert(
      fc.property(
        events,
        fc.integer({ min: 1, max: 3 }),
        fc.nat(2),
        fc.nat(2),
        (list, max, failed, canaries) => {
          const rollout = new Rollout(max, failed, canaries);
          for (const { node, act, seconds, operatorClock, agentClock } of list) {
            rollout.real += seconds * 1000;
            if (operatorClock !== undefined) rollout.ahead = operatorClock;
            if (agentClock !== undefined) rollout.agentClock(node, agentClock);
            rollout.act(node, act);
            expect(rollout.disrupted).toBeLessThanOrEqual(max);
            const { granted, bad } = rollout.plan();
            if (granted > 0) expect(bad).toBeLessThanOrEqual(failed);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['the one that has the grant', [1, 0]],
    ['the other one', [0, 1]],
  ])('two nodes do not start with one grant that only the operator takes for ended: first %s', (_, order) => {
    const rollout = new Rollout(1, 0, 0);
    for (const i of [0, 2, 3]) rollout.act(i, 'breakChecks');
    rollout.plan();
    rollout.act(1, 'read');
    rollout.act(0, 'mendChecks');
    rollout.ahead = 5 * HOUR;
    rollout.plan();
    rollout.act(0, 'read');
    for (const i of order) rollout.act(i, 'start');
    expect(rollout.disrupted).toBe(1);
  });

  it('every node gets there once they are right again', () => {
    const harmless = events.map((list) => list.filter(({ act }) => act !== 'fail' && act !== 'getStuck'));
    fc.assert(
      fc.property(harmless, fc.integer({ min: 1, max: 3 }), fc.nat(2), (list, max, canaries) => {
        const rollout = new Rollout(max, 0, canaries);
        for (const { node, act, seconds, operatorClock, agentClock } of list) {
          rollout.real += seconds * 1000;
          if (operatorClock !== undefined) rollout.ahead = operatorClock;
          if (agentClock !== undefined) rollout.agentClock(node, agentClock);
          rollout.act(node, act);
          rollout.plan();
        }
        rollout.ahead = 0;
        for (let i = 0; i < NODES; i += 1) rollout.agentClock(i, 0);
        for (let round = 0; round < 300; round += 1) {
          rollout.real += 300_000;
          rollout.plan();
          for (let i = 0; i < NODES; i += 1)
            for (const act of ['appear', 'mendChecks', 'read', 'start', 'succeed', 'read'] as const)
              rollout.act(i, act);
        }
        expect(rollout.nodes.map(({ state }) => state)).toEqual(Array(NODES).fill('Applied'));
      }),
      { numRuns: 200 },
    );
  });
});

describe("a jump of the operator's clock", () => {
  /** Two nodes, of which the first has its grant. */
  function granted(): World {
    const world = new World([policy('p')], ['n1', 'n2']);
    world.plan();
    world.report(good(world));
    world.plan();
    return world;
  }
  const grants = (world: World) =>
    world.state.nodeObjects
      .filter(({ spec }) => spec.disruptionGrant !== undefined)
      .map(({ metadata }) => metadata.name);

  it.each([
    ['forward', 5 * 3_600],
    ['back', -5 * 3_600],
  ])('%s gives nobody else a grant, and what was begun goes on', (_, seconds) => {
    const world = granted();
    expect(grants(world)).toEqual(['n1']);
    world.after(seconds);
    world.plan();
    expect(grants(world)).toEqual(['n1']);
    world.after(-seconds);
    world.settle(good(world));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it.each([
    ['a minute ago', -60_000, 'LeaseStale'],
    ['just now', 0, 'LeaseFresh'],
    ['in an hour', HOUR, 'LeaseStale'],
  ])('takes a sign of life from %s for what it is', (_, offset, reason) => {
    const world = granted();
    const { now } = world.state;
    world.state = { ...world.state, agents: { n1: { renewedAt: now + offset, pod: true } } };
    world.plan();
    const n1 = world.state.nodeObjects.find(({ metadata }) => metadata.name === 'n1');
    expect(conditionOf(n1?.status?.conditions, 'AgentReachable')?.reason).toBe(reason);
  });
});
