// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { outageOf } from '../../../src/core/outage.ts';

describe('an outage', () => {
  it('is the longest time between two answers', () => {
    const answers = new Map([0, 1, 2, 60, 61].map((number) => [number, 1000 + number * 10.2]));
    expect(outageOf(answers)).toEqual({ longestGapMilliseconds: 592, probesLost: 57 });
  });

  it('is a short one where every packet is answered, in whatever order', () => {
    const answers = new Map([
      [1, 20],
      [0, 21],
      [2, 30],
    ]);
    expect(outageOf(answers)).toEqual({ longestGapMilliseconds: 9, probesLost: 0 });
  });

  it('is unknown without two answers', () => {
    expect(outageOf(new Map())).toBeUndefined();
    expect(outageOf(new Map([[3, 10]]))).toBeUndefined();
  });
});
