// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  type DemoFigures,
  demoTable,
  forwardedShare,
  type PathFigures,
  packetsOf,
} from '../../../bench/cluster-demo-table.ts';
import { COUNTERS } from '../../../src/core/abi.ts';

/** As bpftool prints it, with two processors. */
function dump(counters: Readonly<Record<string, readonly [number, number]>>): string {
  const entries = COUNTERS.map((name, key) => {
    const [first, second] = counters[name] ?? [0, 0];
    const values = [
      { cpu: 0, value: first },
      { cpu: 1, value: second },
    ];
    return { key: ['0x00'], values: [], formatted: { key, values } };
  });
  return JSON.stringify(entries);
}

const native: PathFigures = { outside: 2, milliseconds: [3, 5], tracked: 2, inside: 1, insideTracked: 1 };
const figures: DemoFigures = {
  wanted: { outside: 2, inside: 1 },
  native,
  accelerated: { ...native, tracked: 0, insideTracked: 0 },
  nodes: 1,
  asBefore: 1,
  forwardedShare: 0.625,
};

describe('packets', () => {
  it('are summed up over processors and nodes', () => {
    const packets = packetsOf([dump({ Snat: [1, 2], ForwardReply: [4, 0] }), dump({ Snat: [8, 0] })]);
    expect(packets).toMatchObject({ Snat: 11, ForwardReply: 4, SnatReversed: 0 });
  });

  it('are shared between the fast path and the stack', () => {
    const before = { Snat: 100, SnatReversed: 100, ForwardRequest: 5, DropMalformed: 7 };
    const after = { Snat: 102, SnatKept: 1, SnatReversed: 100, ForwardRequest: 8, ForwardReply: 2 };
    expect(forwardedShare(before, after)).toBe(5 / 8);
    expect(forwardedShare(before, before)).toBe(0);
  });
});

describe('the table', () => {
  it('shows both paths and the share of the fast path', () => {
    const { text, ok } = demoTable(figures);
    expect(ok).toBe(true);
    expect(text).toMatch(/^packets of all these past the IP stack +63 %$/m);
    expect(text).toMatch(/^nodes that are what they were before the policy: 1 of 1$/m);
  });

  it.each([
    ['a request without an answer', { accelerated: { ...figures.accelerated, outside: 1 } }],
    ['a conntrack entry of an accelerated request', { accelerated: { ...figures.accelerated, tracked: 1 } }],
    ['native requests without conntrack entries', { native: { ...native, insideTracked: 0 } }],
    ['no packet on the fast path', { forwardedShare: 0 }],
    ['a node that is not what it was', { asBefore: 0 }],
  ])('is not right with %s', (_, wrong) => {
    expect(demoTable({ ...figures, ...wrong }).ok).toBe(false);
  });
});
