// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { SameBytes } from '../../../src/adapters/same-bytes.ts';

const decoded = () => new SameBytes((parts) => parts.map((part) => [...part]));
const parts = (...values: number[][]) => values.map((value) => Uint8Array.from(value));

describe('an answer of the kernel', () => {
  it('is the very same object while its bytes are the same', () => {
    const answer = decoded();
    const first = answer.of(parts([1, 2], [3]));
    expect(first).toEqual([[1, 2], [3]]);
    expect(answer.of(parts([1, 2], [3]))).toBe(first);
  });

  it.each([
    { what: 'a byte', next: [[1, 2], [4]] },
    { what: 'a part more', next: [[1, 2], [3], [4]] },
    { what: 'a part less', next: [[1, 2]] },
    { what: 'the number of parts', next: [[1], [2], [3]] },
    { what: 'all parts', next: [] },
  ])('is another one after a change of $what', ({ next }) => {
    const answer = decoded();
    answer.of(parts([1, 2], [3]));
    expect(answer.of(parts(...next))).toEqual(next);
  });

  it('does not show what its caller writes into the bytes later', () => {
    const answer = decoded();
    const mine = parts([1]);
    const first = answer.of(mine);
    mine[0]?.fill(2);
    expect(answer.of(parts([1]))).toBe(first);
  });
});
