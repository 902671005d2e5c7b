// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  array,
  type BpfObject,
  be16,
  be32,
  bytes,
  mapped,
  possibleCpus,
  struct,
  type TypedMap,
  u8,
  u16,
  u32,
  u64,
} from '../../src/index.ts';
import { bpfError, loadBasic } from './fixture.ts';

interface Key {
  addr: { words: number[] };
  port: number;
  protocol: number;
  zero: number;
}
interface Value {
  packets: bigint;
  balance: number;
  mode: number;
  mac: Uint8Array;
  low: number;
  high: number;
  u: { word: number } | { bytes: Uint8Array };
  next: { words: number[] }[];
}

const NETWORK_ORDER = { __be16: be16, __be32: be32 };
const key = (port: number): Key => ({ addr: { words: [0x0a000001, 0, 0, 1] }, port, protocol: 6, zero: 0 });
const value: Value = {
  packets: 2n ** 40n,
  balance: -7,
  mode: 2,
  mac: Uint8Array.of(1, 2, 3, 4, 5, 6),
  low: 31,
  high: 2047,
  u: { word: 0x04030201 },
  next: [{ words: [1, 2, 3, 4] }, { words: [5, 6, 7, 8] }],
};

let object: BpfObject;
beforeAll(() => {
  object = loadBasic();
});
afterAll(() => object.close());

describe('a hash map by BTF', () => {
  let flows: TypedMap<Key, Value>;
  beforeAll(() => {
    flows = object.map('flows').typedByBtf<Key, Value>(NETWORK_ORDER);
    flows.drain();
  });

  it('reads back what was put, with nested types, bit-fields, enums and unions', () => {
    expect(flows.put(key(1), value)).toBe(true);
    const read = { ...value, u: { word: 0x04030201, bytes: Uint8Array.of(1, 2, 3, 4) } };
    expect(flows.get(key(1))).toEqual(read);
    flows.put(key(1), { ...value, u: { bytes: Uint8Array.of(9, 9, 9, 9) } });
    expect(flows.get(key(1))?.u).toEqual({ word: 0x09090909, bytes: Uint8Array.of(9, 9, 9, 9) });
  });

  it('has bytes in the order that the overrides say', () => {
    flows.put(key(0x1234), value);
    const raw = object.map('flows').raw();
    const bytesOfKey = Buffer.from('0a0000010000000000000000000000011234' + '0600', 'hex');
    expect(raw.has(new Uint8Array(bytesOfKey))).toBe(true);
  });

  it('takes whole types over by name', () => {
    const dotted = mapped(
      bytes(16),
      (stored) => stored.join('.'),
      (text: string) => Uint8Array.from(text.split('.'), Number),
    );
    type Flat = Omit<Key, 'addr'> & { addr: string };
    const flat = object.map('flows').typedByBtf<Flat, unknown>({ ...NETWORK_ORDER, address: dotted });
    const addresses = [...flat.keys()].map((flow) => flow.addr);
    expect(addresses).toContain('10.0.0.1.0.0.0.0.0.0.0.0.0.0.0.1');
    expect(() => object.map('flows').typedByBtf({ address: u8 })).toThrow('address has 1 bytes, the type 16');
  });

  it('refuses a value of the wrong shape before the kernel sees it', () => {
    expect(() => flows.put(key(1), { ...value, low: 32 })).toThrow(
      'struct value.low: 32 does not fit 5 bits',
    );
    expect(() => flows.put(key(1), { ...value, u: {} as never })).toThrow('exactly one member');
    expect(() => flows.put({ ...key(1), port: 65536 }, value)).toThrow('struct key.port: 65536');
  });
});

