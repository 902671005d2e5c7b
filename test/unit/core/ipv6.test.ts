// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { needsRoutes, planSnat } from '../../../src/core/interfaces.ts';
import { desiredServices } from '../../../src/core/virtual-servers.ts';
import type { Link, LinkAddress, Route } from '../../../src/ports.ts';
import { nodeConfig, virtualServer, virtualServer6 } from '../builders.ts';

describe('IPv6 addresses for SNAT', () => {
  const link = (index: number, name: string, type = 'ether'): Link => ({
    index,
    name,
    type,
    up: true,
    mtu: 1500,
  });
  const address = (linkIndex: number, text: string, change: Partial<LinkAddress> = {}): LinkAddress => ({
    linkIndex,
    address: text,
    prefixLength: 64,
    family: text.includes(':') ? 'IPv6' : 'IPv4',
    scope: text.startsWith('fe80:') ? 'link' : 'global',
    secondary: false,
    ...change,
  });
  const route = (destination: string, linkIndex: number, source?: string): Route => ({
    destination,
    linkIndex,
    viaGateway: true,
    ...(source === undefined ? {} : { source }),
  });
  const links = [
    link(1, 'lo', 'loopback'),
    link(2, 'kube-ipvs0', 'dummy'),
    link(3, 'eth0'),
    link(4, 'cali1', 'veth'),
  ];
  const used = (addresses: readonly LinkAddress[], routes: readonly Route[] = []) => {
    const covered = links.filter(({ index }) => index > 2);
    const virtualAddresses = new Set(['2001:db8::10']);
    const input = { covered, links, addresses, routes, virtualAddresses, existing: [] };
    const plan = planSnat({ ...input, families: ['IPv6'] });
    const byId = new Map(plan.newAddresses.map((entry) => [entry.id, entry.address]));
    expect(plan.interfaces.every(({ family }) => family === 'IPv6')).toBe(true);
    return Object.fromEntries(
      plan.interfaces.map(({ ifindex, addressId }) => [ifindex, byId.get(addressId)]),
    );
  };
  const A = '2001:db8::1';
  const B = '2001:db8::2';
  const both = (one: string | undefined) => (one === undefined ? {} : { 3: one, 4: one });

  it.each<[string, readonly LinkAddress[], readonly Route[], string | undefined]>([
    ['the one that is global', [address(3, 'fe80::1'), address(3, A)], [], A],
    ['a unique local one', [address(3, 'fd00::1')], [], 'fd00::1'],
    ['none that is link-local', [address(3, 'fe80::1')], [], undefined],
    ['none that is tentative', [address(3, A, { tentative: true })], [], undefined],
    ['none that is deprecated', [address(3, A, { deprecated: true }), address(3, B)], [], B],
    ['none that is temporary', [address(3, A, { secondary: true }), address(3, B)], [], B],
    ['none of IPv4', [address(3, '192.0.2.1')], [], undefined],
    ['a virtual one only for want of another', [address(3, '2001:db8::10'), address(3, B)], [], B],
    ['the first of several', [address(3, A), address(3, B)], [], A],
    ['the one that the default route names', [address(3, A), address(3, B)], [route('::/0', 3, B)], B],
    [
      'the one of the default route before that of others',
      [address(3, A), address(3, B)],
      [route('fd00::/8', 3, A), route('::/0', 3, B)],
      B,
    ],
    ['the one that another route names', [address(3, A), address(3, B)], [route('fd00::/8', 3, B)], B],
    ['one of loopback that a route names', [address(3, A), address(1, B)], [route('::/0', 3, B)], B],
    ['none of kube-ipvs0, whatever names it', [address(3, A), address(2, B)], [route('::/0', 3, B)], A],
    ['none that is gone, whatever names it', [address(3, A)], [route('::/0', 3, B)], A],
    [
      'none that is tentative, whatever names it',
      [address(3, A), address(3, B, { tentative: true })],
      [route('::/0', 3, B)],
      A,
    ],
  ])('are %s', (_, addresses, routes, expected) => {
    expect(used(addresses, routes)).toEqual(both(expected));
  });

  it('go by the family: each interface has one of each', () => {
    const addresses = [address(3, '192.0.2.1'), address(3, A), address(4, 'fd00::1')];
    const input = {
      covered: links.slice(2),
      links,
      addresses,
      routes: [],
      virtualAddresses: new Set<string>(),
    };
    const plan = planSnat({ ...input, families: ['IPv4', 'IPv6'], existing: [] });
    expect(plan.newAddresses.map((entry) => entry.address)).toEqual(['192.0.2.1', A, 'fd00::1']);
    expect(plan.interfaces).toEqual([
      { ifindex: 3, family: 'IPv4', addressId: 1 },
      { ifindex: 4, family: 'IPv4', addressId: 1 },
      { ifindex: 3, family: 'IPv6', addressId: 2 },
      { ifindex: 4, family: 'IPv6', addressId: 3 },
    ]);
  });

  it.each<[string, readonly LinkAddress[], boolean, boolean]>([
    [
      'one of each family on each',
      [3, 4].flatMap((i) => [address(i, `192.0.2.${i}`), address(i, `fd00::${i}`)]),
      false,
      false,
    ],
    [
      'none of IPv6 on one',
      [address(3, '192.0.2.3'), address(3, A), address(4, '192.0.2.4'), address(4, 'fe80::4')],
      false,
      true,
    ],
    [
      'two of each family on one',
      [
        address(3, '192.0.2.3'),
        address(3, '192.0.2.4'),
        address(3, A),
        address(3, B),
        address(4, '192.0.2.5'),
        address(4, 'fd00::4'),
      ],
      false,
      true,
    ],
    ['none of IPv4', [address(3, A), address(4, B)], true, false],
  ])('need routes, or do not, with %s', (_, addresses, four, six) => {
    expect(needsRoutes(links, addresses, 'IPv4')).toBe(four);
    expect(needsRoutes(links, addresses, 'IPv6')).toBe(six);
  });
});

describe('a whitelist of both families', () => {
  it.each([
    { name: 'all', services: { all: true } },
    {
      name: 'named ones, one of which IPVS does not have yet',
      services: {
        virtualServers: ['192.0.2.1', '2001:db8::1', '2001:db8::2', 'fe80::1'].map((address) => ({
          address,
          port: 80,
          protocol: 'TCP',
        })),
      },
    },
  ])(
    'holds virtual servers of both families, IPv6 ones where the machine forwards it: $name',
    ({ services }) => {
      const both = [virtualServer('192.0.2.1'), virtualServer6('2001:db8::1')];
      const config = nodeConfig({ services });
      const listed = (ip6Forward: boolean) =>
        desiredServices(config, both, { ip6Forward }).map(({ address }) => address);
      const missing = services.all === true ? [] : ['2001:db8::2'];
      expect(listed(true)).toEqual(['192.0.2.1', '2001:db8::1', ...missing]);
      expect(listed(false)).toEqual(['192.0.2.1']);
    },
  );
});
