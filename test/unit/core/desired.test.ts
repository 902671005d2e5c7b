// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coveredLinks, matchesPattern, planSnat } from '../../../src/core/interfaces.ts';
import { snatPortRanges } from '../../../src/core/port-pool.ts';
import { desiredServices, diffServices, obstacle } from '../../../src/core/virtual-servers.ts';
import type { ServiceEntry } from '../../../src/datapath-ports.ts';
import type { Link, LinkAddress } from '../../../src/ports.ts';
import { nodeConfig, realServer, virtualServer, virtualServer6 } from '../builders.ts';

describe('SNAT ports', () => {
  it.each([
    { name: 'the defaults', local: '32768\t60999', reserved: '', expected: '1024-29999 61000-65535' },
    {
      name: 'reserved ports',
      local: '32768\t60999',
      reserved: '8080,9000-9100',
      expected: '1024-8079 8081-8999 9101-29999 61000-65535',
    },
    {
      name: 'more than four ranges: the largest',
      local: '32768 60999',
      reserved: '2000,3000,4000,5000',
      expected: '2001-2999 3001-3999 5001-29999 61000-65535',
    },
    { name: 'nothing left', local: '1024 65535', reserved: '', expected: '' },
  ])('are what the host leaves: $name', ({ local, reserved, expected }) => {
    expect(
      snatPortRanges(local, reserved)
        .map(({ first, last }) => `${first}-${last}`)
        .join(' '),
    ).toBe(expected);
  });

  it('never meet what is taken, ascend and are at most four', () => {
    const port = fc.integer({ min: 1, max: 65535 });
    const range = fc.tuple(port, port).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
    fc.assert(
      fc.property(range, fc.array(range, { maxLength: 8 }), (local, reserved) => {
        const text = reserved.map(({ first, last }) => `${first}-${last}`).join(',');
        const ranges = snatPortRanges(`${local.first}\t${local.last}`, text);
        expect(ranges.length).toBeLessThanOrEqual(4);
        let previous = 1023;
        for (const { first, last } of ranges) {
          expect(first).toBeGreaterThan(previous);
          expect(last).toBeGreaterThanOrEqual(first);
          previous = last;
          for (const taken of [local, { first: 30000, last: 32767 }, ...reserved]) {
            expect(taken.last < first || taken.first > last).toBe(true);
          }
        }
        expect(previous).toBeLessThanOrEqual(65535);
      }),
    );
  });
});

