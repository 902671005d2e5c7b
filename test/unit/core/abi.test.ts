// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as abi from '../../../src/core/abi.ts';

const HEADER = readFileSync(join(import.meta.dirname, '../../../bpf/abi.h'), 'utf8');

function constant(name: string): number {
  return Number(new RegExp(`#define ${name} (\\w+)`).exec(HEADER)?.[1]);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

describe('the contract in bpf/abi.h', () => {
  it('has the constants of the codecs', () => {
    expect(abi.ABI_VERSION).toBe(constant('IPVS_BPF_ABI'));
    expect(abi.SERVICE_ID_MAX).toBe(constant('IPVS_SERVICE_ID_MAX'));
    expect(abi.SNAT_ADDRESSES).toBe(constant('IPVS_SNAT_ADDRS'));
    expect(abi.PORT_RANGES).toBe(constant('IPVS_PORT_RANGES'));
  });

  it('has the counters in this order', () => {
    const body = /enum ipvs_counter \{([^}]*)\}/.exec(HEADER)?.[1] ?? '';
    const names = [...body.matchAll(/IPVS_COUNT_(\w+)/g)].map(([, name = '']) =>
      name.toLowerCase().replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    );
    expect(names.length).toBeGreaterThan(10);
    expect(abi.COUNTERS).toEqual(names);
  });
});

describe('addresses', () => {
  it.each([
    ['192.0.2.1', 'c0000201', '192.0.2.1'],
    ['::', '00000000000000000000000000000000', '::'],
    ['::1', '00000000000000000000000000000001', '::1'],
    ['2001:DB8::0:1', '20010db8000000000000000000000001', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '20010000000000010000000000000001', '2001:0:0:1::1'],
    ['1::', '00010000000000000000000000000000', '1::'],
    ['::ffff:192.0.2.1', '00000000000000000000ffffc0000201', '::ffff:c000:201'],
  ])('parses %s', (text, bytes, canonical) => {
    expect(hex(abi.addressBytes(text))).toBe(bytes);
    expect(abi.canonicalAddress(text)).toBe(canonical);
  });

  it('parses what Node takes for an address, and nothing else', () => {
    const character = fc.constantFrom(...'0123456789abcf:.'.split(''));
    const text = fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: character, maxLength: 40 }));
    const check = (candidate: string): void => {
      const valid = isIPv4(candidate) || isIPv6(candidate);
      if (valid)
        expect(abi.addressBytes(abi.canonicalAddress(candidate))).toEqual(abi.addressBytes(candidate));
      else expect(() => abi.addressBytes(candidate)).toThrow(RangeError);
    };
    fc.assert(fc.property(text, check), { numRuns: 2000 });
  });

  it('maps IPv4 into 16 bytes and back', () => {
    expect(hex(abi.mappedBytes('192.0.2.1'))).toBe('00000000000000000000ffffc0000201');
    expect(abi.formatMapped(abi.mappedBytes('192.0.2.1'))).toBe('192.0.2.1');
    expect(abi.formatMapped(abi.mappedBytes('fd00::1'))).toBe('fd00::1');
  });
});

describe('codecs', () => {
  it('lays out struct ipvs_service_key and ipvs_service', () => {
    const key = { address: '192.0.2.1', port: 8080, protocol: 'UDP' } as const;
    expect(hex(abi.encodeServiceKey(key))).toBe('00000000000000000000ffffc00002011f901100');
    expect(abi.decodeServiceKey(abi.encodeServiceKey(key))).toEqual(key);
    const value = { id: 0x010203, snat: 'Always', dropOnFull: true } as const;
    expect(hex(abi.encodeService(value))).toBe('0302010006000000');
    expect(abi.decodeService(abi.encodeService(value))).toEqual(value);
    expect(() => abi.encodeService({ ...value, id: abi.SERVICE_ID_MAX + 1 })).toThrow(RangeError);
  });

  it('lays out SNAT addresses and interfaces', () => {
    expect(hex(abi.encodeSnatAddress('fd00::1'))).toBe('fd0000000000000000000000000000010a000000');
    expect(abi.decodeSnatAddress(abi.encodeSnatAddress('192.0.2.1'))).toBe('192.0.2.1');
    expect(abi.decodeSnatAddress(new Uint8Array(20))).toBeUndefined();
    expect(hex(abi.encodeSnatInterface(258, 'IPv4'))).toBe('0201000002000000');
    expect(abi.decodeSnatInterface(abi.encodeSnatInterface(3, 'IPv6'))).toEqual({
      ifindex: 3,
      family: 'IPv6',
    });
  });

  it.each([
    ['10.1.2.3/8', '10.0.0.0/8', '6800000000000000000000000000ffff0a000000'],
    ['0.0.0.0/0', '0.0.0.0/0', '6000000000000000000000000000ffff00000000'],
    ['192.0.2.1/32', '192.0.2.1/32', '8000000000000000000000000000ffffc0000201'],
    ['fd00:1::ff/8', 'fd00::/8', '08000000fd000000000000000000000000000000'],
    ['::/0', '::/0', '0000000000000000000000000000000000000000'],
  ])('lays out the prefix %s', (text, canonical, bytes) => {
    expect(hex(abi.encodePrefix(text))).toBe(bytes);
    expect(abi.canonicalPrefix(text)).toBe(canonical);
  });

  it.each(['10.0.0.0', '10.0.0.0/33', '::/129', '10.0.0.0/8/8', '10.0.0.0/', 'x/8', '10.0.0.0/-1'])(
    'refuses the prefix "%s"',
    (text) => {
      expect(() => abi.encodePrefix(text)).toThrow(RangeError);
    },
  );

  it('lays out port ranges and refuses what is not ascending and disjoint', () => {
    const ranges = [
      { first: 1024, last: 2000 },
      { first: 3000, last: 65535 },
    ];
    expect(hex(abi.encodePortRanges(ranges))).toBe('0004d007b80bffff0000000000000000');
    expect(abi.decodePortRanges(abi.encodePortRanges(ranges))).toEqual(ranges);
    const bad = [
      [],
      [{ first: 0, last: 5 }],
      [{ first: 6, last: 5 }],
      ranges.toReversed(),
      [{ first: 1, last: 65536 }],
    ];
    for (const list of bad) expect(() => abi.encodePortRanges(list)).toThrow(RangeError);
  });
});