describe('put, get and delete', () => {
  let recent: TypedMap<number, bigint>;
  let slots: TypedMap<number, bigint>;
  beforeAll(() => {
    recent = object.map('recent').typed(u32, u64);
    slots = object.map('slots').typed(u32, u64);
  });

  it('put says whether its mode let it write', () => {
    expect(recent.put(1, 1n, 'exist')).toBe(false);
    expect(recent.put(1, 2n, 'noexist')).toBe(true);
    expect(recent.put(1, 3n, 'noexist')).toBe(false);
    expect(recent.put(1, 4n, 'exist')).toBe(true);
    expect([recent.get(1), recent.get(2), recent.has(2)]).toEqual([4n, undefined, false]);
  });

  it('take and delete say what was there', () => {
    recent.put(5, 50n);
    expect([recent.take(5), recent.take(5), recent.delete(5)]).toEqual([50n, undefined, false]);
    recent.put(5, 50n);
    expect([recent.delete(5), recent.get(5)]).toEqual([true, undefined]);
  });

  it('array elements always exist and cannot be deleted', () => {
    expect([slots.get(0), slots.get(8), slots.count()]).toEqual([0n, undefined, 8]);
    expect(bpfError(() => slots.delete(0))).toMatchObject({
      operation: 'bpf_map_delete_elem',
      code: 'EINVAL',
    });
    expect(slots.put(0, 1n, 'noexist')).toBe(false);
    expect(bpfError(() => slots.put(8, 1n))).toMatchObject({ code: 'E2BIG', subject: 'slots' });
  });

  it('views are only made with codecs of the right size', () => {
    const map = object.map('recent');
    expect(() => map.typed(u16, u64)).toThrow('map recent: keys have 4 bytes, the codec has 2');
    expect(() => map.typed(u32, u32)).toThrow('map recent: values have 8 bytes, the codec has 4');
    expect(() => map.typedPerCpu(u32, u64)).toThrow('not per CPU');
    expect(() => object.map('counters').typed(u32, u32)).toThrow('for each CPU');
  });

  it('an LRU map forgets instead of being full', () => {
    for (let index = 0; index < 1000; index++) recent.put(index, BigInt(index));
    expect(recent.count()).toBeLessThanOrEqual(128);
    expect(recent.get(999)).toBe(999n);
  });
});

