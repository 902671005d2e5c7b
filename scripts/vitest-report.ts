// SPDX-License-Identifier: Apache-2.0
import type { TapResult } from '../test/vm/tap.ts';

/** The part that we read of what vitest's json reporter writes. */
export interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** A test that did not pass has failed; so has a file that could not be run, and a wrong exit status. */
export function countTests(report: VitestReport, exitStatus: number): TapResult {
  let passed = 0;
  const failures: string[] = [];
  for (const file of report.testResults) {
    const before = failures.length;
    for (const test of file.assertionResults) {
      if (test.status === 'passed') passed += 1;
      else failures.push(`${test.fullName}: ${test.status}`);
    }
    if (file.status !== 'passed' && failures.length === before) {
      failures.push(`${file.name}: ${file.message ?? file.status}`);
    }
  }
  if (exitStatus !== 0 && failures.length === 0) failures.push(`vitest: exit status ${exitStatus}`);
  return { passed, failures };
}
