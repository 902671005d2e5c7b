// SPDX-License-Identifier: Apache-2.0
/**
 * npm test [-- [--kernel 6.1] [--only checks|unit|api|e2e|vm|life]... [--jobs N] [SUITE...]]: everything but the life
 * of an installation, or the named parts.
 * The last line is `N passed, N failed`.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { ClusterSession } from '../test/cluster/session.ts';
import { CLUSTER } from '../test/e2e/settings.ts';
import { interrupted } from '../test/vm/interrupted.ts';
import { findSuites, runSuite, type Suite, type SuitePart } from '../test/vm/suites.ts';
import type { TapResult } from '../test/vm/tap.ts';
import { buildAll } from './build.ts';
import { repository } from './cache.ts';
import { checks } from './check.ts';
import { main, run, say } from './exec.ts';
import { type KernelSeries, kernelSeries } from './kernels.ts';
import { positiveOption, seriesOption } from './options.ts';
import { testOnApiServer } from './test-api-server.ts';
import { vitest } from './vitest.ts';

const parts = ['checks', 'unit', 'api', 'e2e', 'vm', 'life'] as const;
type Part = (typeof parts)[number];

interface Choice {
  readonly only: readonly Part[];
  readonly kernels: readonly KernelSeries[];
  /** Suites of test/kernel; all if empty. */
  readonly names: readonly string[];
  readonly jobs: number;
}

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

interface SuiteOptions {
  /** Machines at once; each keeps one processor busy. */
  readonly jobs: number;
  readonly signal: AbortSignal;
}

async function runSuites(suites: readonly Suite[], report: Report, options: SuiteOptions): Promise<void> {
  await buildAll([...new Set(suites.map((suite) => suite.kernel))]);
  await run(join(repository, 'test/net/build.sh'), []);
  const waiting = [...suites];
  const worker = async () => {
    for (let suite = waiting.shift(); suite !== undefined; suite = waiting.shift()) {
      if (!options.signal.aborted) await runOne(suite, report, options.signal);
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, worker));
}

async function runOne(suite: Suite, report: Report, signal: AbortSignal): Promise<void> {
  const name = `${suite.name} on ${suite.kernel}`;
  const started = Date.now();
  say(name);
  await guarded(name, report, async () => {
    const print = (line: string) => process.stdout.write(`[${name}] ${line}\n`);
    report(name, await runSuite(suite, print, signal));
  });
  say(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

async function chooseSuites({ names, kernels, only }: Choice, part: SuitePart): Promise<Suite[]> {
  const all = await findSuites();
  const unknown = names.filter((name) => !all.some((suite) => suite.name === name));
  if (unknown.length > 0) throw new Error(`no suite ${unknown.join(', ')} in test/kernel`);
  // One that is named is run once, with whichever part is.
  const isChosen = (suite: Suite) =>
    names.length === 0
      ? suite.part === part
      : names.includes(suite.name) && (part === 'vm' || !only.includes('vm'));
  return all.filter((suite) => kernels.includes(suite.kernel) && isChosen(suite));
}

/** A part that breaks is one failure, and the parts after it still run. */
async function guarded(name: string, report: Report, part: () => Promise<void>): Promise<void> {
  try {
    await part();
  } catch (error) {
    report(name, { passed: 0, failures: [error instanceof Error ? error.message : String(error)] });
  }
}

async function testAll(choice: Choice): Promise<void> {
  const signal = interrupted();
  const failures: string[] = [];
  let passed = 0;
  const report: Report = (name, result) => {
    passed += result.passed;
    failures.push(...result.failures.map((text) => `${name}: ${text}`));
  };
  const runVitest = (name: string, config?: string, reporter?: string) =>
    guarded(name, report, async () => {
      say(name);
      report(name, await vitest(config, { ...(reporter === undefined ? {} : { reporter }) }));
    });
  const onCluster = async (name: string) => {
    await runVitest(name, 'test/e2e/vitest.config.ts', './test/e2e/progress.ts');
    // One that was interrupted has not taken its cluster down.
    await guarded(name, report, () => ClusterSession.attach(CLUSTER).down());
  };
  const onKernels = (part: SuitePart) =>
    guarded('virtual machine', report, async () => {
      await runSuites(await chooseSuites(choice, part), report, { jobs: choice.jobs, signal });
    });
  const work: Readonly<Record<Part, () => Promise<void>>> = {
    checks: () => runChecks(report),
    unit: () => runVitest('unit tests'),
    api: () => guarded('API server', report, () => testOnApiServer(report)),
    e2e: () => onCluster('cluster'),
    life: async () => {
      process.env.IPVS_BPF_TEST_LIFE = 'yes';
      if (choice.names.length === 0) await onCluster('life of an installation');
      if (!signal.aborted) await onKernels('life');
    },
    vm: async () => {
      if (choice.names.length === 0) await runVitest('npm run vm', 'test/vm/vitest.config.ts');
      await onKernels('vm');
    },
  };
  for (const part of parts) if (choice.only.includes(part) && !signal.aborted) await work[part]();
  if (signal.aborted) failures.push('interrupted');
  for (const failure of failures) process.stdout.write(`FAILED ${failure}\n`);
  process.stdout.write(`${passed} passed, ${failures.length} failed\n`);
  process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0;
}

const program = new Command('npm test --')
  .description(
    'Run the checks, the unit tests, those on an API server and on a cluster, and the suites of test/kernel.',
  )
  .option('--kernel <series>', `boot only this kernel: ${kernelSeries.join(', ')}`, seriesOption)
  .addOption(new Option('--only <part...>', 'run only these parts').choices(parts))
  .option('--jobs <n>', 'virtual machines at once', positiveOption, Math.min(2, availableParallelism()))
  .argument('[suite...]', 'run only these suites of test/kernel (names without .test.sh)');
program.parse();
const { kernel, only, jobs } = program.opts<{ kernel?: KernelSeries; only?: Part[]; jobs: number }>();
const some = program.args.length > 0 || kernel !== undefined;
const choice: Choice = {
  only: only ?? (some ? ['vm'] : parts.filter((part) => part !== 'life')),
  kernels: kernel === undefined ? kernelSeries : [kernel],
  names: program.args,
  jobs,
};
await main(() => testAll(choice));
