// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { down, status, stepsUp, up } from '../../../src/agent/reconcile.ts';
import type { FakeNode } from '../../fakes/fake-node.ts';
import { CONFIG, director, listing, PARAMETERS, TABLE } from './director.ts';

describe('after a crash', () => {
  it('goes on with up from any change on, and down leaves nothing behind', async () => {
    const total = await countChanges(async (node) => void (await up(CONFIG, node)));
    for (let index = 0; index < total; index += 1) {
      for (const moment of ['before', 'after'] as const) {
        for (const next of ['up', 'down'] as const) await crashAndGoOn('up', index, moment, next);
      }
    }
  });

  it('goes on with down from any change on, or with up', async () => {
    const total = await countChanges(async (node) => {
      await up(CONFIG, node);
      node.machine.calls.reset();
      await down(node, 0);
    });
    for (let index = 0; index < total; index += 1) {
      for (const moment of ['before', 'after'] as const) {
        for (const next of ['up', 'down'] as const) await crashAndGoOn('down', index, moment, next);
      }
    }
  });
});

async function countChanges(act: (node: FakeNode) => Promise<void>): Promise<number> {
  const node = director(...TABLE);
  node.machine.calls.reset();
  await act(node);
  expect(node.machine.calls.changes.length).toBeGreaterThan(20);
  return node.machine.calls.changes.length;
}

async function crashAndGoOn(
  first: 'up' | 'down',
  index: number,
  moment: 'before' | 'after',
  next: 'up' | 'down',
) {
  const node = director(...TABLE);
  const before = await listing(node);
  const table = node.machine.ipvs.table;
  if (first === 'down') await up(CONFIG, node);
  node.machine.calls.reset();
  node.machine.calls.crashAt(index, moment);
  await (first === 'up' ? up(CONFIG, node) : down(node, 0)).catch(() => {});
  node.machine.calls.reset();
  const where = `${first} killed ${moment} change ${index}, then ${next}`;
  if (next === 'up') {
    await up(CONFIG, node);
    expect(node.machine.ipvs.table, where).toEqual(table);
    const ipVs = (await node.machine.modules.list()).find(({ name }) => name === 'ip_vs');
    expect(ipVs?.parameters, where).toEqual(PARAMETERS);
    expect((await status(CONFIG, node)).differences, where).toEqual([]);
    expect(await stepsUp(CONFIG, node), where).toEqual([]);
    expect(node.check.leftovers, where).toBe(false);
  }
  await down(node, 0);
  expect(await listing(node), where).toEqual(before);
}
