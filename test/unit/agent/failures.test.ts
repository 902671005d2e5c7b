// SPDX-License-Identifier: Apache-2.0
/** What an agent does when it cannot do what its IpvsBpfNode asks, and after its own end at any point. */
import { beforeEach, describe, expect, it } from 'vitest';
import { HostError } from '../../../src/core/errors.ts';
import { PATCHED_SRCVERSION } from '../../fakes/fake-machine.ts';
import { SECOND_REVISION } from './one-node.ts';
import { api, freshScene, look, modeOf, node, origin, started } from './scene.ts';

beforeEach(freshScene);

describe('a failure', () => {
  const failure = new HostError('it does not work', { code: 'SystemError' });

  it('rolls the node back, and is not tried again before the operator asks', async () => {
    node.machine.calls.fail('modules.insertFile', failure);
    const agent = await started();
    await look(agent);
    expect(origin()).toBe('INTREEIP_VS');
    expect(api.condition('Ready')).toBe('False RolledBack');
    expect(api.condition('ModulePatched')).toBe('False InsertFailed');
    expect(api.status).toMatchObject({
      attempt: 1,
      appliedRevision: 'native',
      lastFailure: { step: 'insertModule', revision: 'r1', rollback: 'Succeeded' },
    });
    await look(agent, 2);
    expect(origin()).toBe('INTREEIP_VS');
    api.edit({ attempt: 2 });
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status?.lastFailure).toBeUndefined();
  });

  it('of the probe stops at the first rung that holds', async () => {
    node.machine.calls.fail('selfCheck.run', failure, 5);
    const agent = await started();
    await look(agent);
    expect(origin()).toBe(PATCHED_SRCVERSION);
    expect(modeOf()).toBe('0');
    expect(api.status?.lastFailure).toMatchObject({
      step: 'selfCheck',
      reason: 'ProbeFailed',
      rung: 'SwitchOff',
      rollback: 'Succeeded',
    });
    expect(api.status?.appliedRevision).toBe('off');
    expect(api.condition('Validated')).toBe('False ProbeFailed');
    await look(agent, 2);
    expect(modeOf()).toBe('0');
    node.machine.calls.reset();
    api.spec = { ...api.spec, attempt: 2 };
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(node.machine.calls.changes).not.toContain('ipvs.flush');
  });

  it('of a new revision leaves the old one in force, with its whitelist', async () => {
    const agent = await started();
    await look(agent);
    api.edit(SECOND_REVISION);
    node.machine.calls.fail('ipvs.flush', failure);
    await look(agent);
    expect(api.condition('Ready')).toBe('False RolledBack');
    api.services = [];
    await look(agent, 2);
    expect(api.status).toMatchObject({ appliedRevision: 'r1', sessionMap: { maxEntries: 4096 } });
    expect(await node.machine.datapath.services()).toEqual([]);
    expect(modeOf()).toBe('1');
  });

  it('of every probe ends with the module of the kernel', async () => {
    node.machine.calls.fail('selfCheck.run', failure, 99);
    node.machine.calls.fail('selfCheck.runNative', failure, 4);
    await look(await started());
    expect(origin()).toBe('INTREEIP_VS');
    expect(api.status).toMatchObject({ appliedRevision: 'native', lastFailure: { rung: 'ModuleRestored' } });
    expect(await node.machine.kubeProxy.frozen()).toEqual([]);
    expect(node.machine.ipvs.table).toHaveLength(2);
  });

  it('of a later probe takes an accelerating node down', async () => {
    const agent = await started();
    await look(agent);
    await node.ports.clock.sleep(61_000);
    node.machine.calls.fail('selfCheck.run', failure, 2);
    await look(agent);
    expect(modeOf()).toBe('0');
    expect(api.status?.lastFailure).toMatchObject({ rung: 'SwitchOff' });
    expect(api.condition('Ready')).toBe('False RolledBack');
  });

  it('of one Service leaves that one on the native path', async () => {
    node.machine.calls.fail('datapath.putService', failure);
    const agent = await started();
    await look(agent, 2);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status?.services).toMatchObject({ rejected: 1, virtualServers: 1 });
    expect(api.status?.rejectedServices).toMatchObject([{ name: 'web', reason: 'ProbeFailed' }]);
    expect(api.status?.lastFailure).toMatchObject({ rung: 'ServiceOff', step: 'putService' });
  });
});

describe('an agent that was killed', () => {
  it('goes on from every change on, without a grant, and lets kube-proxy go on', async () => {
    await look(await started());
    const total = node.machine.calls.changes.length;
    expect(total).toBeGreaterThan(20);
    for (let index = 0; index < total; index += 1) {
      freshScene();
      node.machine.calls.reset();
      node.machine.calls.crashAt(index, 'after');
      await look(await started()).catch(() => {});
      node.machine.calls.reset();
      const agent = await started();
      await look(agent, 2);
      const where = `killed after change ${index}`;
      expect(api.condition('Ready'), where).toBe('True Accelerating');
      expect(await node.machine.kubeProxy.frozen(), where).toEqual([]);
      expect(await node.machine.ipvs.familyId(), where).toBe(31);
    }
  });
});

describe('a node that cannot be looked at', () => {
  const unreadable = new HostError('list interfaces: EMFILE', { code: 'SystemError' });

  it('is not Ready from the second failure on, and Ready again with the next look that works', async () => {
    const agent = await started();
    await look(agent, 2);
    const before = api.status?.conditions ?? [];
    node.machine.calls.fail('links.list', unreadable, 2);
    await expect(look(agent)).rejects.toThrow('EMFILE');
    expect(api.status?.conditions).toEqual(before);
    await expect(look(agent)).rejects.toThrow('EMFILE');
    expect(api.condition('Ready')).toBe('Unknown LookFailed');
    expect(api.status?.conditions?.[0]?.message).toContain('list interfaces: EMFILE');
    expect(api.status?.conditions?.slice(1)).toEqual(before.slice(1));
    expect(modeOf()).toBe('1');
    await look(agent);
    expect(api.condition('Ready')).toBe('True Accelerating');
  });

  it('says so before it was ever looked at', async () => {
    node.machine.calls.fail('links.list', unreadable, 99);
    const agent = await started();
    for (let i = 0; i < 3; i += 1) await look(agent).catch(() => {});
    expect(api.condition('Ready')).toBe('Unknown LookFailed');
    expect(api.condition('PreflightPassed')).toBe('Unknown Reconciling');
  });
});
