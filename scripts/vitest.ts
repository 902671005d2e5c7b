// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TapResult } from '../test/vm/tap.ts';
import { repository } from './cache.ts';
import { inherit } from './exec.ts';

/**
 * Runs the tests of a vitest config; its output is passed through.
 * @param config path in the repository; that of the unit tests if left out
 * @param options.reporter what shows how it goes
 */
export async function vitest(
  config?: string,
  {
    environment = {},
    reporter = 'default',
  }: { readonly environment?: Readonly<Record<string, string>>; readonly reporter?: string } = {},
): Promise<TapResult> {
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-test-'));
  const file = join(directory, 'report.json');
  try {
    const program = [join(repository, 'node_modules/vitest/vitest.mjs'), 'run'];
    const reporters = [`--reporter=${reporter}`, '--reporter=json', `--outputFile.json=${file}`];
    const status = await inherit(
      process.execPath,
      [...program, ...(config ? ['--config', config] : []), ...reporters],
      { cwd: repository, env: { ...process.env, ...environment } },
    );
    return countTests(JSON.parse(await readFile(file, 'utf8')) as VitestReport, status);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The part that we read of what vitest's json reporter writes. */
export interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[] | null;
    }[];
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
      else
        failures.push(
          [`${test.fullName}: ${test.status}`, ...reasons(test.failureMessages ?? [])].join('\n'),
        );
    }
    if (file.status !== 'passed' && failures.length === before) {
      failures.push(`${file.name}: ${file.message ?? file.status}`);
    }
  }
  if (exitStatus !== 0 && failures.length === 0) failures.push(`vitest: exit status ${exitStatus}`);
  return { passed, failures };
}

/** Lines of a failure's message that its summary has room for, and characters of each. */
const MESSAGE_LINES = 12;
const MESSAGE_COLUMNS = 160;

/** Why it failed, without the stack: whoever reads only the end of a log has to learn it there. */
function reasons(messages: readonly string[]): readonly string[] {
  const lines = messages
    .flatMap((message) => message.split('\n'))
    .filter((line) => !/^\s+at |^\s*$/.test(line));
  return lines.slice(0, MESSAGE_LINES).map((line) => `    ${line.slice(0, MESSAGE_COLUMNS)}`);
}
