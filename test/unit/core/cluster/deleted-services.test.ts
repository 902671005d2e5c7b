// SPDX-License-Identifier: Apache-2.0
/** Services that are deleted while a policy enables them. */
import { describe, expect, it } from 'vitest';
import type { PolicySpec } from '../../../../src/api/resources.ts';
import type { ClusterService } from '../../../../src/core/cluster-facts.ts';
import { policy, service } from './builders.ts';
import { good, World } from './world.ts';

const WEB = service('a', 'web');
const DB = service('a', 'db', { clusterIP: '10.96.0.2' });
const BOTH: Partial<PolicySpec> = {
  services: {
    include: ['web', 'db'].map((name) => ({ namespace: 'a', name })),
    exclude: [],
    filtering: 'Respect',
  },
};

/** A policy for both Services; node n1 has its grant, and has not begun yet. */
function enabling(): World {
  const world = new World([policy('p', BOTH)], ['n1', 'n2']);
  exist(world, WEB, DB);
  world.plan();
  world.report(good(world));
  world.plan();
  expect(granted(world)).toEqual(['n1']);
  return world;
}

function exist(world: World, ...services: readonly ClusterService[]): void {
  world.state = { ...world.state, services };
}

const granted = ({ state }: World): readonly string[] =>
  state.nodeObjects
    .filter(({ spec }) => spec.disruptionGrant !== undefined)
    .map(({ metadata }) => metadata.name);
const listed = ({ state }: World): readonly string[] =>
  state.slices.flatMap(({ spec }) => spec.services.map(({ name }) => name));
const status = ({ state }: World) => state.policies[0]?.status;

describe('a Service that is deleted while it is being enabled', () => {
  it('goes off the whitelist and is told, and the others and the rollout go on', () => {
    const world = enabling();
    const specs = world.state.nodeObjects.map(({ spec }) => spec);
    exist(world, DB);
    world.plan();
    expect(listed(world)).toEqual(['db']);
    expect(world.state.nodeObjects.map(({ spec }) => spec)).toEqual(specs);
    expect(status(world)).toMatchObject({
      rejectedServices: [{ namespace: 'a', name: 'web', reason: 'NotFound' }],
      services: { selected: 2, accelerated: 1, rejected: 1 },
    });
    expect(world.conditions('p')).toMatchObject({ Ready: 'False RollingOut', Accepted: 'True Accepted' });
    world.settle(good(world));
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('makes a node that was done unready only until its agent has the new whitelist', () => {
    const world = enabling();
    world.settle(good(world));
    exist(world, DB);
    world.plan();
    expect(world.conditions('p').Ready).toBe('False RollingOut');
    expect(granted(world)).toEqual([]);
    world.report(good(world));
    world.plan();
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('lets no further node start if it was the last one, and takes it again when it is there again', () => {
    const world = enabling();
    exist(world);
    world.plan();
    expect(listed(world)).toEqual([]);
    // What may have begun is not taken back half-way.
    expect(granted(world)).toEqual(['n1']);
    world.settle(good(world));
    expect(granted(world)).toEqual([]);
    expect(world.conditions('p')).toMatchObject({
      Ready: 'False NotAccepted',
      Accepted: 'False NoServicesSelected',
      Degraded: 'False AsExpected',
    });
    expect(status(world)?.waitingNodes).toMatchObject([{ node: 'n2', reason: 'NoServicesSelected' }]);
    exist(world, WEB, DB);
    world.settle(good(world));
    expect(listed(world).toSorted()).toEqual(['db', 'web']);
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });

  it('gives its address to a new Service of another name', () => {
    const world = enabling();
    exist(world, service('a', 'api'), DB);
    world.edit('p', {
      services: { include: [{ namespace: 'a', name: 'api' }], exclude: [], filtering: 'Respect' },
    });
    world.settle(good(world));
    expect(listed(world)).toEqual(['api']);
    expect(status(world)?.rejectedServices).toEqual([]);
    expect(world.conditions('p').Ready).toBe('True AllNodesReady');
  });
});
