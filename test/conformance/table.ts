// SPDX-License-Identifier: Apache-2.0
/** What was measured against what, and what that means; pure. */
import type { Outcome } from './report.ts';
import { shortName } from './selection.ts';

/** The two ways in which the tests are run: plain kube-proxy, and a policy that takes every Service. */
export const halves = ['native', 'accelerated'] as const;
export type Half = (typeof halves)[number];

/** By full name of the test; one that was not run is not there. */
export type Outcomes = Readonly<Record<string, Outcome>>;

export interface Results {
  /** Version of the cluster and of the suite. */
  readonly kubernetes: string;
  readonly native: Outcomes;
  readonly accelerated: Outcomes;
}

/** The tests of the accelerated half: those that passed natively, or all if none was run natively. */
export function acceleratedTests<T extends { readonly name: string }>(
  selected: readonly T[],
  { native }: Pick<Results, 'native'>,
): T[] {
  const known = selected.some(({ name }) => native[name] !== undefined);
  return selected.filter(({ name }) => !known || native[name]?.state === 'passed');
}

/** The tests that are left of a run that was interrupted: those that were not run, or did not pass. */
export function notPassed<T extends { readonly name: string }>(tests: readonly T[], outcomes: Outcomes): T[] {
  return tests.filter(({ name }) => outcomes[name]?.state !== 'passed');
}

/**
 * Tests for which the accelerated path is to blame: passed natively (or not run natively) and did not pass
 * accelerated.
 */
export function regressions(names: readonly string[], results: Results): string[] {
  return names.filter((name) => {
    const native = results.native[name];
    const accelerated = results.accelerated[name];
    if (accelerated === undefined || accelerated.state === 'passed') return false;
    return native === undefined ? accelerated.state !== 'skipped' : native.state === 'passed';
  });
}

/** One line a test, then a line with the sums. */
export function resultTable(names: readonly string[], results: Results): string {
  const cell = (outcome: Outcome | undefined) => {
    if (outcome === undefined) return '-';
    const again = outcome.attempts > 1 ? `, attempt ${outcome.attempts}` : '';
    return `${outcome.state} (${outcome.seconds} s${again})`;
  };
  const rows = [
    ['TEST', 'NATIVE', 'ACCELERATED'],
    ...names.map((name) => [shortName(name), ...halves.map((half) => cell(results[half][name]))]),
    ['passed', ...halves.map((half) => sum(names, results[half]))],
  ];
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const widths = [width(0), width(1)];
  return rows
    .map(
      (row) =>
        `${row
          .map((text, column) => text.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Why tests did not pass; nothing if all did. */
export function reasons(names: readonly string[], results: Results): string[] {
  return halves.flatMap((half) =>
    names.flatMap((name) => {
      const outcome = results[half][name];
      if (outcome === undefined || outcome.message === '') return [];
      return [`${half}: ${shortName(name)}: ${outcome.state}: ${outcome.message}`];
    }),
  );
}

function sum(names: readonly string[], outcomes: Outcomes): string {
  const run = names.filter((name) => outcomes[name] !== undefined);
  if (run.length === 0) return '-';
  return `${run.filter((name) => outcomes[name]?.state === 'passed').length} of ${run.length}`;
}