describe('batches', () => {
  const flowKey = struct({ addr: array(be32, 4), port: be16, protocol: u8, zero: u8 });
  const all = Array.from({ length: 3000 }, (_, port): [ReturnType<typeof make>, Uint8Array] => [
    make(port),
    new Uint8Array(64).fill(port & 0xff),
  ]);
  function make(port: number) {
    return { addr: [1, 2, 3, 4], port, protocol: 6, zero: 0 };
  }
  const ports = (entries: Iterable<[{ port: number }, unknown]>) =>
    [...entries].map(([{ port }]) => port).sort((a, b) => a - b);
  const open = () => object.map('flows').typed(flowKey, bytes(64));

  it('write, read, count and delete thousands', () => {
    const flows = open();
    flows.drain();
    flows.putBatch(all);
    expect(flows.count()).toBe(3000);
    expect(ports(flows)).toEqual(all.map(([{ port }]) => port));
    expect(new Map([...flows].map(([k, v]) => [k.port, v])).get(300)).toEqual(new Uint8Array(64).fill(44));
    const keys = all.slice(0, 1000).map(([k]) => k);
    expect(flows.deleteBatch([make(60_000), ...keys, make(60_001)])).toBe(1000);
    expect(flows.count()).toBe(2000);
  });

  it('of any size read every element once, also of fewer than a hash bucket holds', () => {
    const flows = open();
    flows.drain();
    flows.putBatch(all);
    for (const size of [1, 7, 4096]) expect(ports(flows.entries(size))).toEqual(ports(all));
    const sizes = [...flows.batches(1000)].map((batch) => batch.length);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(3000);
    expect(sizes.length).toBeGreaterThan(2);
  });

  it('keys() walks the map without batches', () => {
    const flows = open();
    flows.drain();
    flows.putBatch(all.slice(0, 10));
    expect([...flows.keys()].map(({ port }) => port).sort((a, b) => a - b)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
  });

  it('drain empties the map and returns what was in it', () => {
    const flows = open();
    flows.putBatch(all.slice(0, 100));
    expect(ports(flows.drain())).toHaveLength(100);
    expect([flows.count(), flows.drain(), [...flows]]).toEqual([0, [], []]);
  });

  it('putBatch keeps to its mode and stops at the first failure', () => {
    const flows = open();
    flows.drain();
    flows.putBatch(all.slice(0, 2), 'noexist');
    expect(bpfError(() => flows.putBatch(all.slice(1, 3), 'noexist')).code).toBe('EEXIST');
    expect(bpfError(() => flows.putBatch(all.slice(1, 3), 'exist')).code).toBe('ENOENT');
    expect(flows.count()).toBe(2);
    flows.putBatch([]);
    expect(flows.deleteBatch([])).toBe(0);
  });

  it('a full map is E2BIG, and what came before is in it', () => {
    const flows = open();
    const many = Array.from({ length: 4097 }, (_, port): (typeof all)[0] => [make(port), new Uint8Array(64)]);
    expect(bpfError(() => flows.putBatch(many))).toMatchObject({ code: 'E2BIG' });
    expect(flows.drain()).toHaveLength(4096);
  });

  it('work on arrays', () => {
    const slots = object.map('slots').typed(u32, u64);
    slots.putBatch([
      [0, 10n],
      [7, 17n],
    ]);
    const read = new Map(slots);
    expect([read.size, read.get(0), read.get(7)]).toEqual([8, 10n, 17n]);
  });
});

describe('per-CPU maps', () => {
  it('have a value for each possible CPU', () => {
    const counters = object.map('counters').typedPerCpu(u32, u32);
    const values = Array.from({ length: possibleCpus() }, (_, cpu) => cpu + 1);
    counters.put(1, values);
    expect(counters.get(1)).toEqual(values);
    expect(object.map('counters').userValueSize).toBe(8 * possibleCpus());
    expect(() => counters.put(1, [...values, 9])).toThrow(RangeError);
    expect(object.map('counters').typedByBtf<number, number[]>().get(1)).toEqual(values);
  });

  it('hash maps too, also in batches', () => {
    const map = object.map('per_cpu_hash').typedPerCpu(u32, u64);
    const values = Array.from({ length: possibleCpus() }, (_, cpu) => BigInt(cpu));
    map.putBatch([
      [1, values],
      [2, values],
    ]);
    expect(new Map(map)).toEqual(
      new Map([
        [1, values],
        [2, values],
      ]),
    );
    expect(map.deleteBatch([1, 2, 3])).toBe(2);
  });
});

describe('an LPM trie', () => {
  it('finds the longest prefix', () => {
    const prefix = struct({ length: u32, address: bytes(4) });
    const prefixes = object.map('prefixes').typed(prefix, u32);
    prefixes.putBatch([
      [{ length: 8, address: Uint8Array.of(10, 0, 0, 0) }, 8],
      [{ length: 24, address: Uint8Array.of(10, 1, 2, 0) }, 24],
    ]);
    const find = (...address: number[]) => prefixes.get({ length: 32, address: Uint8Array.from(address) });
    expect([find(10, 1, 2, 3), find(10, 9, 9, 9), find(11, 0, 0, 1)]).toEqual([24, 8, undefined]);
    expect([...prefixes].map(([, length]) => length).sort()).toEqual([24, 8]);
    expect(prefixes.count()).toBe(2);
    expect(prefixes.deleteBatch([{ length: 8, address: Uint8Array.of(10, 0, 0, 0) }])).toBe(1);
  });
});

describe('a map without batch operations', () => {
  const LOOPBACK = 1;

  it('does the same one by one', () => {
    const ports = object.map('ports').typed(u32, u32);
    const all = [1, 2, 3, 4, 5].map((key): [number, number] => [key, LOOPBACK]);
    ports.putBatch(all);
    const byKey = (entries: [number, number][]) => entries.sort(([a], [b]) => a - b);
    expect(byKey([...ports])).toEqual(all);
    expect([...ports.batches(2)].map((batch) => batch.length)).toEqual([2, 2, 1]);
    expect([ports.count(), ports.deleteBatch([1, 9, 2])]).toEqual([5, 2]);
    expect(byKey(ports.drain())).toEqual(all.slice(2));
    expect([ports.count(), [...ports]]).toEqual([0, []]);
    ports.putBatch(all.slice(1), 'noexist');
    expect(bpfError(() => ports.putBatch(all, 'noexist')).code).toBe('EEXIST');
    expect(ports.count()).toBe(5);
  });
});

it('a frozen map takes no more writes', () => {
  using own = loadBasic();
  own.map('slots').freeze();
  expect(bpfError(() => own.map('slots').typed(u32, u64).put(0, 1n)).code).toBe('EPERM');
});
