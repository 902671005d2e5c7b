// SPDX-License-Identifier: Apache-2.0
/** All selected tests once, some at a time. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { say } from '../../scripts/exec.ts';
import type { ListedTest, Outcome } from './report.ts';
import { runTest, type Suite } from './run-test.ts';
import { shortName } from './selection.ts';
import type { Half } from './table.ts';

export interface HalfOptions {
  readonly half: Half;
  /** Tests at once; those that need the cluster for themselves run after the others. */
  readonly jobs: number;
  /** Folder for a log of each test. */
  readonly logs: string;
  /** Called after each test. */
  readonly record: (name: string, outcome: Outcome) => void;
  /** Called with what a run of the suite calls itself, as soon as that is known. */
  readonly started: (runId: string) => void;
}

/**
 * Runs the tests; one that does not pass runs a second time, alone, for on a busy machine what was only late looks
 * like a failure. Tests that are left when the suite's signal fires are not run.
 */
export async function runHalf(
  suite: Suite,
  tests: readonly ListedTest[],
  options: HalfOptions,
): Promise<void> {
  await mkdir(options.logs, { recursive: true });
  const again: ListedTest[] = [];
  let done = 0;
  const runOne = async (test: ListedTest, attempts: number) => {
    const base = join(options.logs, fileName(test.name));
    const run = await runTest(suite, test.name, attempts === 1 ? base : `${base}-${attempts}`);
    if (run.runId !== undefined) options.started(run.runId);
    if (suite.signal.aborted) return;
    const outcome = { ...run.outcome, attempts };
    options.record(test.name, outcome);
    const repeat = attempts === 1 && outcome.state !== 'passed' && outcome.state !== 'skipped';
    if (repeat) again.push(test);
    else done += 1;
    say(`${options.half} ${done}/${tests.length}: ${progressLine(test, outcome, repeat)}`);
  };
  const parallel = tests.filter(({ serial }) => !serial);
  const serial = tests.filter((test) => test.serial);
  await withWorkers(options.jobs, parallel, suite.signal, (test) => runOne(test, 1));
  await withWorkers(1, serial, suite.signal, (test) => runOne(test, 1));
  await withWorkers(1, again, suite.signal, (test) => runOne(test, 2));
}

function progressLine(test: ListedTest, outcome: Outcome, repeat: boolean): string {
  const why = outcome.message === '' ? '' : `: ${outcome.message}`;
  return `${outcome.state} after ${outcome.seconds} s${repeat ? ', runs again' : ''}: ${shortName(test.name)}${why}`;
}

async function withWorkers<T>(
  count: number,
  work: readonly T[],
  signal: AbortSignal,
  run: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = [...work];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined && !signal.aborted; item = waiting.shift()) {
      await run(item);
    }
  };
  await Promise.all(Array.from({ length: count }, worker));
}

function fileName(name: string): string {
  return shortName(name)
    .replace(/[^A-Za-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 150);
}
