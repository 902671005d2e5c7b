// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  BpfError,
  Btf,
  type Codec,
  codecByName,
  codecOfType,
  decode,
  encode,
  sizeOfType,
} from '../../src/index.ts';
import { BtfWriter } from './btf-writer.ts';

const codec = (btf: Btf, id: number) => codecOfType(btf, id) as Codec<unknown>;

describe('parsing', () => {
  it('reads every kind that a BPF object has', () => {
    const w = new BtfWriter();
    const int = w.int('int', 4, { signed: true });
    const u8 = w.int('__u8', 1);
    const pointer = w.reference(2, '', int);
    const array = w.array(u8, 6);
    const fields = [
      { name: 'mac', type: array, bitOffset: 0 },
      { name: 'next', type: pointer, bitOffset: 64 },
    ];
    const struct = w.composite(4, 'entry', 16, fields);
    const typedef = w.reference(8, 'entry_t', struct);
    const constant = w.reference(10, '', typedef);
    const variable = w.variable('table', constant);
    w.datasec('.rodata', 32, [{ type: variable, offset: 16, size: 16 }]);
    w.enumeration('mode', 4, { never: 0, always: 2 });
    const btf = new Btf(w.build());

    expect(btf.types.map((type) => type.kind)).toEqual([
      'void',
      'int',
      'int',
      'pointer',
      'array',
      'struct',
      'typedef',
      'qualifier',
      'var',
      'datasec',
      'enum',
    ]);
    expect(btf.type(btf.find('.rodata') ?? -1)).toMatchObject({
      variables: [{ type: variable, offset: 16, size: 16 }],
    });
    expect(btf.type(btf.find('mode', 'enum') ?? -1)).toMatchObject({
      values: new Map([
        ['never', 0n],
        ['always', 2n],
      ]),
    });
    expect(btf.find('entry', 'typedef')).toBeUndefined();
    expect(sizeOfType(btf, variable)).toBe(16);
  });

  it.each([
    ['empty', new Uint8Array(0)],
    ['no magic', new Uint8Array(64)],
    ['truncated', new BtfWriter().build().subarray(0, 20)],
  ])('refuses %s bytes', (_name, raw) => {
    expect(() => new Btf(raw)).toThrow(BpfError);
  });

  it('refuses types and names that lie outside', () => {
    const w = new BtfWriter();
    w.int('int', 4);
    const raw = w.build();
    const cut = raw.slice();
    new DataView(cut.buffer).setUint32(12, 0xffff, true);
    expect(() => new Btf(cut)).toThrow('truncated');
    const unknown = raw.slice();
    new DataView(unknown.buffer).setUint32(24 + 4, 31 << 24, true);
    expect(() => new Btf(unknown)).toThrow('unknown kind 31');
    expect(() => new Btf(raw).type(9)).toThrow('no type with id 9');
  });
});

describe('codecs', () => {
  it('follow typedefs and qualifiers, and prefer an override by name', () => {
    const w = new BtfWriter();
    const u16 = w.int('unsigned short', 2);
    const typedef = w.reference(8, '__be16', u16);
    const qualified = w.reference(9, '', typedef);
    const btf = new Btf(w.build());
    expect(encode(codec(btf, qualified), 0x1234)).toEqual(Uint8Array.of(0x34, 0x12));
    const swapped: Codec<number> = {
      size: 2,
      alignment: 2,
      read: (view, offset) => view.getUint16(offset),
      write: (view, offset, value) => view.setUint16(offset, value),
    };
    const overridden = codecOfType(btf, qualified, { __be16: swapped }) as Codec<unknown>;
    expect(encode(overridden, 0x1234)).toEqual(Uint8Array.of(0x12, 0x34));
    expect(() => codecOfType(btf, qualified, { __be16: { ...swapped, size: 4 } })).toThrow(
      '4 bytes, the type 2',
    );
  });

  it('read bit-fields, 64-bit ones too, and leave their neighbours alone', () => {
    const w = new BtfWriter();
    const u64 = w.int('unsigned long long', 8);
    const fields = [
      { name: 'a', type: u64, bitOffset: 0, bitSize: 3 },
      { name: 'b', type: u64, bitOffset: 3, bitSize: 40 },
      { name: '', type: u64, bitOffset: 43, bitSize: 1 },
      { name: 'c', type: u64, bitOffset: 44, bitSize: 20 },
    ];
    const id = w.composite(4, 'bits', 8, fields);
    const value = { a: 5, b: 0xff_1234_5678n, c: 0xabcde };
    const bits = codec(new Btf(w.build()), id);
    expect(decode(bits, encode(bits, value))).toEqual(value);
    expect(Buffer.from(encode(bits, value)).readBigUInt64LE()).toBe(
      5n | (0xff_1234_5678n << 3n) | (0xabcden << 44n),
    );
    expect(() => encode(bits, { ...value, a: 8 })).toThrow('does not fit 3 bits');
  });

  it('take members of an anonymous struct into the one around it', () => {
    const w = new BtfWriter();
    const u32 = w.int('unsigned int', 4);
    const inner = w.composite(4, '', 8, [
      { name: 'x', type: u32, bitOffset: 0 },
      { name: 'y', type: u32, bitOffset: 32 },
    ]);
    const outer = w.composite(4, 'outer', 12, [
      { name: 'id', type: u32, bitOffset: 0 },
      { name: '', type: inner, bitOffset: 32 },
    ]);
    const flat = codec(new Btf(w.build()), outer);
    expect(decode(flat, encode(flat, { id: 1, x: 2, y: 3 }))).toEqual({ id: 1, x: 2, y: 3 });
  });

  it('have signed enums, bools and 128-bit integers', () => {
    const w = new BtfWriter();
    const ids = {
      sign: w.enumeration('sign', 4, { minus: -1, plus: 1 }, { signed: true }),
      flag: w.int('_Bool', 1, { bool: true }),
      wide: w.int('__int128', 16),
    };
    const btf = new Btf(w.build());
    expect(decode(codec(btf, ids.sign), Uint8Array.of(0xff, 0xff, 0xff, 0xff))).toBe(-1);
    expect(decode(codec(btf, ids.flag), Uint8Array.of(1))).toBe(true);
    expect(decode(codec(btf, ids.wide), new Uint8Array(16).fill(7))).toEqual(new Uint8Array(16).fill(7));
  });

  it('are not made of what has no value', () => {
    const w = new BtfWriter();
    const float = w.composite(16, 'float', 4, []);
    const btf = new Btf(w.build());
    expect(() => codec(btf, float)).toThrow('make codec (float float): EINVAL');
    expect(() => codec(btf, 0)).toThrow('EINVAL');
    expect(() => codecByName(btf, 'nothing')).toThrow('find BTF type (nothing): ENOENT');
  });
});