describe('covered interfaces', () => {
  const link = (index: number, name: string, change: Partial<Link> = {}): Link => ({
    index,
    name,
    type: 'ether',
    up: true,
    mtu: 1500,
    ...change,
  });
  const links = [
    link(1, 'lo', { type: 'loopback' }),
    link(2, 'eth0'),
    link(3, 'eth1', { up: false }),
    link(4, 'br0', { type: 'bridge' }),
    link(5, 'port0', { masterIndex: 4 }),
    link(6, 'bond0', { type: 'bond' }),
    link(7, 'slave0', { masterIndex: 6 }),
    link(8, 'vrf0', { type: 'vrf' }),
    link(9, 'eth2', { masterIndex: 8 }),
    link(10, 'kube-ipvs0', { type: 'dummy' }),
    link(11, 'ipvsbpf-chk0', { type: 'veth' }),
    link(12, 'veth12', { type: 'veth' }),
    link(13, 'tunl0', { type: 'ipip' }),
  ];
  it.each([
    { name: 'by themselves', rules: {}, expected: 'eth0 br0 bond0 vrf0 eth2 veth12' },
    { name: 'without excluded ones', rules: { exclude: ['veth*', 'b?0'] }, expected: 'eth0 bond0 vrf0 eth2' },
    {
      name: 'with included ones',
      rules: { include: ['port*'] },
      expected: 'eth0 br0 port0 bond0 vrf0 eth2 veth12',
    },
    {
      name: 'only included ones',
      rules: { autoDetect: 'Disabled', include: ['eth*'] },
      expected: 'eth0 eth2',
    },
    {
      name: 'exclude wins',
      rules: { autoDetect: 'Disabled', include: ['eth*'], exclude: ['eth2'] },
      expected: 'eth0',
    },
  ])('are found $name', ({ rules, expected }) => {
    const { interfaces } = nodeConfig({ datapath: { interfaces: rules } }).datapath;
    expect(
      coveredLinks(interfaces, links)
        .map(({ name }) => name)
        .join(' '),
    ).toBe(expected);
  });

  it('match patterns letter by letter otherwise', () => {
    expect(matchesPattern('eth0.10', 'eth0.*')).toBe(true);
    expect(matchesPattern('eth0x10', 'eth0.*')).toBe(false);
    expect(matchesPattern('eth10', 'eth?')).toBe(false);
  });

  const address = (linkIndex: number, text: string, change: Partial<LinkAddress> = {}): LinkAddress => ({
    linkIndex,
    address: text,
    prefixLength: 24,
    family: 'IPv4',
    scope: 'global',
    secondary: false,
    ...change,
  });

  it('get one address each, a virtual one only for want of another', () => {
    const plan = planSnat({
      families: ['IPv4'],
      covered: [link(2, 'eth0'), link(3, 'eth1'), link(4, 'eth2')],
      addresses: [
        address(2, '198.51.100.10'),
        address(2, '192.0.2.2', { secondary: true }),
        address(2, '192.0.2.1'),
        address(3, '198.51.100.10'),
        address(4, '169.254.0.1', { scope: 'link' }),
      ],
      links: [],
      routes: [],
      virtualAddresses: new Set(['198.51.100.10']),
      existing: [{ id: 1, address: '203.0.113.1' }],
    });
    expect(plan.newAddresses).toEqual([
      { id: 2, address: '192.0.2.1' },
      { id: 3, address: '198.51.100.10' },
    ]);
    expect(plan.interfaces).toEqual([
      { ifindex: 2, family: 'IPv4', addressId: 2 },
      { ifindex: 3, family: 'IPv4', addressId: 3 },
    ]);
    expect(plan.withoutAddress.map(({ link: { name }, family }) => `${name} ${family}`)).toEqual([
      'eth2 IPv4',
    ]);
  });

  describe('without an address of their own', () => {
    const pod = link(9, 'cali9', { type: 'veth' });
    const all = [
      link(1, 'lo', { type: 'loopback' }),
      link(2, 'kube-ipvs0', { type: 'dummy' }),
      link(3, 'dns', { type: 'dummy' }),
      link(4, 'eth0'),
      link(5, 'eth1'),
      link(6, 'eth2', { up: false }),
      pod,
    ];
    const addresses = [
      address(1, '203.0.113.1'),
      address(2, '10.96.0.1'),
      address(3, '169.254.20.10'),
      address(6, '192.0.2.6'),
      address(5, '192.0.2.5'),
      address(4, '192.0.2.4'),
    ];
    const route = (linkIndex: number, destination = '0.0.0.0/0') => ({
      destination,
      linkIndex,
      viaGateway: true,
    });
    const without = (...indexes: readonly number[]) =>
      addresses.filter(({ linkIndex }) => !indexes.includes(linkIndex));
    it.each([
      { name: 'of the default route', addresses, routes: [route(5)], expected: '192.0.2.5' },
      { name: 'of the first default route', addresses, routes: [route(4), route(5)], expected: '192.0.2.4' },
      {
        name: 'of the first interface, without a default route',
        addresses,
        routes: [route(5, '10.0.0.0/8')],
        expected: '192.0.2.4',
      },
      {
        name: 'of the first that has one, if the default route has none',
        addresses: without(4),
        routes: [route(4)],
        expected: '192.0.2.5',
      },
      {
        name: 'of a dummy interface for want of another',
        addresses: without(4, 5),
        routes: [],
        expected: '169.254.20.10',
      },
      { name: 'never of loopback and kube-ipvs0', addresses: without(3, 4, 5), routes: [route(1), route(2)] },
    ])('they get the one $name', ({ addresses: found, routes, expected }) => {
      // kube-proxy has virtual servers at the node's own addresses too: node ports.
      const virtualAddresses = new Set(['10.96.0.1', '192.0.2.4', '192.0.2.5']);
      const input = { covered: [pod], links: all, addresses: found, routes, virtualAddresses };
      const plan = planSnat({ ...input, families: ['IPv4'], existing: [] });
      expect(plan.newAddresses.map((entry) => entry.address)).toEqual(
        expected === undefined ? [] : [expected],
      );
      expect(plan.withoutAddress).toEqual(expected === undefined ? [{ link: pod, family: 'IPv4' }] : []);
    });
  });
});

