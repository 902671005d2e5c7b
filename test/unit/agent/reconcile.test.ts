// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { down, status, up } from '../../../src/agent/reconcile.ts';
import { HostError } from '../../../src/core/errors.ts';
import { PreflightFailed, StepFailed } from '../../../src/core/outcome.ts';
import { PATCHED_SRCVERSION } from '../../fakes/fake-machine.ts';
import type { FakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, realServer, virtualServer } from '../builders.ts';
import { CONFIG, director, listing, TABLE } from './director.ts';

async function identity(node: FakeNode): Promise<unknown> {
  const state = await node.machine.datapath.state();
  return {
    programs: state?.programIds,
    maps: state?.mapIds,
    srcversion: node.machine.modules.loadedFile('ip_vs')?.srcversion,
  };
}

describe('up', () => {
  it('swaps the module, keeps the table, and turns the switch on at the end', async () => {
    const node = director(...TABLE);
    const before = node.machine.ipvs.table;
    const outcome = await up(CONFIG, node);
    expect(node.machine.modules.loadedFile('ip_vs')?.srcversion).toBe(PATCHED_SRCVERSION);
    expect(node.machine.ipvs.table).toEqual(before);
    expect(node.machine.host.sysctls.get('net/ipv4/vs/bpf_mode')).toBe('1');
    expect(node.machine.host.sysctls.get('net/ipv4/vs/expire_nodest_conn')).toBe('1');
    expect([...node.machine.modules.blocked]).toEqual([]);
    expect(outcome.connectionsLost).toBe(0);
    expect(outcome.steps.map(({ kind }) => kind)).toEqual([
      'recordBaseline',
      'loadDatapath',
      'attach',
      'attach',
      'attach',
      'blockAutoload',
      'startOutageProbe',
      'saveTable',
      'aimFamilyId',
      'readModule',
      'trackSessions',
      'holdTraffic',
      'saveConnections',
      'flush',
      'removeModule',
      'removeModule',
      'removeModule',
      'insertModule',
      'loadModule',
      'loadModule',
      'restoreTable',
      'restoreConnections',
      'releaseTraffic',
      'stopOutageProbe',
      'unblockAutoload',
      'forgetTable',
      'detach',
      'loadDatapath',
      'giveMaps',
      'putSnatAddress',
      'putSnatAddress',
      'putSnatInterface',
      'putSnatInterface',
      'putClusterPrefix',
      'attach',
      'attach',
      'putService',
      'writeSysctl',
      'setSwitch',
      'selfCheck',
    ]);
    expect(node.check.runs).toBe(1);
  });

  it('writes the ids of all new virtual servers down at once, before the first is used', async () => {
    const vips = ['198.51.100.11', '198.51.100.12', '198.51.100.13'];
    const node = director(...vips.map((vip) => virtualServer(vip)));
    const services = { virtualServers: vips.map((address) => ({ address, port: 80, protocol: 'TCP' })) };
    await up(nodeConfig({ services }), node);
    const calls = node.machine.calls.changes.filter((call) => /ServiceId|datapath.putService/.test(call));
    expect(calls).toEqual([
      'records.writeLastServiceId 3',
      'datapath.putService 6 198.51.100.11 80',
      'datapath.putService 6 198.51.100.12 80',
      'datapath.putService 6 198.51.100.13 80',
      'records.writeLastServiceId 4',
    ]);
    expect((await node.machine.datapath.services()).map(({ id }) => id).sort()).toEqual([1, 2, 3]);
  });

  it('changes nothing the second time', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    const before = await identity(node);
    node.machine.calls.reset();
    const outcome = await up(CONFIG, node);
    expect(outcome.steps).toEqual([]);
    expect(node.machine.calls.changes).toEqual([]);
    expect(await identity(node)).toEqual(before);
    expect(node.check.runs).toBe(1);
  });

  it('loads the patched module where there was none', async () => {
    const node = director();
    const outcome = await up(CONFIG, node);
    expect(node.machine.modules.loadedFile('ip_vs')?.srcversion).toBe(PATCHED_SRCVERSION);
    expect(outcome.connectionsLost).toBe(0);
  });

  it('adopts the right module and ends no connection', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    node.machine.datapath.strip(2);
    const outcome = await up(CONFIG, node);
    expect(outcome.connectionsLost).toBe(0);
    // The check goes through interfaces of its own: it has nothing to say about these, and needs kube-proxy halted.
    expect(outcome.steps.map(({ kind }) => kind)).toEqual(['attach', 'attach']);
  });

  it('gives an interface without an address the one of the default route, and reads routes only then', async () => {
    const node = director(...TABLE);
    const { links, datapath, calls } = node.machine;
    links.addRoute('0.0.0.0/0', 'eth1', true);
    await up(CONFIG, node);
    expect(calls.log.filter((call) => call.startsWith('links.routes'))).toEqual([]);
    const index = links.add({ name: 'cali1', type: 'veth' });
    expect((await up(CONFIG, node)).warnings).toEqual([]);
    const address = new Map((await datapath.snatAddresses()).map((entry) => [entry.id, entry.address]));
    const used = (await datapath.snatInterfaces()).find(({ ifindex }) => ifindex === index);
    expect(address.get(used?.addressId ?? 0)).toBe('198.51.100.1');
  });

  it('lets packets straight to the peer of a veth, unless somebody else has a program at its tc egress', async () => {
    const node = director(...TABLE);
    const { links, datapath } = node.machine;
    const [first, second] = ['veth1', 'veth2'].map((name) =>
      links.add({ name, type: 'veth' }, '10.244.0.1/32'),
    );
    const program = { kind: 'Clsact', name: 'policy' } as const;
    datapath.foreign = [
      { ...program, ifindex: first ?? 0, direction: 'Ingress' },
      { ...program, ifindex: second ?? 0, direction: 'Egress' },
    ];
    await up(CONFIG, node);
    expect(await datapath.peerInterfaces()).toEqual([first]);

    datapath.foreign = [{ ...program, ifindex: first ?? 0, direction: 'Egress' }];
    const outcome = await up(CONFIG, node);
    expect(outcome.steps).toMatchObject([
      { kind: 'removePeerInterface', name: 'veth1' },
      { kind: 'putPeerInterface', name: 'veth2' },
    ]);
    expect(await datapath.peerInterfaces()).toEqual([second]);

    links.drop('veth2');
    await up(CONFIG, node);
    expect(await datapath.peerInterfaces()).toEqual([]);
  });

  it('takes an interface that appeared', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    const index = node.machine.links.add({ name: 'eth2' }, '203.0.113.1/24');
    await up(CONFIG, node);
    expect(
      (await node.machine.datapath.attachments()).filter(({ ifindex }) => ifindex === index),
    ).toHaveLength(2);
    expect(await node.machine.datapath.snatAddresses()).toContainEqual({ id: 3, address: '203.0.113.1' });
  });

  it('makes new maps with a fresh module when their size changes', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    const table = node.machine.ipvs.table;
    await up({ ...CONFIG, datapath: { ...CONFIG.datapath, sessionMapMaxEntries: 2048 } }, node);
    expect((await node.machine.datapath.state())?.sessionMapMaxEntries).toBe(2048);
    expect(node.machine.ipvs.table).toEqual(table);
    expect(await node.machine.datapath.services()).toHaveLength(1);
  });

  it('only turns the switch off when the mode is Disabled', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    const outcome = await up({ ...CONFIG, mode: 'Disabled' }, node);
    expect(outcome.steps.map(({ kind }) => kind)).toEqual(['setSwitch']);
    expect((await up({ ...CONFIG, mode: 'Disabled' }, node)).steps).toEqual([]);
    expect((await status({ ...CONFIG, mode: 'Disabled' }, node)).differences).toEqual([]);
  });

  it('names every failed check and changes nothing', async () => {
    const node = director(...TABLE);
    node.machine.host.missing = ['root'];
    node.machine.host.btf = false;
    node.machine.host.otherNamespaces = ['4711'];
    node.machine.modules.files.clear();
    node.machine.calls.reset();
    const error = await up(CONFIG, node).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PreflightFailed);
    const failed = (error as PreflightFailed).checks.filter(({ result }) => result === 'Fail');
    expect(failed.map(({ check }) => check)).toEqual(['Root', 'Btf', 'ModuleFile', 'OtherNamespaces']);
    expect(node.machine.calls.changes).toEqual([]);
  });
});

