// SPDX-License-Identifier: Apache-2.0
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BpfLink, BpfMap, BpfProgram, openObject, RingBuffer, readBtfFile, unpin } from '../../src/index.ts';
import { bpfError, loadBasic, objectPath } from './fixture.ts';

const PIN = '/sys/fs/bpf/libbpf-ts-descriptors';
const removePin = () => {
  unpin(PIN);
};
beforeEach(removePin);
afterEach(removePin);

/** Descriptors of BPF objects that this process has open. */
function open(): number {
  return readdirSync('/proc/self/fd').length;
}

it('are all closed again, also after failures', () => {
  const work = () => {
    using object = loadBasic();
    object.map('flows').pin(PIN);
    using map = BpfMap.openPinned(PIN);
    using _byId = BpfMap.openById(map.id);
    using _program = BpfProgram.openById(object.program('count').id);
    using _ring = new RingBuffer(object.map('samples'), () => undefined);
    map.typedByBtf();
    readBtfFile(objectPath('basic'));
    object.getGlobal('total');
    for (const fail of [
      () => BpfProgram.openPinned(PIN),
      () => BpfLink.openPinned(PIN),
      () => object.map('recent').pin(PIN),
      () => new RingBuffer(map, () => undefined),
      () => openObject(objectPath('rejected')).load(),
    ]) {
      bpfError(fail);
    }
    unpin(PIN);
  };
  work();
  const before = open();
  for (let round = 0; round < 5; round++) work();
  expect(open()).toBe(before);
});

it('of another kind than asked for are refused by name', () => {
  using object = loadBasic();
  object.map('flows').pin(PIN);
  expect(bpfError(() => BpfProgram.openPinned(PIN)).message).toMatch(/it is no program but .*bpf-map/);
});
