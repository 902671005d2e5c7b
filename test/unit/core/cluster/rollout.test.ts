// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allowedUnavailable,
  planRollout,
  type RolloutInput,
  type RolloutNode,
} from '../../../../src/core/rollout.ts';
import { NOW, policySpec, waitingNode as waiting } from './builders.ts';

const done = (name: string, readySince: number): RolloutNode => waiting(name, { applied: 'r1', readySince });

function input(nodes: readonly RolloutNode[], change: Partial<RolloutInput> = {}): RolloutInput {
  return {
    now: NOW,
    settings: policySpec().rollout,
    maxFailedNodes: 0,
    deleting: false,
    nodes,
    canaryNodes: [],
    soakedAt: undefined,
    ...change,
  };
}

const states = (given: RolloutInput): Record<string, string> =>
  Object.fromEntries(
    [...planRollout(given).decisions].map(([name, decision]) => [
      name,
      decision.state === 'Waiting' ? decision.reason : decision.state,
    ]),
  );

describe('a rollout', () => {
  it('starts with the canary', () => {
    expect(states(input([waiting('a'), waiting('b', { preferredCanary: true })]))).toEqual({
      a: 'WaitingForCanary',
      b: 'Granted',
    });
  });

  it('soaks, then goes on one by one', () => {
    const nodes = [done('a', NOW - 100_000), waiting('b'), waiting('c')];
    const soaking = planRollout(input(nodes));
    expect(states(input(nodes))).toEqual({ a: 'Done', b: 'CanarySoaking', c: 'CanarySoaking' });
    expect(soaking.recheckAt).toBe(NOW + 200_000);
    expect(states(input(nodes, { now: NOW + 200_000 }))).toEqual({
      a: 'Done',
      b: 'Granted',
      c: 'WaitingForBudget',
    });
  });

  it('counts a node that is not ready for long enough against the budget', () => {
    const given = input([done('a', NOW - 10_000), waiting('b')], { soakedAt: NOW - 1 });
    expect(states(given)).toEqual({ a: 'Done', b: 'WaitingForBudget' });
  });

  it.each([
    ['Paused', { settings: { ...policySpec().rollout, paused: true } }, {}],
    ['NoServicesSelected', { barrier: 'NoServicesSelected' as const }, {}],
    ['PreflightFailed', {}, { preflight: 'Failed' as const }],
    ['NotReported', {}, { observed: false }],
    ['AgentUnreachable', {}, { agentReachable: false }],
    ['NodeNotReady', {}, { nodeReady: false }],
  ])('waits: %s', (reason, change, nodeChange) => {
    expect(states(input([waiting('a', nodeChange)], change))).toEqual({ a: reason });
  });

  it('halts after too many failures', () => {
    const nodes = [waiting('a', { failed: true }), waiting('b')];
    expect(states(input(nodes, { soakedAt: NOW }))).toEqual({ a: 'Failed', b: 'Halted' });
    expect(states(input(nodes, { soakedAt: NOW, maxFailedNodes: 1 }))).toEqual({ a: 'Failed', b: 'Granted' });
  });

  it('takes a grant back that nobody used, and fails a node that says nothing', () => {
    const grant = { revision: 'r1', expiresAt: NOW };
    const later = NOW + 20_000;
    const lapsed = input([waiting('a', { grant, agentSeenAt: later })], { now: later });
    expect(planRollout(lapsed).decisions.get('a')).toMatchObject({ state: 'Granted', isNew: true });
    const silent = input([waiting('a', { grant })], { now: NOW + 900_001 });
    expect(states(silent)).toEqual({ a: 'TimedOut' });
  });

  it.each([
    ['is given anew', {}, { a: 'WaitingForBudget', b: 'Granted' }],
    ['is taken back', { preflight: 'Failed' as const }, { a: 'WaitingForBudget', b: 'PreflightFailed' }],
  ])('keeps the place of a grant that lapsed until its agent knows: %s', (_, change, expected) => {
    const grant = { revision: 'r1', expiresAt: NOW - 3_600_000 };
    const given = input([waiting('a'), waiting('b', { grant, ...change })], { soakedAt: NOW });
    expect(states(given)).toEqual(expected);
  });

  it('puts back without canaries and checks, within the budget', () => {
    const back = { revert: true, target: 'native', applied: 'r1', preflight: 'Failed' } as const;
    expect(states(input([waiting('a', back), waiting('b', back)]))).toEqual({
      a: 'Granted',
      b: 'WaitingForBudget',
    });
  });

  it.each([
    [3, 3],
    ['25%', 2],
    ['1%', 1],
    ['100%', 10],
  ])('maxUnavailable %s of ten nodes is %i', (maxUnavailable, expected) => {
    const nodes = Array.from({ length: 10 }, (_, i) => waiting(`n${i}`));
    expect(allowedUnavailable({ settings: { ...policySpec().rollout, maxUnavailable }, nodes })).toBe(
      expected,
    );
  });
});

