// SPDX-License-Identifier: Apache-2.0
/** IPv6 and dual-stack Services on a node, and IPv6 virtual servers of a director. */
import { beforeEach, describe, expect, it } from 'vitest';
import { status, up } from '../../../src/agent/reconcile.ts';
import type { SliceService } from '../../../src/api/resources.ts';
import { PreflightFailed } from '../../../src/core/outcome.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, realServer, virtualServer, virtualServer6 } from '../builders.ts';
import { director, TABLE } from './director.ts';
import { VIP } from './one-node.ts';
import { api, freshScene, look, node, started } from './scene.ts';

const VIP6 = 'fd00:10:96::a';
const NODE6 = '2001:db8:1::1';
const FORWARDING = 'net/ipv6/conf/all/forwarding';

const DUAL: SliceService = {
  namespace: 'shop',
  name: 'web',
  virtualServers: [{ addresses: [VIP, VIP6], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'External' }],
  nodePorts: [{ port: 30080, protocol: 'TCP', snatMode: 'Always' }],
};

/** "INTERFACE ADDRESS" of the SNAT addresses of a family. */
async function snat({ machine }: FakeNode, family: 'IPv4' | 'IPv6'): Promise<readonly string[]> {
  const { links, datapath } = machine;
  const names = new Map((await links.list()).map(({ index, name }) => [index, name]));
  const addresses = new Map((await datapath.snatAddresses()).map(({ id, address }) => [id, address]));
  return (await datapath.snatInterfaces())
    .filter((entry) => entry.family === family)
    .map(({ ifindex, addressId }) => `${names.get(ifindex)} ${addresses.get(addressId)}`)
    .sort();
}

const whitelist = async ({ machine }: FakeNode) =>
  (await machine.datapath.services()).map(({ address, port }) => `${address} ${port}`).sort();

const routeReads = ({ machine }: FakeNode) =>
  machine.calls.log.filter((call) => call.startsWith('links.routes'));

