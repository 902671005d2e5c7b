// SPDX-License-Identifier: Apache-2.0
/**
 * npm test [-- [--kernel 6.1] [--only checks|unit|vm]... [SUITE...]]: everything, or the named parts.
 * The last line is `N passed, N failed`.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { interrupted } from '../test/vm/interrupted.ts';
import { findSuites, runSuite, type Suite } from '../test/vm/suites.ts';
import type { TapResult } from '../test/vm/tap.ts';
import { buildAll } from './build.ts';
import { repository } from './cache.ts';
import { checks } from './check.ts';
import { inherit, main, run, say } from './exec.ts';
import { type KernelSeries, kernelSeries } from './kernels.ts';
import { seriesOption } from './options.ts';
import { countTests, type VitestReport } from './vitest-report.ts';

type Part = 'checks' | 'unit' | 'vm';
type Report = (name: string, result: TapResult) => void;

async function runChecks(report: Report): Promise<void> {
  for (const { name, check } of checks) {
    say(name);
    try {
      await check();
      report(name, { passed: 1, failures: [] });
    } catch (error) {
      process.stdout.write(`${error instanceof Error ? error.message : error}\n`);
      report(name, { passed: 0, failures: ['see above'] });
    }
  }
}

async function runUnitTests(report: Report): Promise<void> {
  say('unit tests');
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-test-'));
  const file = join(directory, 'report.json');
  try {
    const vitest = [join(repository, 'node_modules/vitest/vitest.mjs'), 'run', '--reporter=default'];
    const status = await inherit(
      process.execPath,
      [...vitest, '--reporter=json', `--outputFile.json=${file}`],
      { cwd: repository },
    );
    report('unit tests', countTests(JSON.parse(await readFile(file, 'utf8')) as VitestReport, status));
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function runSuites(suites: readonly Suite[], report: Report, signal: AbortSignal): Promise<void> {
  await buildAll([...new Set(suites.map((suite) => suite.kernel))]);
  await run(join(repository, 'test/net/build.sh'), []);
  for (const suite of suites) {
    if (signal.aborted) return;
    const name = `${suite.name} on ${suite.kernel}`;
    say(name);
    const started = Date.now();
    const print = (line: string) => process.stdout.write(`[${name}] ${line}\n`);
    report(name, await runSuite(suite, print, signal));
    say(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
}

/** A part that breaks is one failure, and the parts after it still run. */
async function guarded(name: string, report: Report, part: () => Promise<void>): Promise<void> {
  try {
    await part();
  } catch (error) {
    report(name, { passed: 0, failures: [error instanceof Error ? error.message : String(error)] });
  }
}

async function testAll(names: readonly string[], only: readonly Part[], kernels: readonly KernelSeries[]) {
  const signal = interrupted();
  const failures: string[] = [];
  let passed = 0;
  const report: Report = (name, result) => {
    passed += result.passed;
    failures.push(...result.failures.map((text) => `${name}: ${text}`));
  };
  if (only.includes('checks')) await runChecks(report);
  if (only.includes('unit')) await guarded('unit tests', report, () => runUnitTests(report));
  if (only.includes('vm')) {
    await guarded('virtual machine', report, async () => {
      const suites = (await findSuites()).filter(
        (suite) => kernels.includes(suite.kernel) && (names.length === 0 || names.includes(suite.name)),
      );
      if (suites.length === 0) throw new Error(`no suite ${names.join(' ')} in test/kernel`);
      await runSuites(suites, report, signal);
    });
  }
  if (signal.aborted) failures.push('interrupted');
  for (const failure of failures) process.stdout.write(`FAILED ${failure}\n`);
  process.stdout.write(`${passed} passed, ${failures.length} failed\n`);
  process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0;
}

const program = new Command('npm test --')
  .description('Run the checks, the unit tests and the suites of test/kernel.')
  .option('--kernel <series>', `boot only this kernel: ${kernelSeries.join(', ')}`, seriesOption)
  .addOption(new Option('--only <part...>', 'run only these parts').choices(['checks', 'unit', 'vm']))
  .argument('[suite...]', 'run only these suites of test/kernel (names without .test.sh)');
program.parse();
const { kernel, only } = program.opts<{ kernel?: KernelSeries; only?: Part[] }>();
const all: Part[] = program.args.length > 0 || kernel !== undefined ? ['vm'] : ['checks', 'unit', 'vm'];
await main(() => testAll(program.args, only ?? all, kernel === undefined ? kernelSeries : [kernel]));
