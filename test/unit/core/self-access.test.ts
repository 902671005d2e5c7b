// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { longestMatch } from '../../../src/core/route-table.ts';
import { type SelfAccess, type SelfAccessInput, selfAccess } from '../../../src/core/self-access.ts';
import { virtualServerKey } from '../../../src/core/virtual-servers.ts';
import type { Link, LinkAddress, Route, VirtualServer } from '../../../src/ports.ts';
import { realServer, virtualServer } from '../builders.ts';

const THEN = '2026-01-01T00:00:00Z';
const NOW = '2026-01-02T00:00:00Z';

const ETH0 = 2;
const CNI0 = 5;
const VETH = 6;
const CALI = 7;

function link(index: number, name: string, type: string): Link {
  return { index, name, type, up: true, mtu: 1500 };
}

function address(linkIndex: number, text: string, prefixLength: number): LinkAddress {
  const family = text.includes(':') ? 'IPv6' : 'IPv4';
  return { linkIndex, address: text, prefixLength, family, scope: 'global', secondary: false };
}

function route(destination: string, linkIndex: number, viaGateway = false): Route {
  return { destination, linkIndex, viaGateway };
}

/** A node with an uplink, a bridge of pods, and pods with interfaces of their own, one of them without an address. */
const LINKS = [
  link(ETH0, 'eth0', 'ether'),
  link(CNI0, 'cni0', 'bridge'),
  link(VETH, 'veth1', 'veth'),
  link(CALI, 'cali1', 'veth'),
];
const ADDRESSES = [
  address(ETH0, '192.0.2.1', 24),
  address(CNI0, '10.244.1.1', 24),
  address(VETH, '10.245.0.1', 32),
  address(ETH0, '2001:db8::1', 64),
  address(CNI0, 'fd00:244:1::1', 64),
];
const ROUTES = [
  route('0.0.0.0/0', ETH0, true),
  route('192.0.2.0/24', ETH0),
  route('10.244.1.0/24', CNI0),
  route('10.244.0.0/16', ETH0, true),
  route('10.245.0.9/32', VETH),
  route('10.246.0.9/32', CALI),
  route('::/0', ETH0, true),
  route('2001:db8::/64', ETH0),
  route('fd00:244:1::/64', CNI0),
  route('fd00:244::/56', ETH0, true),
  route('fd00:245::9/128', VETH),
];
const DATAPATH = {
  snatAddresses: [
    { id: 1, address: '192.0.2.1' },
    { id: 2, address: '10.244.1.1' },
    { id: 3, address: '10.245.0.1' },
    { id: 4, address: '2001:db8::1' },
    { id: 5, address: 'fd00:244:1::1' },
  ],
  snatInterfaces: [
    { ifindex: ETH0, family: 'IPv4', addressId: 1 },
    { ifindex: CNI0, family: 'IPv4', addressId: 2 },
    { ifindex: VETH, family: 'IPv4', addressId: 3 },
    { ifindex: ETH0, family: 'IPv6', addressId: 4 },
    { ifindex: CNI0, family: 'IPv6', addressId: 5 },
  ],
} as unknown as NonNullable<SelfAccessInput['facts']['datapath']>;

interface Scene {
  readonly servers: readonly (readonly [name: string, server: VirtualServer])[];
  readonly routes?: readonly Route[];
  readonly previous?: readonly SelfAccess[];
  readonly namespace?: string;
}

function listed({ servers, routes = ROUTES, previous = [], namespace = 'shop' }: Scene): SelfAccess[] {
  return selfAccess({
    accelerated: servers.map(([name, server]) => ({ namespace, name, key: virtualServerKey(server) })),
    facts: {
      links: LINKS,
      addresses: ADDRESSES,
      datapath: DATAPATH,
      ipvs: {
        familyId: 31,
        daemons: [],
        timeouts: { tcpSeconds: 900, tcpFinSeconds: 120, udpSeconds: 300 },
        virtualServers: servers.map(([, server]) => server),
      },
    },
    routes,
    previous,
    time: NOW,
  });
}

/** A virtual server with pods at these addresses. */
function server(virtual: string, ...pods: readonly string[]): VirtualServer {
  return virtualServer(virtual, { realServers: pods.map((pod) => realServer(pod)) });
}

const sources = (...pods: readonly string[]) =>
  listed({ servers: [['web', server('10.96.0.1', ...pods)]] }).map(({ sourceAddress }) => sourceAddress);