describe('a dual-stack Service on a node', () => {
  beforeEach(() => {
    freshScene();
    api.services = [DUAL];
    api.edit({ snat: { mode: 'External', clusterCIDRs: ['10.244.0.0/16', 'fd00:10:244::/56'] } });
    node.machine.ipvs.seed(virtualServer6(VIP6), virtualServer6(NODE6, { port: 30080 }));
    // kube-proxy's dummy has the virtual addresses of both families.
    node.machine.links.add({ name: 'kube-ipvs0', type: 'dummy' }, `${VIP}/32`, `${VIP6}/128`);
  });

  it('runs accelerated at the addresses and node ports of both families', async () => {
    const agent = await started();
    await look(agent);
    expect(await whitelist(node)).toEqual(
      [`${VIP} 80`, `${VIP6} 80`, '192.0.2.1 30080', `${NODE6} 30080`].sort(),
    );
    expect(await node.machine.datapath.clusterPrefixes()).toEqual(['10.244.0.0/16', 'fd00:10:244::/56']);
    expect(await snat(node, 'IPv4')).toEqual(['eth0 192.0.2.1', 'eth1 198.51.100.1']);
    expect(await snat(node, 'IPv6')).toEqual([`eth0 ${NODE6}`, `eth1 ${NODE6}`]);
    expect(api.status?.services).toMatchObject({ accelerated: 1, rejected: 0, virtualServers: 4 });
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.condition('PreflightPassed')).toBe('True AllChecksPassed');
    node.machine.calls.reset();
    await look(agent, 3);
    expect(node.machine.calls.changes).toEqual([]);
  });

  it('is probed in both families', async () => {
    await look(await started(), 3);
    const probed = node.machine.calls.changes.filter((change) => change.startsWith('serviceProbe.run'));
    expect(probed.join()).toContain(`TCP ${VIP6} 80`);
    expect(probed.join()).toContain(`TCP ${NODE6} 30080`);
  });

  it('goes back to the native path as a whole if its IPv6 virtual server does not work', async () => {
    node.serviceProbe.broken.add(`TCP ${VIP6} 80`);
    await look(await started(), 3);
    expect(await whitelist(node)).toEqual([]);
    expect(api.status?.rejectedServices).toMatchObject([{ name: 'web', reason: 'ProbeFailed' }]);
  });

  it('runs accelerated with IPv4 only as long as the node does not forward IPv6', async () => {
    node.machine.host.control(FORWARDING, '0');
    const agent = await started();
    await look(agent);
    expect(await whitelist(node)).toEqual([`${VIP} 80`, '192.0.2.1 30080'].sort());
    expect(api.status?.rejectedServices).toMatchObject([
      { name: 'web', reason: 'IPv6ForwardingOff', message: expect.stringContaining(VIP6) },
    ]);
    expect(api.condition('PreflightPassed')).toBe('True PassedWithWarnings');
    expect(api.status?.preflight).toContainEqual(
      expect.objectContaining({ check: 'Forwarding', result: 'Warn' }),
    );
    node.machine.host.control(FORWARDING, '1');
    await look(agent);
    expect(await whitelist(node)).toHaveLength(4);
    expect(api.status?.rejectedServices).toEqual([]);
    node.machine.host.control(FORWARDING, '0');
    await look(agent);
    expect(await whitelist(node)).toHaveLength(2);
  });

  it('leaves node ports at link-local addresses to the native path', async () => {
    const { links, ipvs } = node.machine;
    links.addAddress(2, 'fe80::2/64');
    ipvs.seed(virtualServer6('fe80::2', { port: 30080 }));
    await look(await started());
    expect(await whitelist(node)).toHaveLength(4);
    expect(api.status?.rejectedServices).toEqual([]);
  });

  it('tells what a pod sees that reaches itself by IPv6', async () => {
    // The builders' real servers are fd00:10::1 and fd00:10::2.
    node.machine.links.add({ name: 'cni0', type: 'bridge' }, 'fd00:10::ff/64');
    api.services = [{ ...DUAL, virtualServers: [{ ...http(), addresses: [VIP6] }], nodePorts: [] }];
    const agent = await started();
    await look(agent);
    expect(api.status?.selfAccess).toMatchObject([{ name: 'web', sourceAddress: 'fd00:10::ff' }]);
  });

  function http() {
    const [first] = DUAL.virtualServers;
    if (first === undefined) throw new Error('no ports');
    return first;
  }
});

describe('a node with addresses of IPv6 only', () => {
  beforeEach(() => {
    freshScene();
    const { links, host, ipvs } = node.machine;
    for (const name of ['eth0', 'eth1']) links.drop(name);
    links.add({ name: 'eth0' }, '2001:db8:5::1/64', 'fe80::1/64');
    host.control('net/ipv4/ip_forward', '0');
    ipvs.seed(virtualServer6(VIP6));
    api.services = [
      {
        namespace: 'shop',
        name: 'web',
        virtualServers: [{ addresses: [VIP6], ports: [{ port: 80, protocol: 'TCP' }], snatMode: 'Always' }],
        nodePorts: [],
      },
    ];
  });

  it('accelerates without forwarding IPv4', async () => {
    for (const server of node.machine.ipvs.table) {
      if (server.family === 'IPv4') node.machine.ipvs.unseed(server);
    }
    await look(await started());
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.condition('PreflightPassed')).toBe('True AllChecksPassed');
    expect(await snat(node, 'IPv6')).toEqual(['eth0 2001:db8:5::1']);
  });

  it('is not changed if it does not forward IPv6', async () => {
    node.machine.host.control(FORWARDING, '0');
    await look(await started());
    expect(api.condition('PreflightPassed')).toBe('False ForwardingOff');
    expect(await node.machine.datapath.state()).toBeUndefined();
    expect(api.status?.rejectedServices).toMatchObject([{ name: 'web' }]);
  });
});

