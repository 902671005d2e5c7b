// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BpfObject, decodeSkBuff, encodeSkBuff, openObject, RingBuffer } from '../../src/index.ts';
import { bpfError, loadBasic, objectPath } from './fixture.ts';

const packet = (length: number) => Uint8Array.from({ length }, (_, index) => index & 0xff);
let object: BpfObject;
beforeAll(() => {
  object = loadBasic();
});
afterAll(() => object.close());

describe('a program run', () => {
  it('gives verdict, packet and context', () => {
    using opened = openObject(objectPath('basic'));
    opened.setGlobal('enabled', true);
    opened.setGlobal('answer', 2);
    using own = opened.load();
    const context = encodeSkBuff({ mark: 5, cb: [1, 2, 3, 4, 99] });
    const result = own.program('count').run({ data: packet(60), context, repeat: 3 });
    expect(result.retval).toBe(2);
    expect(result.data).toEqual(Uint8Array.from(packet(60), (byte, index) => (index === 0 ? 0xab : byte)));
    expect(decodeSkBuff(result.context)).toMatchObject({ mark: 100, cb: [0, 2, 3, 4, 99] });
    expect(result.durationNs).toBeGreaterThan(0);
    expect(own.getGlobal('seen')).toBe(3n);
  });

  it('has signed verdicts', () => {
    expect(object.program('count').run({ data: packet(14) }).retval).toBe(-1);
  });

  it('may return more bytes than it was given', () => {
    expect(object.program('grow').run({ data: packet(60) }).data).toHaveLength(74);
    expect(bpfError(() => object.program('grow').run({ data: packet(60), headroom: 4 })).code).toBe('ENOSPC');
  });

  it('fails for packets and contexts that the kernel rejects', () => {
    const { program } = { program: object.program('count') };
    expect(bpfError(() => program.run({ data: packet(13) }))).toMatchObject({
      operation: 'bpf_prog_test_run_opts',
      code: 'EINVAL',
      subject: 'count',
    });
    const context = encodeSkBuff({ hash: 1 });
    expect(bpfError(() => program.run({ data: packet(60), context })).code).toBe('EINVAL');
  });

  it('leaves the caller its packet as it was', () => {
    const data = packet(60);
    object.program('count').run({ data });
    expect(data).toEqual(packet(60));
  });
});

it('contexts are encoded and decoded field by field', () => {
  const fields = {
    mark: 1,
    priority: 2,
    ifindex: 3,
    cb: [4, 5, 6, 7, 8],
    tstamp: 9n,
    wireLen: 10,
    gsoSize: 11,
  };
  expect(decodeSkBuff(encodeSkBuff(fields))).toMatchObject(fields);
  expect(() => encodeSkBuff({ cb: [1, 2, 3, 4, 5, 6] })).toThrow(RangeError);
  expect(() => decodeSkBuff(new Uint8Array(10))).toThrow(RangeError);
});

describe('a ring buffer', () => {
  const send = (length: number) => object.program('sample').run({ data: packet(length) });
  const lengthOf = (sample: Uint8Array) => new DataView(sample.buffer).getUint32(0, true);

  it('hands out samples in order, when asked', () => {
    const lengths: number[] = [];
    using ring = new RingBuffer(object.map('samples'), (sample) => lengths.push(lengthOf(sample)));
    for (const length of [60, 61, 62]) send(length);
    expect([ring.consume(), ring.consume(), lengths]).toEqual([3, 0, [60, 61, 62]]);
  });

  it('hands out samples by a timer', async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    using ring = new RingBuffer(object.map('samples'), (sample) => resolve(lengthOf(sample)));
    ring.start({ intervalMs: 1 });
    send(99);
    expect(await promise).toBe(99);
  });

  it('throws what the handler throws, and goes on behind that sample', () => {
    const lengths: number[] = [];
    using ring = new RingBuffer(object.map('samples'), (sample) => {
      lengths.push(lengthOf(sample));
      if (lengthOf(sample) === 70) throw new Error('seventy');
    });
    for (const length of [70, 71]) send(length);
    expect(() => ring.consume()).toThrow('seventy');
    ring.consume();
    expect(lengths).toContain(71);
  });

  it("gives the timer's failures to onError", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    using ring = new RingBuffer(object.map('samples'), () => {
      throw new Error('from the handler');
    });
    ring.start({ intervalMs: 1, onError: resolve });
    send(60);
    expect(await promise).toEqual(new Error('from the handler'));
  });

  it('may be closed by its own handler, and more than once', () => {
    let seen = 0;
    const ring = new RingBuffer(object.map('samples'), () => {
      seen += 1;
      ring.close();
    });
    for (const length of [60, 61]) send(length);
    expect(ring.consume()).toBe(1);
    ring.close();
    expect(bpfError(() => ring.consume())).toMatchObject({ code: 'EBADF', subject: 'samples' });
    expect(seen).toBe(1);
  });

  it('is only made of a map of its type', () => {
    expect(bpfError(() => new RingBuffer(object.map('slots'), () => undefined)).code).toBe('EINVAL');
  });
});
