// SPDX-License-Identifier: Apache-2.0
/** What may happen at any moment of a node's way to the accelerated path: a Service goes, a clock jumps. */
import { describe, expect, it } from 'vitest';
import { NODE_CONDITIONS } from '../../../src/core/reasons.ts';
import { virtualServer } from '../builders.ts';
import { ClusterNode, LATER, SERVICE } from './cluster-node.ts';
import { NOW, VIP } from './one-node.ts';

const HOUR = 3_600_000;
const OTHER_VIP = '10.96.0.11';
const OTHER = {
  ...SERVICE,
  name: 'db',
  virtualServers: SERVICE.virtualServers.map((group) => ({ ...group, addresses: [OTHER_VIP] })),
};

/** A node with two Services; `atMoment` happens at this one of the moments before and after its steps. */
function disturbed(moment: number, atMoment: (world: ClusterNode) => void) {
  let passed = 0;
  const world: ClusterNode = new ClusterNode(() => {
    if (passed === moment) atMoment(world);
    passed += 1;
  });
  world.serve();
  world.machine.ipvs.seed(virtualServer(OTHER_VIP));
  world.put();
  world.list(SERVICE, OTHER);
  return { world, moments: () => passed };
}

/** kube-proxy removes the virtual server, the operator takes the Service off the whitelist. */
function deleted(world: ClusterNode): void {
  world.machine.ipvs.unseed(virtualServer(VIP));
  world.list(OTHER);
}

const whitelist = async ({ machine }: ClusterNode): Promise<readonly string[]> =>
  (await machine.datapath.services()).map(({ address }) => address);
const removals = ({ machine }: ClusterNode): number =>
  machine.calls.changes.filter((change) => change === 'modules.remove ip_vs').length;

async function momentsOfAWay(): Promise<number> {
  const { world, moments } = disturbed(-1, () => {});
  await world.look(2);
  return moments();
}

describe('a Service that is deleted while it is being enabled', () => {
  it('leaves the node on its way and the other Services as they are, at whatever moment', async () => {
    const total = await momentsOfAWay();
    expect(total).toBeGreaterThan(40);
    for (let moment = 0; moment < total; moment += 1) {
      const { world } = disturbed(moment, deleted);
      await world.look();
      // A table that was saved before is restored with it; kube-proxy, which stood still, then removes it.
      world.machine.ipvs.unseed(virtualServer(VIP));
      await world.look(2);
      const where = `deleted at moment ${moment}`;
      expect(world.status.lastFailure, where).toBeUndefined();
      expect([...world.told], where).toContain('Ready True Accelerating');
      expect(world.status.services, where).toMatchObject({ accelerated: 1, rejected: 0, virtualServers: 1 });
      expect(await whitelist(world), where).toEqual([OTHER_VIP]);
      expect(
        world.machine.ipvs.table.map(({ address }) => address),
        where,
      ).toEqual([OTHER_VIP]);
      expect(removals(world), where).toBe(1);
      expect(await world.machine.kubeProxy.frozen(), where).toEqual([]);
    }
  });

  it('is told as long as only kube-proxy knows that it is gone, and comes back without a disruption', async () => {
    const { world } = disturbed(-1, () => {});
    await world.look(2);
    world.machine.calls.reset();
    world.machine.ipvs.unseed(virtualServer(VIP));
    await world.look();
    expect(world.status.rejectedServices).toMatchObject([{ name: 'web', reason: 'NoSuchVirtualServer' }]);
    expect(world.status.services).toMatchObject({ accelerated: 1, rejected: 1 });
    world.list(OTHER);
    await world.look();
    expect(world.status.rejectedServices).toEqual([]);
    expect(await whitelist(world)).toEqual([OTHER_VIP]);
    world.machine.ipvs.seed(virtualServer(VIP));
    world.list(SERVICE, OTHER);
    await world.look();
    expect(world.status.services).toMatchObject({ accelerated: 2, rejected: 0 });
    expect(world.machine.calls.changes.filter((change) => /^(modules|ipvs)\./.test(change))).toEqual([]);
  });

  it('is no failure if it was the only one', async () => {
    const world = new ClusterNode();
    world.serve();
    world.put();
    world.machine.ipvs.unseed(virtualServer(VIP));
    await world.look(2);
    expect(world.status.rejectedServices).toMatchObject([{ name: 'web', reason: 'NoSuchVirtualServer' }]);
    expect(world.status.lastFailure).toBeUndefined();
    world.list();
    await world.look();
    expect(world.status.services).toMatchObject({ accelerated: 0, rejected: 0, virtualServers: 0 });
    expect(await whitelist(world)).toEqual([]);
  });
});

describe("a jump of the agent's clock", () => {
  it.each([
    ['forward', 5 * HOUR],
    ['back', -5 * HOUR],
  ])('%s changes nothing on a node that is done', async (_, jump) => {
    const { world } = disturbed(-1, () => {});
    await world.look(2);
    const { status } = world;
    world.machine.calls.reset();
    world.now += jump;
    await world.look(2);
    expect(world.machine.calls.changes).toEqual([]);
    expect(world.status).toEqual(status);
  });

  it('forward lets a grant pass, and what it was for is done when the clock is right again', async () => {
    const { world } = disturbed(-1, () => {});
    world.now += 5 * HOUR;
    await world.look(2);
    expect([...world.told]).toContain('DisruptionPending True GrantExpired');
    expect(removals(world)).toBe(0);
    world.now = NOW;
    await world.look(2);
    expect([...world.told]).toContain('Ready True Accelerating');
  });

  it('back makes a grant for another revision none', async () => {
    const { world } = disturbed(-1, () => {});
    world.now -= 5 * HOUR;
    world.put({ disruptionGrant: { revision: 'r0', expiresAt: LATER } });
    await world.look(2);
    expect([...world.told]).toContain('DisruptionPending True WaitingForGrant');
    expect(removals(world)).toBe(0);
  });

  it.each([
    ['forward', 5 * HOUR],
    ['back', -5 * HOUR],
  ])('%s ends nothing that was begun, at whatever moment', async (_, jump) => {
    const total = await momentsOfAWay();
    for (let moment = 0; moment < total; moment += 3) {
      const { world } = disturbed(moment, (each) => {
        each.now += jump;
      });
      await world.look(2);
      const where = `jumped at moment ${moment}`;
      expect([...world.told], where).toContain('Ready True Accelerating');
      expect([...world.told], where).not.toContain('DisruptionPending True GrantExpired');
      expect(removals(world), where).toBe(1);
      expect(world.conditions.length, where).toBe(Object.keys(NODE_CONDITIONS).length - 2);
    }
  });
});