describe('a virtual server', () => {
  it.each([
    { name: 'plain', server: virtualServer('192.0.2.1'), expected: undefined },
    {
      name: 'persistent',
      server: virtualServer('192.0.2.1', { flags: 1, timeoutSeconds: 300 }),
      expected: undefined,
    },
    {
      name: 'without real servers',
      server: virtualServer('192.0.2.1', { realServers: [] }),
      expected: undefined,
    },
    { name: 'IPv6', server: virtualServer6('2001:db8::1'), expected: undefined },
    { name: 'unique local', server: virtualServer6('fd00::1'), expected: undefined },
    { name: 'link-local', server: virtualServer6('fe80::1'), expected: 'LinkLocalAddress' },
    { name: 'the last link-local', server: virtualServer6('febf::1'), expected: 'LinkLocalAddress' },
    { name: 'after link-local ones', server: virtualServer6('fec0::1'), expected: undefined },
    { name: 'IPv4-mapped', server: virtualServer6('::ffff:c000:201'), expected: 'MappedAddress' },
    {
      name: 'of both families, which IPVS can reach by tunnel only',
      server: virtualServer6('2001:db8::1', {
        realServers: [realServer('10.0.0.1', { forwardingMethod: 2 })],
      }),
      expected: 'NotMasquerading',
    },
    { name: 'SCTP', server: virtualServer('192.0.2.1', { protocol: 'SCTP' }), expected: undefined },
    {
      name: 'one packet',
      server: virtualServer('192.0.2.1', { protocol: 'UDP', flags: 4 }),
      expected: 'OnePacketScheduling',
    },
    { name: 'by mark', server: virtualServer('0.0.0.0', { fwmark: 7, port: 0 }), expected: 'FirewallMark' },
    { name: 'any port', server: virtualServer('192.0.2.1', { port: 0, flags: 1 }), expected: 'AnyPort' },
    {
      name: 'with an engine',
      server: virtualServer('192.0.2.1', { persistenceEngine: 'sip' }),
      expected: 'PersistenceEngine',
    },
    {
      name: 'with one tunnel',
      server: virtualServer('192.0.2.1', {
        realServers: [realServer('10.0.0.1'), realServer('10.0.0.2', { forwardingMethod: 2 })],
      }),
      expected: 'NotMasquerading',
    },
  ])('can run accelerated or says why not: $name', ({ server, expected }) => {
    expect(obstacle(server)).toBe(expected);
  });
});

describe('the whitelist', () => {
  const forwarding = { ip6Forward: true };
  const table = [
    virtualServer('192.0.2.1'),
    virtualServer('192.0.2.2', { protocol: 'UDP', port: 53 }),
    virtualServer('192.0.2.3', { flags: 4, protocol: 'UDP' }),
  ];

  it('holds all that can run accelerated, if all are asked for', () => {
    const config = nodeConfig({ services: { all: true }, datapath: { onMapFull: 'Drop' } });
    expect(desiredServices(config, table, forwarding)).toEqual([
      { address: '192.0.2.1', port: 80, protocol: 'TCP', snat: 'Always', dropOnFull: true },
      { address: '192.0.2.2', port: 53, protocol: 'UDP', snat: 'Always', dropOnFull: true },
    ]);
  });

  it('holds named ones, also before IPVS has them, each with its own SNAT mode', () => {
    const virtualServers = [
      { address: '192.0.2.1', port: 80, protocol: 'TCP', snat: { mode: 'Never' } },
      { address: '192.0.2.9', port: 80, protocol: 'TCP' },
      { address: '192.0.2.3', port: 80, protocol: 'UDP' },
    ];
    expect(desiredServices(nodeConfig({ services: { virtualServers } }), table, forwarding)).toEqual([
      { address: '192.0.2.1', port: 80, protocol: 'TCP', snat: 'Never', dropOnFull: false },
      { address: '192.0.2.9', port: 80, protocol: 'TCP', snat: 'Always', dropOnFull: false },
    ]);
  });

  it('never gives an id to a second virtual server, and needs no second change', () => {
    const service = fc.record({
      address: fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3'),
      port: fc.constantFrom(80, 443),
      protocol: fc.constant('TCP' as const),
      snat: fc.constantFrom('Always' as const, 'Never' as const),
      dropOnFull: fc.boolean(),
    });
    const wishes = fc.uniqueArray(service, { selector: ({ address, port }) => `${address} ${port}` });
    fc.assert(
      fc.property(fc.array(wishes, { minLength: 1, maxLength: 6 }), (rounds) => {
        const owners = new Map<number, string>();
        let actual: ServiceEntry[] = [];
        let lastId = 0;
        for (const desired of rounds) {
          const { put, remove } = diffServices(desired, actual, lastId);
          const changed = [...remove, ...put.map(({ entry }) => entry)].map(
            ({ address, port }) => `${address} ${port}`,
          );
          actual = [
            ...actual.filter(({ address, port }) => !changed.includes(`${address} ${port}`)),
            ...put.map(({ entry }) => entry),
          ];
          for (const { id, address, port } of actual) {
            expect(owners.get(id) ?? `${address} ${port}`).toBe(`${address} ${port}`);
            owners.set(id, `${address} ${port}`);
            lastId = Math.max(lastId, id);
          }
          expect(actual.map(({ id, ...rest }) => rest)).toEqual(expect.arrayContaining([...desired]));
          expect(actual).toHaveLength(desired.length);
          expect(diffServices(desired, actual, lastId)).toEqual({ put: [], remove: [] });
        }
      }),
    );
  });
});
