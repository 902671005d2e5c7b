// SPDX-License-Identifier: Apache-2.0
import { expect, it, vi } from 'vitest';
import { openObject, u32, u64 } from '../../src/index.ts';
import { bpfError, objectPath } from './fixture.ts';

it('a second copy of the package in one process works beside the first', async () => {
  using first = openObject(objectPath('basic')).load();
  vi.resetModules();
  const again: typeof import('../../src/index.ts') = await import('../../src/index.ts');
  expect(again.openObject).not.toBe(openObject);
  using second = again.openObject(objectPath('basic')).load();
  const [mine, other] = [first.map('slots'), second.map('slots')];
  mine.typed(u32, u64).put(0, 1n);
  expect([mine.typed(u32, u64).get(0), other.typed(u32, u64).get(0)]).toEqual([1n, 0n]);
  expect(() => again.openObject('/nowhere/at-all.o')).toThrow(again.BpfError);
  expect(bpfError(() => openObject('/nowhere/at-all.o')).code).toBe('ENOENT');
});
