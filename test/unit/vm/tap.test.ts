// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { TapReader } from '../../vm/tap.ts';

function read(...lines: string[]) {
  const reader = new TapReader();
  for (const line of lines) reader.line(line);
  return reader.result();
}

describe('TAP', () => {
  it('counts what passed, and names what failed', () => {
    expect(read('1..3', 'ok 1 - first', 'not ok 2 - second', 'ok 3 - third # time=3ms')).toEqual({
      passed: 2,
      failures: ['2 - second'],
    });
  });

  it('says why a case failed', () => {
    const block = ['  ---', '  exit status 1: counts', '  sessions: 3, expected 4', '  ...', '  not of it'];
    expect(read('not ok 1 - first', ...block, 'ok 2 - second', '1..2')).toEqual({
      passed: 1,
      failures: ['1 - first\n  exit status 1: counts\n  sessions: 3, expected 4'],
    });
  });

  it('keeps the end of a long reason', () => {
    const lines = Array.from({ length: 40 }, (_, index) => `  line ${index}`);
    const [failure = ''] = read('not ok 1 - x', '  ---', ...lines, '  ...', '1..1').failures;
    expect(failure.split('\n')).toEqual(['1 - x', ...lines.slice(-12)]);
  });

  it('takes the plan at the end too', () => {
    expect(read('ok 1 - first', '1..1')).toEqual({ passed: 1, failures: [] });
  });

  it.each([
    { name: 'no output', lines: [], failure: 'no plan (1..N) after 0 cases: it ended early' },
    { name: 'no plan', lines: ['ok 1'], failure: 'no plan (1..N) after 1 cases: it ended early' },
    { name: 'an empty plan', lines: ['1..0'], failure: 'the plan has no cases' },
    { name: 'a case too few', lines: ['1..2', 'ok 1'], failure: 'planned 2 cases, ran 1' },
    { name: 'a skipped case', lines: ['1..1', 'ok 1 - x # SKIP y'], failure: 'skipped: 1 - x # SKIP y' },
  ])('fails on $name', ({ lines, failure }) => {
    expect(read(...lines).failures).toEqual([failure]);
  });

  it('leaves other lines alone', () => {
    const reader = new TapReader();
    expect(reader.line('okay, this is no result')).toBe(false);
    expect(reader.line('    ok 1 - indented')).toBe(false);
    expect(reader.line('ok')).toBe(true);
  });
});