describe('self-access', () => {
  it.each([
    ['behind the bridge sees the bridge', '10.244.1.7', ['10.244.1.1']],
    ['with an interface of its own sees the address there', '10.245.0.9', ['10.245.0.1']],
    ['whose interface has no address is not listed: nothing is translated there', '10.246.0.9', []],
    ['of another node is not listed', '10.244.2.7', []],
    ['that is this node is not listed', '192.0.2.1', []],
    ['that is this node, on the bridge, is not listed', '10.244.1.1', []],
    ['that is another machine on the link is not listed', '192.0.2.9', []],
    ['elsewhere is not listed', '203.0.113.1', []],
    ['of IPv6 behind the bridge sees the bridge', 'fd00:244:1::7', ['fd00:244:1::1']],
    ['of IPv6 whose interface has an address of IPv4 only is not listed', 'fd00:245::9', []],
    ['of IPv6 of another node is not listed', 'fd00:244:2::7', []],
    ['of IPv6 that is another machine on the link is not listed', '2001:db8::9', []],
  ])('of a real server %s', (_, pod, expected) => {
    expect(sources(pod)).toEqual(expected);
  });

  it('says what, and since now', () => {
    expect(listed({ servers: [['web', server('10.96.0.1', '10.244.2.7', '10.244.1.7')]] })).toEqual([
      {
        namespace: 'shop',
        name: 'web',
        reason: 'SelfAccessTranslated',
        sourceAddress: '10.244.1.1',
        since: NOW,
      },
    ]);
  });

  it('is told once a family, IPv4 first', () => {
    const servers = [
      ['web', server('2001:db8:96::1', 'fd00:244:1::7')],
      ['web', server('10.96.0.1', '10.244.1.7')],
    ] as const;
    const seen = listed({ servers }).map(({ name, sourceAddress }) => [name, sourceAddress]);
    expect(seen).toEqual([
      ['web', '10.244.1.1'],
      ['web', 'fd00:244:1::1'],
    ]);
  });

  it('is of pods that get connections', () => {
    const ending = virtualServer('10.96.0.1', { realServers: [realServer('10.244.1.7', { weight: 0 })] });
    expect(listed({ servers: [['web', ending]] })).toEqual([]);
  });

  it('takes a bridge that leads to a gateway for an uplink', () => {
    const routes = [...ROUTES, route('198.51.100.0/24', CNI0, true)];
    expect(listed({ servers: [['web', server('10.96.0.1', '10.244.1.7')]], routes })).toEqual([]);
  });

  it('goes by the longest prefix, as the kernel does', () => {
    const routes = [...ROUTES, route('10.244.1.64/26', ETH0, true)];
    const scene = (pod: string) => listed({ servers: [['web', server('10.96.0.1', pod)]], routes });
    expect(scene('10.244.1.65')).toEqual([]);
    expect(scene('10.244.1.7')).toHaveLength(1);
  });

  it('keeps its time as long as nothing changes', () => {
    const servers = [['web', server('10.96.0.1', '10.244.1.7')]] as const;
    const [entry] = listed({ servers });
    if (entry === undefined) throw new Error('nothing is listed');
    const since = (previous: SelfAccess, namespace = 'shop') =>
      listed({ servers, namespace, previous: [previous] })[0]?.since;
    expect(since({ ...entry, since: THEN })).toBe(THEN);
    expect(since({ ...entry, since: THEN, sourceAddress: '10.244.1.2' })).toBe(NOW);
    expect(since({ ...entry, since: THEN, reason: 'Another' })).toBe(NOW);
    expect(since({ ...entry, since: THEN, name: 'api' })).toBe(NOW);
    expect(since({ ...entry, since: THEN }, 'other')).toBe(NOW);
  });

  it('is told once a Service, of the first twenty by name, in whatever order they are found', () => {
    const names = Array.from({ length: 25 }, (_, i) => `web-${String(i).padStart(2, '0')}`);
    const servers = names.flatMap((name, i) => [
      [name, server(`10.96.1.${i}`, '10.244.1.7', '10.245.0.9')] as const,
      [name, server(`10.96.2.${i}`, '10.245.0.9')] as const,
    ]);
    const expected = listed({ servers });
    expect(expected.map(({ name }) => name)).toEqual(names.slice(0, 20));
    expect(new Set(expected.map(({ sourceAddress }) => sourceAddress))).toEqual(new Set(['10.244.1.1']));
    fc.assert(
      fc.property(fc.shuffledSubarray(servers, { minLength: servers.length }), (shuffled) => {
        expect(listed({ servers: shuffled })).toEqual(expected);
      }),
      { numRuns: 20 },
    );
  });
});

describe('the route to an address', () => {
  const to = longestMatch([
    route('0.0.0.0/0', 1),
    route('128.0.0.0/1', 2),
    route('255.255.255.255/32', 3),
    route('255.255.255.255/32', 4),
    route('::/0', 5),
    route('8000::/1', 6),
    route('fd00:10:20::/44', 7),
    route('fd00:10:20::7/128', 8),
  ]);

  it.each([
    ['1.2.3.4', 1],
    ['127.255.255.255', 1],
    ['128.0.0.0', 2],
    ['255.255.255.254', 2],
    ['255.255.255.255', 3],
    ['2001:db8::1', 5],
    ['fd00:10:30::1', 6],
    ['fd00:10:2f:ffff::', 7],
    ['fd00:10:1f:ffff::', 6],
    ['fd00:10:20::7', 8],
    ['fd00:10:20::8', 7],
    ['::1.2.3.4', 5],
  ])('%s is by interface %i', (text, linkIndex) => {
    expect(to(text)?.linkIndex).toBe(linkIndex);
  });

  it('is none if no prefix holds it', () => {
    expect(longestMatch([route('0.0.0.0/0', 1)])('fd00::1')).toBeUndefined();
    expect(longestMatch([route('::/0', 1)])('192.0.2.1')).toBeUndefined();
    expect(longestMatch([])('192.0.2.1')).toBeUndefined();
  });
});
