// SPDX-License-Identifier: Apache-2.0
import type { Reporter, TestCase } from 'vitest/node';

/** Says at once how each test ended, and why it failed: the tests on a cluster take minutes each. */
export default class Progress implements Reporter {
  onTestCaseReady(test: TestCase): void {
    say(`${test.fullName} ...`);
  }

  onTestCaseResult(test: TestCase): void {
    const { state, errors = [] } = test.result();
    const seconds = ((test.diagnostic()?.duration ?? 0) / 1000).toFixed(1);
    say(`${test.fullName}: ${state}, ${seconds} s`);
    for (const { message, diff = '', stack = '' } of errors) say([message, diff, stack].join('\n'));
  }
}

function say(text: string): void {
  process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
}