describe('IPv6 virtual servers of a director', () => {
  const server6 = virtualServer6('2001:db8:1::10');
  const config = nodeConfig({ services: { all: true } });

  it('are taken with all others, and have SNAT addresses as long as there are some', async () => {
    const machine = director(...TABLE, server6);
    await up(config, machine);
    expect(await whitelist(machine)).toEqual(['198.51.100.10 80', '198.51.100.11 53', '2001:db8:1::10 80']);
    expect(await snat(machine, 'IPv6')).toEqual([`eth0 ${NODE6}`, `eth1 ${NODE6}`]);
    const reported = (await status(config, machine)).status.virtualServers;
    expect(reported.find(({ address }) => address === '2001:db8:1::10')).toEqual({
      address: '2001:db8:1::10',
      port: 80,
      protocol: 'TCP',
      accelerated: true,
      reason: 'Accelerated',
    });
    machine.machine.ipvs.unseed(server6);
    await up(config, machine);
    expect(await whitelist(machine)).toEqual(['198.51.100.10 80', '198.51.100.11 53']);
    expect(await snat(machine, 'IPv6')).toEqual([]);
    expect((await up(config, machine)).steps).toEqual([]);
  });

  it('have the address that a route names, and IPv6 routes are read for them only', async () => {
    const machine = director(...TABLE);
    await up(config, machine);
    expect(routeReads(machine)).toEqual([]);
    const { links, ipvs } = machine.machine;
    links.addAddress(3, '2001:db8:1::2/64');
    links.addRoute('::/0', 'eth1', true, '2001:db8:1::2');
    ipvs.seed(server6);
    await up(config, machine);
    await up(config, machine);
    expect(new Set(routeReads(machine))).toEqual(new Set(['links.routes IPv6']));
    expect(await snat(machine, 'IPv6')).toEqual(['eth0 2001:db8:1::2', 'eth1 2001:db8:1::2']);
  });

  it('are warned about if no interface has a global IPv6 address', async () => {
    const machine = director(...TABLE, server6);
    const { links } = machine.machine;
    links.drop('eth1');
    links.addAddress(2, 'fe80::2/64');
    const outcome = await up(config, machine);
    expect(outcome.warnings).toMatchObject([
      { check: 'Interfaces', message: expect.stringContaining('no global IPv6 address for eth0') },
    ]);
    expect(await snat(machine, 'IPv6')).toEqual([]);
  });

  it('stay native if their real servers are of IPv4, and are called what they are', async () => {
    const realServers = [realServer('10.0.0.1', { forwardingMethod: 2 })];
    const machine = director(
      virtualServer6('2001:db8:1::10', { realServers }),
      virtualServer('198.51.100.10'),
    );
    await up(config, machine);
    expect(await whitelist(machine)).toEqual(['198.51.100.10 80']);
    const { virtualServers } = (await status(config, machine)).status;
    expect(virtualServers.map(({ address, reason }) => `${address} ${reason}`).sort()).toEqual([
      '198.51.100.10 Accelerated',
      '2001:db8:1::10 NotMasquerading',
    ]);
  });

  it('keep IPv4 clients translated whatever IPv6 prefixes are in the cluster', async () => {
    const machine = director(...TABLE, server6);
    await up(
      nodeConfig({ services: { all: true }, snat: { mode: 'External', clusterCIDRs: ['::/0'] } }),
      machine,
    );
    const prefixes = await machine.machine.datapath.clusterPrefixes();
    expect(prefixes).toContain('8000::/1');
    expect(prefixes.filter((prefix) => prefix === '::/0' || prefix.startsWith('0.0.0.0'))).toEqual([]);
    expect(prefixes).toHaveLength(96);
  });

  it('need no IPv4 forwarding on a machine that has IPv6 only, and IPv6 forwarding', async () => {
    const machine = fakeNode();
    const { links, host, ipvs } = machine.machine;
    for (const name of ['eth0', 'eth1']) links.drop(name);
    links.add({ name: 'eth0' }, '2001:db8:5::1/64');
    ipvs.seed(server6);
    host.control('net/ipv4/ip_forward', '0');
    expect((await up(config, machine)).warnings).toEqual([]);
    host.control(FORWARDING, '0');
    await expect(up(config, machine)).rejects.toThrow(PreflightFailed);
  });
});
