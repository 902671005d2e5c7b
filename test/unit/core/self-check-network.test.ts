// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { canonicalAddress } from '../../../src/core/abi.ts';
import {
  ALL_TEST_ADDRESSES,
  alone,
  freeTestAddresses,
  inPair,
  isTestServer,
  linkLocals,
  outageProbeServer,
  selfCheckServer,
  testFamily,
} from '../../../src/core/self-check-network.ts';
import type { LinkAddress } from '../../../src/ports.ts';

function taken(...addresses: readonly string[]): LinkAddress[] {
  return addresses.map((address) => ({
    linkIndex: 2,
    address,
    prefixLength: 64,
    family: address.includes(':') ? 'IPv6' : 'IPv4',
    scope: address.startsWith('fe80:') ? 'link' : address === '127.0.0.1' ? 'host' : 'global',
    secondary: false,
  }));
}

describe("the node's own test network", () => {
  it.each([
    ['without addresses', [], 'IPv4'],
    ['of IPv4', ['192.0.2.1'], 'IPv4'],
    ['of both families', ['192.0.2.1', '2001:db8::1'], 'IPv4'],
    ['of IPv6', ['2001:db8::1'], 'IPv6'],
    ['of IPv6 and of loopback and link', ['127.0.0.1', 'fe80::1', '2001:db8::1'], 'IPv6'],
    ['of IPv6 with a DNS cache', ['169.254.20.10', 'fd00::1'], 'IPv6'],
    ['of a link only', ['fe80::1'], 'IPv4'],
  ] as const)('on a machine with addresses %s is of the right family', (_, addresses, family) => {
    expect(testFamily(taken(...addresses))).toBe(family);
  });

  it.each([
    ['the first', ['10.0.0.1'], '198.19.255.241'],
    ['the second', ['198.19.255.7'], '198.18.255.241'],
    ['the first of IPv6', ['2001:db8::1'], '2001:2:0:ffff::241'],
    ['the second of IPv6', ['2001:2:0:ffff:1::1'], '2001:2:0:fffe::241'],
    ['the third of IPv6', ['2001:2:0:ffff::1', '2001:2:0:fffe::1'], '2001:db8:ffff:ffff::241'],
  ] as const)('is %s that nobody has', (_, addresses, virtual) => {
    expect(freeTestAddresses(taken(...addresses)).virtual).toBe(virtual);
  });

  it('is of the family that is asked for', () => {
    expect(freeTestAddresses(taken('192.0.2.1'), 'IPv6').client).toBe('2001:2:0:ffff::242');
    expect(freeTestAddresses(taken('2001:db8::1'), 'IPv4').client).toBe('198.19.255.242');
  });

  it('is none where all are taken, which is said with them', () => {
    expect(() => freeTestAddresses(taken('198.19.255.1', '198.18.255.1', '192.0.2.1'))).toThrow(
      '198.19.255.0/24, 198.18.255.0/24, 192.0.2.0/24',
    );
    const six = ['2001:2:0:ffff::1', '2001:2:0:fffe::1', '2001:db8:ffff:ffff::1'];
    expect(() => freeTestAddresses(taken(...six))).toThrow(
      '2001:2:0:ffff::/64, 2001:2:0:fffe::/64, 2001:db8:ffff:ffff::/64',
    );
  });

  it('has addresses as the kernel prints them, and virtual servers that are found again', () => {
    for (const addresses of ALL_TEST_ADDRESSES) {
      for (const address of Object.values(addresses)) expect(canonicalAddress(address)).toBe(address);
      for (const server of [selfCheckServer(addresses), outageProbeServer(addresses, 'rr')]) {
        const six = addresses.virtual.includes(':');
        expect(isTestServer(server)).toBe(true);
        expect(server).toMatchObject(
          six ? { family: 'IPv6', netmask: 128 } : { family: 'IPv4', netmask: 0xffffffff },
        );
        expect(server.realServers.map(({ family }) => family)).toEqual([server.family]);
      }
    }
    expect(ALL_TEST_ADDRESSES).toHaveLength(6);
  });

  it('has prefixes of two hosts and of one', () => {
    const { virtual, client } = freeTestAddresses([], 'IPv6');
    expect([inPair(virtual), inPair(client), alone(virtual)]).toEqual([
      '2001:2:0:ffff::241/126',
      '2001:2:0:ffff::242/126',
      '2001:2:0:ffff::241/128',
    ]);
    expect(linkLocals(virtual)).toEqual(['fe80::241/64']);
    expect([inPair('192.0.2.241'), alone('192.0.2.241')]).toEqual(['192.0.2.241/30', '192.0.2.241/32']);
    expect(linkLocals('192.0.2.241')).toEqual([]);
  });
});
