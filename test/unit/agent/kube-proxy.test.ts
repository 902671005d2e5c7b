// SPDX-License-Identifier: Apache-2.0
/** The module is exchanged under a running kube-proxy. */
import { beforeEach, describe, expect, it } from 'vitest';
import { down, status, stepsUp, up } from '../../../src/agent/reconcile.ts';
import { HostError } from '../../../src/core/errors.ts';
import { PreflightFailed } from '../../../src/core/outcome.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, virtualServer } from '../builders.ts';

const CONFIG = nodeConfig({
  services: { virtualServers: [{ address: '198.51.100.10', port: 80, protocol: 'TCP' }] },
});
const FAMILY_ID = 31;
const PID = 4711;

function worker(): FakeNode {
  const node = fakeNode();
  const { ipvs, kubeProxy } = node.machine;
  ipvs.seed(virtualServer('198.51.100.10'), virtualServer('198.51.100.11', { scheduler: 'sh' }));
  ipvs.connections = 7;
  kubeProxy.start(PID);
  return node;
}

async function expectUntouched(node: FakeNode, where = ''): Promise<void> {
  const { ipvs, kubeProxy } = node.machine;
  expect(await kubeProxy.frozen(), where).toEqual([]);
  expect(await ipvs.familyId(), where).toBe(FAMILY_ID);
  expect(ipvs.table, where).toHaveLength(2);
  expect(node.records.frozen, where).toBeUndefined();
}

let node: FakeNode;
beforeEach(() => {
  node = worker();
});

function newerModule(): void {
  const { modules, patchedModule } = node.machine;
  const file = modules.files.get(patchedModule);
  if (file !== undefined) modules.files.set(patchedModule, { ...file, srcversion: 'NEWER' });
}