describe('a step that fails', () => {
  const failures = [
    'modules.blockAutoload',
    'ipvs.flush',
    'modules.remove ip_vs',
    'modules.insertFile',
    'modules.load ip_vs_rr',
    'ipvs.restore',
    'modules.unblockAutoload',
    'datapath.load',
    'datapath.giveMapsToModule',
    'datapath.putSnatInterface',
    'datapath.putClusterPrefix',
    'datapath.attach 3 Egress',
    'datapath.putService',
    'host.writeSysctl net/ipv4/vs/expire_nodest_conn=1',
    'host.writeSysctl net/ipv4/vs/bpf_mode=1',
    'selfCheck.run',
  ];
  it.each(failures)('is undone together with all before it: %s', async (method) => {
    const node = director(...TABLE);
    const before = await listing(node);
    node.machine.calls.reset();
    node.machine.calls.fail(
      method,
      new HostError('it does not work', { code: 'SystemError', advice: 'Do this.' }),
    );
    const error = await up(CONFIG, node).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StepFailed);
    expect((error as StepFailed).rollback).toBe('Succeeded');
    expect((error as StepFailed).message).toMatch(
      /^step .* failed: it does not work\n.*undone\.\nDo this\.$/,
    );
    expect(await listing(node)).toEqual(before);
  });
});