/** What can become of a node between two plans. */
type Act = 'start' | 'succeed' | 'fail' | 'getStuck' | 'wait' | 'losesAgent' | 'findsAgent';

describe('whatever fails in whatever order', () => {
  const acts = fc.array(
    fc.record({
      node: fc.nat(5),
      act: fc.constantFrom<Act>('start', 'succeed', 'fail', 'getStuck', 'wait', 'losesAgent', 'findsAgent'),
      seconds: fc.nat(400),
    }),
    { maxLength: 60 },
  );
  const disrupted = ({ grant, busy, stuck, applied, target }: RolloutNode): boolean =>
    busy || stuck || (grant !== undefined && applied !== target);

  it('never are more nodes disrupted than allowed, and none starts after too many failures', () => {
    fc.assert(
      fc.property(
        acts,
        fc.integer({ min: 1, max: 3 }),
        fc.nat(2),
        fc.nat(2),
        (list, max, maxFailed, canaries) => {
          const settings = { ...policySpec().rollout, maxUnavailable: max, canary: { nodes: canaries } };
          let nodes = Array.from({ length: 6 }, (_, i) => waiting(`n${i}`));
          let now = NOW;
          let recorded = { canaryNodes: [] as readonly string[], soakedAt: undefined as number | undefined };
          for (const { node, act, seconds } of list) {
            now += seconds * 1000;
            nodes = nodes.map((each, i) => {
              const seen = each.agentReachable ? { ...each, agentSeenAt: now } : each;
              return i === node ? happen(seen, act, now) : seen;
            });
            const plan = planRollout(input(nodes, { now, settings, maxFailedNodes: maxFailed, ...recorded }));
            recorded = { canaryNodes: plan.canaryNodes, soakedAt: plan.soakedAt };
            const decisions = [...plan.decisions.values()];
            const isNew = decisions.filter(
              (decision) => decision.state === 'Granted' && decision.isNew,
            ).length;
            const bad = decisions.filter(({ state }) => state === 'Failed' || state === 'TimedOut').length;
            nodes = nodes.map((each) => {
              const decision = plan.decisions.get(each.name);
              if (decision?.state === 'Granted') return { ...each, grant: decision.grant };
              return decision?.state === 'TimedOut' ? each : { ...each, grant: undefined };
            });
            if (isNew > 0) {
              expect(nodes.filter(disrupted).length).toBeLessThanOrEqual(max);
              expect(bad).toBeLessThanOrEqual(maxFailed);
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  function happen(node: RolloutNode, act: Act, now: number): RolloutNode {
    const mayBegin = node.grant !== undefined && now < node.grant.expiresAt && node.agentReachable;
    switch (act) {
      case 'start':
        return mayBegin ? { ...node, busy: true } : node;
      case 'succeed':
        return node.busy ? { ...node, busy: false, applied: node.target, readySince: now } : node;
      case 'fail':
        return node.busy ? { ...node, busy: false, failed: true } : node;
      case 'getStuck':
        return node.busy ? { ...node, busy: false, failed: true, stuck: true } : node;
      case 'losesAgent':
        return { ...node, agentReachable: false };
      case 'findsAgent':
        return { ...node, agentReachable: true, agentSeenAt: now };
      case 'wait':
        return node;
    }
  }
});
