// SPDX-License-Identifier: Apache-2.0
/** A policy whose nodes get their module by a boot: nobody is disrupted for it, and nobody waits for a boot. */
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode } from '../../../../src/api/generated/resource-types.ts';
import type { NodeResourceStatus, PolicySpec } from '../../../../src/api/resources.ts';
import { planRollout, type RolloutNode } from '../../../../src/core/rollout.ts';
import { condition, NOW, policy, policySpec, waitingNode } from './builders.ts';
import { good, World } from './world.ts';

const AT_BOOT: Partial<PolicySpec> = { module: { ...policySpec().module, activation: 'NextBoot' } };

/** Agents that wait for a boot on these nodes, and do at once what they are asked on the others. */
const waitingOn =
  (world: World, ...names: readonly string[]) =>
  (object: IpvsBpfNode): NodeResourceStatus => {
    if (!names.includes(object.metadata.name) || object.spec.action !== 'Apply') return good(world)(object);
    const message = 'reboot it';
    return {
      appliedRevision: 'off',
      attempt: 0,
      conditions: [
        condition('PreflightPassed', 'True'),
        condition('Ready', 'False', 'WaitingForBoot'),
        { ...condition('DisruptionPending', 'True', 'WaitingForBoot'), message },
      ],
    };
  };

describe('nodes that wait for a boot', () => {
  it('are told how they get their module', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1']);
    world.plan();
    expect(world.state.nodeObjects[0]?.spec.module).toEqual({ activation: 'NextBoot' });
    world.edit('p', { module: policySpec().module });
    world.plan();
    expect(world.state.nodeObjects[0]?.spec.module).toEqual({ activation: 'Live' });
  });

  it('get no permission, and keep it from no other node', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1', 'n2', 'n3']);
    world.settle(waitingOn(world, 'n1', 'n2'));
    const grants = world.state.nodeObjects.map(({ spec }) => spec.disruptionGrant);
    expect(grants.filter((grant) => grant !== undefined)).toHaveLength(0);
    expect(world.state.nodeObjects.map(({ status }) => status?.appliedRevision === 'off').sort()).toEqual([
      false,
      true,
      true,
    ]);
    expect(world.state.policies[0]?.status).toMatchObject({
      nodes: { selected: 3, ready: 1, updated: 1, waiting: 2, failed: 0 },
      waitingNodes: [
        { node: 'n1', reason: 'WaitingForBoot', message: 'reboot it' },
        { node: 'n2', reason: 'WaitingForBoot' },
      ],
    });
    expect(world.conditions('p')).toMatchObject({
      Ready: 'False RollingOut',
      Progressing: 'True WaitingForNodes',
      Degraded: 'False AsExpected',
    });
  });

  it('go through canary and soak once they have booted', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1', 'n2']);
    world.settle(waitingOn(world, 'n1', 'n2'));
    world.settle(waitingOn(world, 'n2'));
    expect(world.state.policies[0]?.status).toMatchObject({ nodes: { ready: 1, waiting: 1 } });
    world.settle(waitingOn(world));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('fail as others do when the boot fell back', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1', 'n2']);
    world.settle(waitingOn(world, 'n1', 'n2'));
    const fellBack = (object: IpvsBpfNode): NodeResourceStatus =>
      object.metadata.name !== 'n1'
        ? waitingOn(world, 'n2')(object)
        : {
            appliedRevision: 'native',
            attempt: object.spec.attempt ?? 0,
            lastFailure: {
              step: 'loadAtBoot',
              revision: object.spec.revision,
              reason: 'BootFellBack',
              message: 'DigestMismatch',
              rollback: 'Succeeded',
              rung: 'ModuleRestored',
            },
            conditions: [condition('PreflightPassed', 'True'), condition('Ready', 'False', 'RolledBack')],
          };
    world.settle(fellBack);
    expect(world.state.policies[0]?.status?.problemNodes).toMatchObject([
      { node: 'n1', reason: 'RolledBack', message: 'BootFellBack: DigestMismatch' },
    ]);
    expect(world.conditions('p')).toMatchObject({ Ready: 'False RolloutHalted' });
  });

  it('are put back when they are no longer selected, also if nobody knows yet whether they are armed', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1']);
    world.plan();
    expect(world.state.nodeObjects).toHaveLength(1);
    world.edit('p', { nodeSelector: { matchLabels: { other: 'nodes' } } });
    world.plan();
    expect(world.state.nodeObjects[0]?.spec.action).toBe('Revert');
    world.plan();
    expect(world.state.nodeObjects).toHaveLength(1);
    world.settle(good(world));
    expect(world.state.nodeObjects).toHaveLength(0);
  });

  it('without an agent are left at once', () => {
    const world = new World([policy('p', AT_BOOT)], ['n1']);
    world.state = { ...world.state, agents: {} };
    world.plan();
    world.edit('p', { nodeSelector: { matchLabels: { other: 'nodes' } } });
    world.plan();
    expect(world.state.nodeObjects).toHaveLength(0);
  });
});

describe('a rollout', () => {
  const node = (name: string, change: Partial<RolloutNode> = {}) =>
    waitingNode(name, { applied: 'off', waitsForBoot: true, ...change });
  const plan = (...nodes: readonly RolloutNode[]) =>
    planRollout({
      now: NOW,
      settings: policySpec().rollout,
      maxFailedNodes: 0,
      deleting: false,
      nodes,
      canaryNodes: ['a'],
      soakedAt: undefined,
    });

  it('takes another canary than one that waits for a boot', () => {
    const { decisions, canaryNodes } = plan(node('a'), node('b', { waitsForBoot: false }));
    expect(canaryNodes).toEqual(['b']);
    expect(decisions.get('a')).toEqual({ state: 'Waiting', reason: 'WaitingForBoot' });
    expect(decisions.get('b')).toMatchObject({ state: 'Granted', isNew: true });
  });

  it('takes back a permission from before, and fails nobody for the time that passes until a boot', () => {
    const grant = { revision: 'r1', expiresAt: NOW - 10_000_000 };
    const { decisions, halted } = plan(node('a', { grant, agentSeenAt: NOW - 20_000_000 }));
    expect(decisions.get('a')).toEqual({ state: 'Waiting', reason: 'WaitingForBoot' });
    expect(halted).toBe(false);
  });
});
