// SPDX-License-Identifier: Apache-2.0
/** What goes in the wrong order: a node for ever, or the definitions of the kinds while policies are Enabled. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { IpvsBpfNode } from '../../src/api/generated/resource-types.ts';
import {
  DAEMON_SETS,
  IPVS_BPF_NODES,
  NODES,
  POLICIES,
  SERVICE_SLICES,
} from '../../src/core/resource-types.ts';
import { DEFINITION_NAMES, withoutDefinitions } from './definitions.ts';
import { AGENT, Scene, START_MS, WAIT } from './scene.ts';

const [, NODES_DEFINITION] = DEFINITION_NAMES;

describe('a node that is deleted from the cluster, and whose machine is never back', () => {
  const scene = new Scene('gone');
  const { cluster } = scene;
  const [first = '', second = ''] = scene.nodes;

  beforeAll(() => scene.start(), START_MS);

  afterAll(() => scene.end());

  it('goes from the status of its policy, and so does its object', async () => {
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
    scene.agents.stop();
    await cluster.delete(NODES, { name: second });
    await expect.poll(() => scene.found(IPVS_BPF_NODES, second), WAIT).toBeUndefined();
    const status = async () => (await scene.found(POLICIES, scene.name))?.status;
    await expect.poll(status, WAIT).toMatchObject({ nodes: { selected: 1, ready: 1, failed: 0 } });
    expect(JSON.stringify(await status())).not.toContain(second);
    expect(await scene.reason('Ready')).toBe('True AllNodesReady');
  });

  it('keeps no policy from going that was to put it back', async () => {
    await cluster.delete(POLICIES, { name: scene.name });
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('False Reverting');
    // It may only be away: nobody else would put it back.
    await sleep(2_000);
    expect(await scene.found(IPVS_BPF_NODES, first)).toMatchObject({ spec: { action: 'Revert' } });
    await cluster.delete(NODES, { name: first });
    await expect.poll(() => scene.found(POLICIES, scene.name), WAIT).toBeUndefined();
    expect(await cluster.list(IPVS_BPF_NODES)).toEqual([]);
    expect(await cluster.list(SERVICE_SLICES)).toEqual([]);
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), WAIT).toBeUndefined();
  });
});

describe('definitions that are deleted while a policy is Enabled', () => {
  const scene = new Scene('defs');
  const { cluster } = scene;
  let restore = async () => {};
  const ready = async () => (await fetch(`http://127.0.0.1:${scene.operator.port}/readyz`)).status;
  const grants = async () =>
    ((await cluster.list(IPVS_BPF_NODES)) as unknown as readonly IpvsBpfNode[]).map(
      ({ spec }) => spec.disruptionGrant,
    );
  /** As it was before, and without that a node was permitted to be disrupted again. */
  const converged = async () => {
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
    expect(await grants()).toEqual([undefined, undefined]);
  };

  beforeAll(() => scene.start(), START_MS);

  afterAll(async () => {
    await restore();
    await scene.end();
  });

  it('only that of IpvsBpfNodes: the operator says it, keeps the agents, and makes the objects again', async () => {
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
    restore = await withoutDefinitions(scene.admin, [NODES_DEFINITION]);
    await expect.poll(ready, WAIT).toBe(503);
    expect(await scene.found(POLICIES, scene.name)).toBeDefined();
    expect(await cluster.get(DAEMON_SETS, AGENT)).toBeDefined();
    await restore();
    restore = async () => {};
    await converged();
    await expect.poll(ready, WAIT).toBe(200);
  });

  it('all of them: nothing hangs, and the operator ends its agents and waits', async () => {
    // The same process all the time: it leads with its first word and never again.
    const leads = () => scene.operator.output.match(/"leads"/g)?.length;
    expect(leads()).toBe(1);
    restore = await withoutDefinitions(scene.admin, DEFINITION_NAMES);
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), WAIT).toBeUndefined();
    await expect.poll(ready, WAIT).toBe(503);
    await restore();
    restore = async () => {};
    await expect.poll(ready, WAIT).toBe(200);
    expect(await cluster.list(POLICIES)).toEqual([]);
    expect(leads()).toBe(1);
  });

  it('then a policy for the same nodes finds them as they are, and puts them back when it is deleted', async () => {
    await scene.applyPolicy();
    await scene.startAgents();
    await converged();
    await cluster.delete(POLICIES, { name: scene.name });
    await expect.poll(() => scene.found(POLICIES, scene.name), WAIT).toBeUndefined();
  });
});
