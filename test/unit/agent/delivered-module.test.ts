// SPDX-License-Identifier: Apache-2.0
/** What the agent does about the files of a module that a pod brings to its node. */
import { beforeEach, describe, expect, it } from 'vitest';
import { PATCHED_SRCVERSION } from '../../fakes/fake-machine.ts';
import { api, freshScene, look, node, origin, started } from './scene.ts';

beforeEach(freshScene);

describe('an agent whose module comes from an image', () => {
  const PATH = '/var/lib/ipvs-bpf/delivered/x/y/ip_vs.ko';
  const edit = { module: { activation: 'Live' as const, path: PATH, image: 'r/ip-vs:1' } };

  function deliver(path: string, srcversion = PATCHED_SRCVERSION, age = 3_600_000): void {
    const { files, delivered } = node.machine.modules;
    const file = files.get(node.machine.patchedModule);
    if (file !== undefined) files.set(path, { ...file, srcversion });
    delivered.set(path, age);
  }

  it('waits for it, says that it is there, and removes what came before', async () => {
    api.edit({ ...edit, action: 'Observe' });
    const agent = await started();
    await look(agent);
    expect(api.condition('PreflightPassed')).toBe('False ModuleNotDelivered');
    expect(api.status?.module?.file).toEqual({ path: PATH, state: 'Missing' });
    deliver(PATH);
    deliver('/var/lib/ipvs-bpf/delivered/x/old/ip_vs.ko');
    await look(agent);
    expect(api.condition('PreflightPassed')).toMatch(/^True /);
    expect(api.status?.module?.file).toEqual({
      path: PATH,
      state: 'Found',
      srcversion: PATCHED_SRCVERSION,
    });
    expect([...node.machine.modules.delivered.keys()]).toEqual([PATH]);
  });

  it('keeps one that came before the spec that it is for', async () => {
    api.edit(edit);
    deliver(PATH);
    const agent = await started();
    const next = '/var/lib/ipvs-bpf/delivered/x/next/ip_vs.ko';
    deliver(next, 'NEXT', 60_000);
    await look(agent);
    expect([...node.machine.modules.delivered.keys()].sort()).toEqual([next, PATH]);
  });

  it('keeps the one that it runs until it has another one, and none when it is put back', async () => {
    api.edit(edit);
    deliver(PATH);
    const agent = await started();
    await look(agent);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    const next = '/var/lib/ipvs-bpf/delivered/x/next/ip_vs.ko';
    deliver(next, 'NEXT');
    api.edit({ revision: 'r2', module: { activation: 'Live' as const, path: next, image: 'r/ip-vs:2' } });
    await look(agent);
    expect([...node.machine.modules.delivered.keys()].sort()).toEqual([next, PATH]);
    expect(api.status?.module?.file).toMatchObject({ path: next, state: 'Found' });
    api.edit({
      action: 'Revert',
      revision: 'native',
      module: { activation: 'Live' as const, path: next },
      disruptionGrant: { revision: 'native', expiresAt: '2026-01-02T04:00:00Z' },
    });
    await look(agent, 2);
    expect(api.status?.appliedRevision).toBe('native');
    expect([...node.machine.modules.delivered.keys()]).toEqual([]);
    expect(api.status?.module?.file).toEqual({ path: next, state: 'Missing' });
  });
});
