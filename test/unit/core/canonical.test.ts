// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson, sameValue } from '../../../src/core/canonical.ts';

/** Few names and values, so that many pairs are alike. */
const value = fc.letrec((tie) => ({
  any: fc.oneof({ depthSize: 'small' }, tie('leaf'), tie('list'), tie('object')),
  leaf: fc.constantFrom(undefined, null, 0, -0, 1, Number.NaN, true, '', '0', 'x'),
  list: fc.array(tie('any'), { maxLength: 3 }),
  object: fc.dictionary(fc.constantFrom('a', 'b', 'constructor', '0'), tie('any'), { noNullPrototype: true }),
})).any;

describe('sameValue', () => {
  it('is what a comparison of canonical texts says', () => {
    let same = 0;
    fc.assert(
      fc.property(value, value, (a, b) => {
        const expected = canonicalJson(a) === canonicalJson(b);
        if (expected) same += 1;
        return sameValue(a, b) === expected && sameValue(b, a) === expected;
      }),
      { numRuns: 5000 },
    );
    expect(same).toBeGreaterThan(20);
  });

  it('takes an object for the same whatever the order of its fields', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), value, { noNullPrototype: true }), (object) =>
        sameValue(object, Object.fromEntries(Object.entries(object).reverse())),
      ),
    );
  });

  it.each([
    [{ a: 1 }, { a: 1, b: undefined }, true],
    [{ a: 1 }, { a: 1, b: null }, false],
    [{ a: undefined }, { b: undefined }, true],
    [[undefined], [null], true],
    [[], {}, false],
    [{ toString: 1 }, {}, false],
    [{}, { toString: 1 }, false],
    [undefined, null, true],
    [{}, null, false],
  ])('%j and %j: %s', (a, b, same) => {
    expect(sameValue(a, b)).toBe(same);
  });
});