describe('down', () => {
  it.each([
    { name: 'with virtual servers', table: TABLE },
    { name: 'where ip_vs was absent', table: [] },
  ])('leaves the machine as it was, $name', async ({ table }) => {
    const node = director(...table);
    const before = await listing(node);
    await up(CONFIG, node);
    await down(node, 0);
    expect(await listing(node)).toEqual(before);
    expect((await down(node, 0)).steps).toEqual([]);
  });

  it('keeps virtual servers that were added meanwhile', async () => {
    const node = director();
    await up(CONFIG, node);
    node.machine.ipvs.seed(TABLE[0] as (typeof TABLE)[0]);
    await down(node, 0);
    expect(node.machine.ipvs.table.map(({ address }) => address)).toEqual(['198.51.100.10']);
    expect(node.machine.modules.loadedFile('ip_vs')?.srcversion).toBe('INTREEIP_VS');
  });

  it('waits for sessions to end if asked to', async () => {
    const node = director(...TABLE);
    await up(CONFIG, node);
    node.machine.datapath.sessions = 1;
    await down(node, 5000);
    expect(node.ports.clock.now()).toBeGreaterThanOrEqual(5000);
  });
});

describe('status', () => {
  it('is complete after up, and names what is missing before', async () => {
    const node = director(...TABLE);
    expect((await status(CONFIG, node)).differences.length).toBeGreaterThan(5);
    await up(CONFIG, node);
    const { status: report, differences } = await status(CONFIG, node);
    expect(differences).toEqual([]);
    expect(report).toMatchObject({
      module: { origin: 'Patched', srcversion: PATCHED_SRCVERSION },
      switch: 'On',
      virtualServers: [
        { address: '198.51.100.10', accelerated: true, reason: 'Accelerated' },
        { address: '198.51.100.11', accelerated: false, reason: 'NotWhitelisted' },
      ],
      interfaces: [
        { name: 'eth0', attach: 'TCX', ingress: true, egress: true },
        { name: 'eth1', attach: 'TCX', ingress: true, egress: true },
      ],
      sysctls: [
        { name: 'conn_reuse_mode', desired: 1, actual: 1 },
        { name: 'expire_nodest_conn', desired: 1, actual: 1 },
      ],
    });
  });

  it('takes a named virtual server that cannot run accelerated for a difference', async () => {
    const tunnelled = virtualServer('198.51.100.10', {
      realServers: [realServer('10.0.0.1', { forwardingMethod: 2 })],
    });
    const node = director(tunnelled);
    await up(CONFIG, node);
    expect((await status(CONFIG, node)).differences).toEqual([
      'not accelerated: TCP 198.51.100.10 port 80: NotMasquerading',
    ]);
    expect(await node.machine.datapath.services()).toEqual([]);
  });
});
