// SPDX-License-Identifier: Apache-2.0
/** The operator's process with the rights that the chart gives it, and agents with theirs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CLUSTER_ROLES,
  DAEMON_SETS,
  IPVS_BPF_NODES,
  POLICIES,
  SERVICE_SLICES,
  SERVICES,
} from '../../src/core/resource-types.ts';
import { eventually } from './api-server.ts';
import { DEFINITION_NAMES, withoutDefinitions } from './definitions.ts';
import { AGENT, MANAGER, Scene, START_MS, WAIT } from './scene.ts';

const POLICY = 'operator-test';
const SERVICE = { name: 'operator-test-web', namespace: 'default' };

describe('the operator with the rights of the chart', () => {
  const scene = new Scene(POLICY);
  const { cluster, nodes } = scene;

  beforeAll(() => scene.start(), START_MS);

  afterAll(() => scene.end());

  it('rolls a policy out, and neither it nor an agent is refused anything', async () => {
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
    for (const name of nodes) {
      expect(await scene.reason('AgentReachable', IPVS_BPF_NODES, name)).toBe('True LeaseFresh');
    }
    expect(await cluster.get(DAEMON_SETS, AGENT)).toBeDefined();
    expect(scene.agents.refused).toEqual([]);
    expect(scene.operator.lines('error')).toEqual([]);
    expect(scene.operator.output).not.toContain('Forbidden');
  });

  it('says which Service of the list is gone, and takes it again when it is there', async () => {
    await cluster.delete(SERVICES, SERVICE);
    await expect.poll(() => scene.reason('Accepted'), WAIT).toBe('False NoServicesSelected');
    expect((await scene.found(POLICIES, POLICY))?.status).toMatchObject({
      rejectedServices: [{ name: SERVICE.name, reason: 'NotFound' }],
    });
    await cluster.apply(SERVICES, scene.service(), MANAGER);
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
  });

  it('takes fields back that another manager has written', async () => {
    const [name = ''] = nodes;
    const object = await scene.found(IPVS_BPF_NODES, name);
    const spec = { ...(object?.spec as object), mode: 'Disabled' };
    const { apiVersion } = scene.policy();
    const changed = { apiVersion, kind: 'IpvsBpfNode', metadata: { name }, spec };
    await cluster.apply(IPVS_BPF_NODES, changed, MANAGER);
    await expect
      .poll(async () => (await scene.found(IPVS_BPF_NODES, name))?.spec, WAIT)
      .toMatchObject({ mode: 'Enabled' });
  });

  it('refuses an object with an unknown field or a wrong type as a whole', async () => {
    for (const change of [{ modus: 'Enabled' }, { mode: 3 }, { rollout: { maxUnavailable: 'many' } }]) {
      const before = (await scene.found(POLICIES, POLICY))?.metadata.generation;
      await expect(scene.applyPolicy(change)).rejects.toMatchObject({
        name: 'ClusterError',
      });
      expect((await scene.found(POLICIES, POLICY))?.metadata.generation).toBe(before);
    }
  });

  it('tells at the policy what it is forbidden to write, and goes on when it may again', async () => {
    const role = await scene.found(CLUSTER_ROLES, 'ipvs-bpf-operator');
    if (role === undefined) throw new Error('the chart has made no ClusterRole');
    const rules = (role.rules as { resources: string[] }[]).filter(
      ({ resources }) => !resources.includes('ipvsbpfserviceslices'),
    );
    await cluster.replace(CLUSTER_ROLES, { ...role, rules });
    const include = [{ namespace: 'default', name: 'kubernetes' }];
    try {
      await eventually(async () => {
        await scene.applyPolicy({ services: { include } });
        await sleep(500);
        expect(scene.operator.output).toContain('403 Forbidden');
      });
      expect((await scene.found(POLICIES, POLICY))?.metadata.generation).toBeDefined();
    } finally {
      const changed = await scene.found(CLUSTER_ROLES, 'ipvs-bpf-operator');
      if (changed !== undefined) await cluster.replace(CLUSTER_ROLES, { ...changed, rules: role.rules });
    }
    await expect.poll(() => scene.reason('Ready'), WAIT).toBe('True AllNodesReady');
    const slices = await cluster.list(SERVICE_SLICES);
    expect(JSON.stringify(slices.map(({ spec }) => spec))).toContain('"name":"kubernetes"');
  });

  it('starts again where it was, and changes nothing', async () => {
    expect(await scene.operator.stop()).toBe(0);
    const versions = async () =>
      (await cluster.list(IPVS_BPF_NODES)).map(({ metadata }) => metadata.resourceVersion);
    const before = await versions();
    await scene.startOperator();
    await expect.poll(() => scene.operator.output, WAIT).toContain('"leads"');
    await sleep(3_000);
    expect(await versions()).toEqual(before);
    expect(scene.operator.lines('error')).toEqual([]);
  });

  it('lets the policy go after its nodes, and takes the agents away', async () => {
    await cluster.delete(POLICIES, { name: POLICY });
    await expect.poll(() => scene.found(POLICIES, POLICY), WAIT).toBeUndefined();
    expect(await cluster.list(SERVICE_SLICES)).toEqual([]);
    await expect.poll(() => cluster.get(DAEMON_SETS, AGENT), WAIT).toBeUndefined();
    await expect.poll(() => scene.found(CLUSTER_ROLES, AGENT.name), WAIT).toBeUndefined();
    expect(scene.operator.lines('error')).toEqual([]);
  });

  it('waits while its definitions are missing, says so, and works when they are there', async () => {
    await scene.operator.stop();
    const restore = await withoutDefinitions(scene.admin, DEFINITION_NAMES.slice(2));
    await scene.startOperator();
    const ready = () => fetch(`http://127.0.0.1:${scene.operator.port}/readyz`);
    try {
      await expect.poll(() => scene.operator.output, WAIT).toContain('waits until everything is known');
      const answer = await ready();
      expect(answer.status).toBe(503);
      expect(await answer.text()).toContain('ipvsbpfserviceslices');
    } finally {
      await restore();
    }
    await expect.poll(async () => (await ready()).status, WAIT).toBe(200);
  });
});