describe('an exchange under kube-proxy', () => {
  it('happens while it stands still, and leaves it the id that it knows', async () => {
    const { steps } = await up(CONFIG, node);
    const kinds = steps.map(({ kind }) => kind);
    expect(kinds.slice(kinds.indexOf('freezeProxy'), kinds.indexOf('flush') + 1)).toEqual([
      'freezeProxy',
      'blockAutoload',
      'startOutageProbe',
      'saveTable',
      'aimFamilyId',
      'readModule',
      'trackSessions',
      'holdTraffic',
      'saveConnections',
      'flush',
    ]);
    expect(kinds.indexOf('thawProxy')).toBeGreaterThan(kinds.indexOf('forgetTable'));
    expect(kinds.slice(-3)).toEqual(['freezeProxy', 'selfCheck', 'thawProxy']);
    await expectUntouched(node);
    await down(node, 0);
    await expectUntouched(node);
    expect(node.records.isEmpty).toBe(true);
  });

  it('of a module that programs call has others loaded first, and then such as call the new one', async () => {
    await up(CONFIG, node);
    expect(node.machine.datapath.usesModule).toBe(true);
    newerModule();
    const { steps } = await up(CONFIG, node);
    const kinds = steps.map(({ kind }) => kind);
    expect(kinds.slice(0, 3)).toEqual(['releaseModule', 'attach', 'freezeProxy']);
    expect(kinds.indexOf('loadDatapath')).toBeGreaterThan(kinds.indexOf('thawProxy'));
    expect(node.machine.modules.loadedFile('ip_vs')?.srcversion).toBe('NEWER');
    expect(node.machine.datapath.usesModule).toBe(true);
    expect((await up(CONFIG, node)).steps).toEqual([]);
  });

  it.each(['modules.insertFile', 'datapath.giveMapsToModule', 'host.writeSysctl net/ipv4/vs/bpf_mode=1'])(
    'leaves no program that calls the module when %s fails',
    async (method) => {
      await up(CONFIG, node);
      newerModule();
      node.machine.calls.fail(method, new HostError('it does not work', { code: 'SystemError' }));
      await expect(up(CONFIG, node)).rejects.toThrow('it does not work');
      expect(node.machine.datapath.usesModule).toBe(false);
      expect(node.machine.modules.loadedFile('ip_vs')?.srcversion).toBe('INTREEIP_VS');
      await up(CONFIG, node);
      expect(node.machine.datapath.usesModule).toBe(true);
    },
  );

  it('takes along what kube-proxy changed until it stood still', async () => {
    const { kubeProxy, ipvs } = node.machine;
    const freeze = kubeProxy.freeze.bind(kubeProxy);
    kubeProxy.freeze = async (process) => {
      if (node.records.saved === undefined) ipvs.seed(virtualServer('198.51.100.12'));
      await freeze(process);
    };
    await up(CONFIG, node);
    expect(ipvs.table.map(({ address }) => address)).toEqual([
      '198.51.100.10',
      '198.51.100.11',
      '198.51.100.12',
    ]);
  });

  it('tells how long nobody answered, how many probes were lost and how many connections ended', async () => {
    const { modules, connections } = node.machine;
    const restore = connections.restore.bind(connections);
    connections.restore = async (lines) => restore(lines.slice(0, 4));
    const insert = modules.insertFile.bind(modules);
    modules.insertFile = async (file) => {
      await node.ports.clock.sleep(200);
      await insert(file);
    };
    await up(CONFIG, node);
    expect(node.records.disruption).toMatchObject({
      measuredBy: 'Probe',
      outageMilliseconds: 210,
      probesLost: 21,
      connectionsDropped: 3,
    });
    expect(node.records.disruption).not.toHaveProperty('message');
  });

  it('goes by the clock if there can be no probe, and says why', async () => {
    node.outageProbe.problem = 'no free network';
    await up(CONFIG, node);
    expect(node.records.disruption).toMatchObject({
      measuredBy: 'Timestamps',
      message: 'no free network',
      connectionsDropped: 0,
    });
    expect(node.records.disruption?.outageMilliseconds).toBeGreaterThanOrEqual(0);
    await expectUntouched(node);
  });

  it('ends the probe when a step of the way back fails', async () => {
    await up(CONFIG, node);
    node.machine.calls.fail('modules.load', new HostError('broken', { code: 'SystemError' }));
    await expect(down(node, 0)).rejects.toThrow('broken');
    expect(node.machine.calls.changes).toContain('outageProbe.abort');
    await down(node, 0);
    await expectUntouched(node);
  });

  it('is repeated if another family took the id meanwhile', async () => {
    const { modules } = node.machine;
    const aim = modules.aimFamilyId.bind(modules);
    let aimed = 0;
    modules.aimFamilyId = async (id) => {
      await aim(id);
      aimed += 1;
      if (aimed === 1) modules.takeFamilyId();
    };
    await up(CONFIG, node);
    expect(aimed).toBe(2);
    await expectUntouched(node);
  });

  it('is undone, with the old id, if the id cannot be had', async () => {
    const { modules } = node.machine;
    const aim = modules.aimFamilyId.bind(modules);
    let aimed = 0;
    modules.aimFamilyId = async (id) => {
      await aim(id);
      aimed += 1;
      if (aimed <= 3) modules.takeFamilyId();
    };
    await expect(up(CONFIG, node)).rejects.toThrow('did not get the id 31 again');
    await expectUntouched(node);
    expect(modules.loadedFile('ip_vs')?.patched).toBeUndefined();
  });

  it('does not begin if kube-proxy does not stop', async () => {
    node.machine.kubeProxy.stubborn = true;
    await expect(up(CONFIG, node)).rejects.toThrow('does not stop');
    await expectUntouched(node);
    expect(node.machine.calls.changes).not.toContain('ipvs.flush');
  });

  it('does not begin without a way to keep the id', async () => {
    node.machine.modules.hasFamilyIdHelper = false;
    const error = await up(CONFIG, node).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PreflightFailed);
    expect((error as PreflightFailed).checks).toContainEqual(
      expect.objectContaining({ check: 'FamilyId', result: 'Fail' }),
    );
  });

  it('lets kube-proxy go on when going down fails', async () => {
    await up(CONFIG, node);
    node.machine.calls.fail('modules.load ip_vs', new HostError('it does not work', { code: 'SystemError' }));
    await expect(down(node, 0)).rejects.toThrow('it does not work');
    expect(await node.machine.kubeProxy.frozen()).toEqual([]);
    await down(node, 0);
    await expectUntouched(node);
  });

  it('is held up by no process that is gone, whose id another one has now', async () => {
    const gone = { pid: PID, startTime: '1' };
    node.records.frozen = { bootId: node.machine.host.boot, processes: [gone] };
    const [freeze] = (await stepsUp(CONFIG, node)).filter(({ kind }) => kind === 'freezeProxy');
    expect(freeze).toMatchObject({ processes: [{ pid: PID, startTime: String(PID * 100) }, gone] });
    await up(CONFIG, node);
    await expectUntouched(node);
  });

  it('warns of another mode', async () => {
    node.machine.kubeProxy.proxyMode = 'nftables';
    const { warnings } = await up(CONFIG, node);
    expect(warnings).toContainEqual(expect.objectContaining({ check: 'ProxyMode' }));
  });
});

describe('after a crash', () => {
  it.each(['up', 'down'] as const)('in %s, kube-proxy goes on and knows the id', async (verb) => {
    const act = (one: FakeNode) => (verb === 'up' ? up(CONFIG, one) : down(one, 0));
    const prepare = async (one: FakeNode) => {
      if (verb === 'down') await up(CONFIG, one);
      one.machine.calls.reset();
    };
    await prepare(node);
    await act(node);
    const total = node.machine.calls.changes.length;
    expect(total).toBeGreaterThan(20);
    for (let index = 0; index < total; index += 1) {
      for (const moment of ['before', 'after'] as const) {
        const where = `${verb} killed ${moment} change ${index}`;
        const one = worker();
        await prepare(one);
        one.machine.calls.crashAt(index, moment);
        await act(one).catch(() => {});
        one.machine.calls.reset();
        await up(CONFIG, one);
        await expectUntouched(one, where);
        expect((await status(CONFIG, one)).differences, where).toEqual([]);
        await down(one, 0);
        await expectUntouched(one, where);
        expect(one.records.isEmpty, where).toBe(true);
      }
    }
  });
});
