// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { countTests } from '../../../scripts/vitest.ts';

const passed = { fullName: 'a node is left alone', status: 'passed' };
const file = (status: string, assertionResults: readonly object[], message?: string) => ({
  testResults: [
    { name: 'node.test.ts', status, ...(message === undefined ? {} : { message }), assertionResults },
  ],
});
const count = (report: object, exitStatus: number) =>
  countTests(report as Parameters<typeof countTests>[0], exitStatus);

describe('the summary of a vitest run', () => {
  it('counts what passed', () => {
    expect(count(file('passed', [passed, passed]), 0)).toEqual({ passed: 2, failures: [] });
  });

  it('says why a test failed, without its stack', () => {
    const failureMessages = [
      'Error: policy: Ready=True: not after 480 s\nNAME   READY\n\nshop   False\n    at until (session.ts:168:15)',
    ];
    const failed = { fullName: 'a policy is followed', status: 'failed', failureMessages };
    expect(count(file('failed', [passed, failed]), 1)).toEqual({
      passed: 1,
      failures: [
        'a policy is followed: failed\n    Error: policy: Ready=True: not after 480 s\n    NAME   READY\n    shop   False',
      ],
    });
  });

  it('cuts what would hide the other failures', () => {
    const failureMessages = [Array.from({ length: 50 }, () => 'x'.repeat(1000)).join('\n')];
    const { failures } = count(file('failed', [{ fullName: 'it', status: 'failed', failureMessages }]), 1);
    const lines = failures.join('\n').split('\n');
    expect(lines).toHaveLength(13);
    expect(Math.max(...lines.map(({ length }) => length))).toBe(164);
  });

  it('counts a file that could not be run, and an exit status that no test explains', () => {
    expect(count(file('failed', [], 'cannot find it'), 1).failures).toEqual(['node.test.ts: cannot find it']);
    expect(count(file('passed', [passed]), 1).failures).toEqual(['vitest: exit status 1']);
  });
});
