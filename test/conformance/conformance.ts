// SPDX-License-Identifier: Apache-2.0
/** The upstream suite on a running cluster, natively and accelerated. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, say } from '../../scripts/exec.ts';
import { deploy, undeploy } from '../cluster/deploy.ts';
import { kubernetesBinary } from '../cluster/go.ts';
import { type Layout, statePaths } from '../cluster/layout.ts';
import type { Settings } from '../cluster/settings.ts';
import { administrator } from '../cluster/users.ts';
import { readAcceleratedConnections } from './counters.ts';
import {
  applyPolicy,
  deleteNamespaces,
  deletePolicy,
  type Kubectl,
  kubectlWith,
  requireNoPolicy,
} from './policy.ts';
import { type ListedTest, listedTests } from './report.ts';
import { ResultsFile } from './results.ts';
import { runHalf } from './run-half.ts';
import type { Suite } from './run-test.ts';
import { selectTests, shortName } from './selection.ts';
import { acceleratedTests, type Half, notPassed, reasons, regressions, resultTable } from './table.ts';

export interface ConformanceOptions {
  /** Fits the full names of the tests to run. */
  readonly focus: RegExp;
  readonly halves: readonly Half[];
  /** Tests at once. */
  readonly jobs: number;
  /** For one test. */
  readonly timeoutSeconds: number;
  /** Folder for logs and results.json. */
  readonly output: string;
  /** Leaves out what has passed according to results.json, and keeps that. */
  readonly resume: boolean;
  /** At which the rest is left out, and what was made in the cluster removed. */
  readonly signal: AbortSignal;
}

export interface Verdict {
  readonly table: string;
  /** Why tests did not pass, a line each. */
  readonly reasons: readonly string[];
  /** Empty if the accelerated path is as good as the native one. */
  readonly faults: readonly string[];
}

/** Every test that the suite of this version has; needs no cluster. */
export async function listTests(kubernetes: string): Promise<ListedTest[]> {
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-conformance-'));
  try {
    const report = join(directory, 'report.json');
    const args = ['--provider=skeleton', '--ginkgo.dry-run', `--ginkgo.json-report=${report}`];
    await run(await kubernetesBinary('e2e.test', kubernetes), args, { cwd: directory, timeoutMs: 120_000 });
    return listedTests(await readFile(report, 'utf8'));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Runs the halves on a cluster that is up; whatever happens, it is left as it was. */
export async function conformance(
  layout: Layout,
  settings: Settings,
  options: ConformanceOptions,
): Promise<Verdict> {
  const { kubernetes, ipFamilies } = settings;
  const { selected, excluded } = selectTests(await listTests(kubernetes), options.focus, ipFamilies);
  for (const { name, reason } of excluded) say(`left out: ${shortName(name)}: ${reason}`);
  const program = await kubernetesBinary('kubectl', kubernetes);
  const paths = statePaths(layout.stateDir);
  const context: Context = {
    layout,
    settings,
    options,
    kubectl: kubectlWith(program, paths.kubeconfig),
    results: new ResultsFile(join(options.output, 'results.json'), kubernetes),
    suite: {
      program: await kubernetesBinary('e2e.test', kubernetes),
      kubectl: program,
      kubeconfig: paths.kubeconfigOf(administrator.id),
      netns: layout.clientNetns,
      timeoutSeconds: options.timeoutSeconds,
      signal: options.signal,
    },
  };
  await requireNoPolicy(context.kubectl);
  const faults: string[] = [];
  for (const half of options.halves) {
    if (options.signal.aborted) break;
    const runHere = half === 'native' ? nativeHalf : acceleratedHalf;
    faults.push(...(await runHere(context, selected)));
  }
  return verdict(selected, context.results, faults);
}

interface Context {
  readonly layout: Layout;
  readonly settings: Settings;
  readonly options: ConformanceOptions;
  readonly kubectl: Kubectl;
  readonly results: ResultsFile;
  readonly suite: Suite;
}

function nativeHalf(context: Context, selected: readonly ListedTest[]): Promise<string[]> {
  return runTests(context, 'native', testsToRun(selected, context, 'native'));
}

async function acceleratedHalf(context: Context, selected: readonly ListedTest[]): Promise<string[]> {
  const { layout, settings, options, kubectl, results } = context;
  const tests = testsToRun(acceleratedTests(selected, results.results), context, 'accelerated');
  if (!options.resume) results.forget('accelerated', names(selected));
  if (tests.length === 0) return [];
  const installed = await kubectl([
    'get',
    'deployment',
    '-A',
    '-l',
    'app.kubernetes.io/name=ipvs-bpf',
    '-o',
    'name',
  ]);
  try {
    await deploy(layout);
    await applyPolicy(kubectl, options.signal);
    const before = await readAcceleratedConnections(layout, settings.nodes);
    const faults = await runTests(context, 'accelerated', tests);
    const taken = (await readAcceleratedConnections(layout, settings.nodes)) - before;
    say(`connections on the accelerated path: ${taken}`);
    return taken > 0 ? faults : [...faults, 'no connection went the accelerated way'];
  } finally {
    await deletePolicy(kubectl);
    if (installed.trim() === '') await undeploy(layout);
  }
}

function names(tests: readonly ListedTest[]): string[] {
  return tests.map(({ name }) => name);
}

function testsToRun(tests: readonly ListedTest[], { options, results }: Context, half: Half): ListedTest[] {
  return options.resume ? notPassed(tests, results.results[half]) : [...tests];
}

/** Answers faults that are no test's. */
async function runTests(context: Context, half: Half, tests: readonly ListedTest[]): Promise<string[]> {
  const { options, results, suite, kubectl } = context;
  const logs = join(options.output, half);
  if (!options.resume) await rm(logs, { recursive: true, force: true });
  await mkdir(logs, { recursive: true });
  say(`${half}: ${tests.length} tests, ${options.jobs} at once; logs in ${logs}`);
  results.forget(half, names(tests));
  const runIds: string[] = [];
  let faults: string[] = [];
  try {
    await runHalf(suite, tests, {
      half,
      logs,
      jobs: options.jobs,
      record: (name, outcome) => results.record(half, name, outcome),
      started: (runId) => runIds.push(runId),
    });
  } finally {
    faults = await deleteNamespaces(kubectl, runIds);
  }
  return faults;
}

function verdict(selected: readonly ListedTest[], file: ResultsFile, faults: readonly string[]): Verdict {
  const { results } = file;
  const all = names(selected);
  const worse = regressions(all, results).map((name) => `not as good as natively: ${shortName(name)}`);
  return {
    table: resultTable(all, results),
    reasons: reasons(all, results),
    faults: [...faults, ...worse],
  };
}
