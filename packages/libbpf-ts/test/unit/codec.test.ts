// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  array,
  be16,
  be32,
  be64,
  bool,
  bytes,
  type Codec,
  decode,
  encode,
  i8,
  i16,
  i32,
  i64,
  mapped,
  struct,
  u8,
  u16,
  u32,
  u64,
} from '../../src/index.ts';

const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');

describe('integers', () => {
  const cases = [
    { name: 'u8', codec: u8, value: 0xfe, bytes: 'fe' },
    { name: 'i8', codec: i8, value: -2, bytes: 'fe' },
    { name: 'u16', codec: u16, value: 0x1234, bytes: '3412' },
    { name: 'i16', codec: i16, value: -2, bytes: 'feff' },
    { name: 'u32', codec: u32, value: 0xdeadbeef, bytes: 'efbeadde' },
    { name: 'i32', codec: i32, value: -2, bytes: 'feffffff' },
    { name: 'u64', codec: u64, value: 0x0102030405060708n, bytes: '0807060504030201' },
    { name: 'i64', codec: i64, value: -2n, bytes: 'feffffffffffffff' },
    { name: 'be16', codec: be16, value: 0x1234, bytes: '1234' },
    { name: 'be32', codec: be32, value: 0x7f000001, bytes: '7f000001' },
    { name: 'be64', codec: be64, value: 1n, bytes: '0000000000000001' },
    { name: 'bool', codec: bool, value: true, bytes: '01' },
  ] as { name: string; codec: Codec<unknown>; value: unknown; bytes: string }[];

  it.each(cases)('$name is written and read back', ({ codec, value, bytes: expected }) => {
    expect(hex(encode(codec, value))).toBe(expected);
    expect(decode(codec, Buffer.from(expected, 'hex'))).toBe(value);
  });

  it.each([
    [u8, 256],
    [u8, -1],
    [i8, 128],
    [u16, 65536],
    [be16, 1.5],
    [u32, Number.NaN],
    [i32, 2 ** 31],
  ])('refuses what does not fit (%#)', (codec, value) => {
    expect(() => encode(codec, value)).toThrow(RangeError);
  });

  it('refuses bigints that do not fit 64 bits, and takes whole numbers', () => {
    expect(() => encode(u64, 2n ** 64n)).toThrow(RangeError);
    expect(() => encode(u64, -1n)).toThrow(RangeError);
    expect(() => encode(i64, 2n ** 63n)).toThrow(RangeError);
    expect(hex(encode(u64 as Codec<unknown>, 5))).toBe('0500000000000000');
  });
});

describe('struct', () => {
  const mixed = struct({ a: u8, b: u32, c: u16, d: u64, e: u8 });

  it('places fields as a C compiler does, padding included', () => {
    expect({ size: mixed.size, alignment: mixed.alignment }).toEqual({ size: 32, alignment: 8 });
    const value = { a: 1, b: 2, c: 3, d: 4n, e: 5 };
    expect(hex(encode(mixed, value))).toBe(
      '0100000002000000' + '0300000000000000' + '0400000000000000' + '0500000000000000',
    );
    expect(decode(mixed, encode(mixed, value))).toEqual(value);
  });

  it('writes padding as zero over what was there', () => {
    const dirty = new Uint8Array(32).fill(0xff);
    mixed.write(new DataView(dirty.buffer), 0, { a: 1, b: 2, c: 3, d: 4n, e: 5 });
    expect([dirty[1], dirty[10], dirty[25]]).toEqual([0, 0, 0]);
  });

  it('names the field that is wrong, missing or unknown', () => {
    const point = struct({ x: u8, y: u8 });
    expect(() => encode(point, { x: 1, y: 256 })).toThrow('struct.y: 256 is no integer from 0 to 255');
    expect(() => encode(point, { x: 1 } as never)).toThrow('struct.y is missing');
    expect(() => encode(point, { x: 1, y: 2, z: 3 } as never)).toThrow('struct has no field z');
  });

  it('nests, with arrays and byte strings', () => {
    const inner = struct({ port: be16, flag: bool });
    const outer = struct({ list: array(inner, 2), mac: bytes(3) });
    const value = {
      list: [
        { port: 80, flag: true },
        { port: 443, flag: false },
      ],
      mac: Uint8Array.of(1, 2, 3),
    };
    expect(outer.size).toBe(12);
    expect(decode(outer, encode(outer, value))).toEqual(value);
    expect(() => encode(outer, { ...value, list: [] })).toThrow('expected an array of 2 elements');
    expect(() => encode(outer, { ...value, mac: new Uint8Array(2) })).toThrow('Uint8Array of 3 bytes');
  });
});

it('maps a codec to another representation', () => {
  const dotted = mapped(
    bytes(4),
    (stored) => stored.join('.'),
    (text: string) => Uint8Array.from(text.split('.'), Number),
  );
  expect(hex(encode(dotted, '10.0.0.1'))).toBe('0a000001');
  expect(decode(dotted, Uint8Array.of(10, 0, 0, 2))).toBe('10.0.0.2');
});

it('refuses to decode another number of bytes', () => {
  expect(() => decode(u32, new Uint8Array(3))).toThrow('expected 4 bytes, got 3');
});
