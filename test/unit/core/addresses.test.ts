// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePrefix, mappedBytes } from '../../../src/core/abi.ts';
import { endText, isLinkLocal, isMapped, unmapped } from '../../../src/core/addresses.ts';
import { withoutMapped } from '../../../src/core/prefixes.ts';

describe('an address', () => {
  it.each([
    ['192.0.2.1', false, false, '192.0.2.1'],
    ['169.254.0.1', false, false, '169.254.0.1'],
    ['2001:DB8:0::1', false, false, '2001:db8::1'],
    ['fe80::1', true, false, 'fe80::1'],
    ['febf:ffff::', true, false, 'febf:ffff::'],
    ['fec0::1', false, false, 'fec0::1'],
    ['fd00::1', false, false, 'fd00::1'],
    ['::ffff:192.0.2.1', false, true, '192.0.2.1'],
    ['::ffff:c000:201', false, true, '192.0.2.1'],
    ['::192.0.2.1', false, false, '::c000:201'],
    ['::1:ffff:192.0.2.1', false, false, '::1:ffff:c000:201'],
  ])('%s: link-local %s, IPv4-mapped %s, %s', (address, linkLocal, mapped, text) => {
    expect(isLinkLocal(address)).toBe(linkLocal);
    expect(isMapped(address)).toBe(mapped);
    expect(unmapped(address)).toBe(text);
  });

  it.each(['', 'x', '192.0.2', ':::', 'fe80::g'])('is refused if it is none: "%s"', (text) => {
    expect(() => unmapped(text)).toThrow(RangeError);
  });

  it('is written with a port as everybody does', () => {
    expect(endText('192.0.2.1', 80)).toBe('192.0.2.1:80');
    expect(endText('2001:db8::1', 80)).toBe('[2001:db8::1]:80');
  });
});

describe('prefixes in a map of both families', () => {
  const holds = (prefix: string, address: string): boolean => {
    const bytes = encodePrefix(prefix);
    const bits = new DataView(bytes.buffer).getUint32(0, true);
    const found = mappedBytes(address);
    return Array.from({ length: bits }, (_, i) => i).every((i) => {
      const mask = 0x80 >> (i & 7);
      return ((bytes[4 + (i >> 3)] ?? 0) & mask) === ((found[i >> 3] ?? 0) & mask);
    });
  };

  it.each([
    ['10.0.0.0/8', 1],
    ['0.0.0.0/0', 1],
    ['fd00::/8', 1],
    ['2000::/3', 1],
    ['::fffe:0:0/96', 1],
    ['::fffe:0:0/95', 1],
    ['::/80', 16],
    ['::/0', 96],
  ])('%s are %i', (prefix, count) => {
    expect(withoutMapped(prefix)).toHaveLength(count);
  });

  it('hold the IPv6 addresses that they should, and none of IPv4', () => {
    const near = fc.constantFrom('::1', '::fffe:0:0', '::1:0:0:0', '0:0:0:1::', '8000::', '::fffe:ffff:ffff');
    const six = fc.oneof(near, fc.ipV6()).filter((address) => !isMapped(address));
    fc.assert(
      fc.property(six, fc.ipV4(), fc.integer({ min: 0, max: 80 }), (address, four, bits) => {
        const all = withoutMapped(`::/${bits}`);
        expect(all.some((prefix) => holds(prefix, address))).toBe(holds(`::/${bits}`, address));
        expect(all.some((prefix) => holds(prefix, four))).toBe(false);
      }),
    );
  });
});
