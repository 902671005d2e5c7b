// SPDX-License-Identifier: Apache-2.0
/** The IpvsBpfNode goes while its agent runs: it is deleted by itself, or with its definition and everything of ours. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import { PATCHED_SRCVERSION } from '../../fakes/fake-machine.ts';
import { SECOND_REVISION, SPEC } from './one-node.ts';
import { api, disk, freshScene, look, MODE, modeOf, node, origin, SYSCTL, started } from './scene.ts';

/** What was done to the modules of the kernel. */
const exchanges = () => node.machine.calls.changes.filter((change) => change.startsWith('modules.'));

beforeEach(freshScene);

describe('an accelerated node whose object is gone', () => {
  let agent: KubernetesAgent;

  beforeEach(async () => {
    agent = await started();
    await look(agent);
    api.exists = false;
    await look(agent, 2);
    node.machine.calls.reset();
  });

  it('stays as it is', async () => {
    await look(agent, 2);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(modeOf()).toBe('1');
    expect(node.machine.calls.changes).toEqual([]);
  });

  it('is repaired, also by an agent that starts then', async () => {
    for (const each of [agent, await started()]) {
      node.machine.host.control(SYSCTL, '0');
      node.machine.host.control(MODE, '0');
      await look(each);
      expect(modeOf()).toBe('1');
      expect(node.machine.host.sysctls.get(SYSCTL)).toBe('1');
    }
    expect(exchanges()).toEqual([]);
  });

  it('keeps its whitelist when the slices have gone, too', async () => {
    api.services = [];
    await look(agent, 2);
    expect(await node.machine.datapath.services()).toHaveLength(2);
    expect(node.machine.calls.changes).toEqual([]);
  });

  it.each(['the same agent', 'an agent that starts'])(
    'is reported anew by %s to the next object',
    async (who) => {
      const { status } = api;
      api.replace();
      const next = who === 'the same agent' ? agent : await started();
      await look(next);
      expect(api.status).toMatchObject({
        observedGeneration: 1,
        appliedRevision: 'r1',
        lastDisruption: status?.lastDisruption,
      });
      expect(api.condition('Ready')).toBe('True Accelerating');
      expect(exchanges()).toEqual([]);
      const { writes } = api;
      await look(next, 2);
      expect(api.writes).toBe(writes);
    },
  );

  it('is disrupted for another policy no sooner than that one permits it', async () => {
    const { disruptionGrant: _, ...spec } = { ...SPEC, ...SECOND_REVISION };
    api.spec = { ...spec, policyRef: { name: 'other', uid: 'other-uid' } };
    api.replace();
    await look(agent, 3);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(exchanges()).toEqual([]);
    expect(api.status?.appliedRevision).toBe('r1');
  });

  it('is put back for the next object that asks for it', async () => {
    api.replace();
    api.edit({
      action: 'Revert',
      revision: 'native',
      disruptionGrant: { revision: 'native', expiresAt: '2026-01-02T04:00:00Z' },
    });
    await look(agent, 2);
    expect(origin()).toBe('INTREEIP_VS');
    expect(api.status?.appliedRevision).toBe('native');
    expect(node.records.isEmpty).toBe(true);
    expect(disk.memory).toEqual({});
  });
});

describe('a node that is only looked at, whose object is gone', () => {
  it('reports to the next one', async () => {
    api.edit({ action: 'Observe' });
    const agent = await started();
    await look(agent);
    api.exists = false;
    await look(agent);
    api.replace();
    await look(agent);
    expect(api.condition('Ready')).toBe('True DryRunPassed');
  });
});
