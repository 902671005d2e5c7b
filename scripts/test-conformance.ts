// SPDX-License-Identifier: Apache-2.0
/**
 * npm run test:conformance: upstream's own end-to-end tests of Services on the test cluster, first with plain
 * kube-proxy, then with a policy that takes every Service. Those that pass natively have to pass accelerated.
 */
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { down, ownLayout, up } from '../test/cluster/cluster.ts';
import { kubernetesBinary } from '../test/cluster/go.ts';
import { type Layout, statePaths } from '../test/cluster/layout.ts';
import { ownImage } from '../test/cluster/own-image.ts';
import { readSettings, type Settings } from '../test/cluster/settings.ts';
import { defaultKubernetes, kubernetesVersion } from '../test/cluster/versions.ts';
import { conformance, listTests } from '../test/conformance/conformance.ts';
import { defaultFocus, selectTests, shortName } from '../test/conformance/selection.ts';
import { type Half, halves } from '../test/conformance/table.ts';
import { interrupted } from '../test/vm/interrupted.ts';
import { main, say } from './exec.ts';
import { positiveOption } from './options.ts';

interface Options {
  readonly focus: RegExp;
  readonly only?: Half;
  readonly jobs: number;
  readonly timeout: number;
  readonly limit: number;
  readonly output: string;
  readonly resume?: true;
  readonly list?: true;
}

const layout = ownLayout();

function expression(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}

async function list({ focus }: Options): Promise<void> {
  const present = await readSettings(statePaths(layout.stateDir).settings);
  const tests = await listTests(present?.kubernetes ?? kubernetesVersion(defaultKubernetes));
  const { selected, excluded } = selectTests(tests, focus, present?.ipFamilies);
  const rows = [
    ...selected.map(({ name, serial }) => `${shortName(name)}${serial ? ' (alone)' : ''}`),
    ...excluded.map(({ name, reason }) => `left out: ${shortName(name)}: ${reason}`),
    `${selected.length} tests, ${excluded.length} left out`,
  ];
  process.stdout.write(rows.map((row) => `${row}\n`).join(''));
}

/** Two nodes at least; more that run already stay. */
async function startCluster(present: Settings | undefined, accelerated: boolean): Promise<Settings> {
  // Nodes that start with the image need not have it loaded while they run.
  const images = present === undefined && accelerated ? { images: [(await ownImage()).archive] } : {};
  return up(layout, { nodes: Math.max(2, present?.nodes ?? 0), ...images });
}

async function test(options: Options): Promise<void> {
  const stopped = interrupted();
  const signal = AbortSignal.any([stopped, AbortSignal.timeout(options.limit * 60_000)]);
  const chosen = options.only === undefined ? halves : [options.only];
  const present = await readSettings(statePaths(layout.stateDir).settings);
  await kubernetesBinary('e2e.test', present?.kubernetes ?? kubernetesVersion(defaultKubernetes));
  try {
    const settings = await startCluster(present, chosen.includes('accelerated'));
    const verdict = await conformance(layout, settings, {
      ...options,
      signal,
      halves: chosen,
      timeoutSeconds: options.timeout,
      resume: options.resume ?? false,
    });
    for (const reason of verdict.reasons) say(reason);
    process.stdout.write(verdict.table);
    for (const fault of verdict.faults) process.stdout.write(`FAILED ${fault}\n`);
    if (signal.aborted) process.stdout.write('FAILED not all tests were run\n');
    process.exitCode = verdict.faults.length > 0 || signal.aborted ? 1 : 0;
  } finally {
    if (present === undefined) await removeCluster(layout);
  }
}

async function removeCluster(own: Layout): Promise<void> {
  say('taking the cluster down');
  await down(own);
}

const program = new Command('npm run test:conformance --')
  .description("Run upstream's end-to-end tests of Services with and without acceleration, and compare.")
  .addHelpText(
    'after',
    '\nUses the cluster of "npm run cluster" if it runs, which must not have a policy; else starts one and takes it\n' +
      'down again. The exit status is 1 if a test that passes natively does not pass accelerated.',
  )
  .option('--focus <regexp>', 'full names of the tests', expression, new RegExp(defaultFocus))
  .addOption(
    new Option('--only <half>', 'run one half; the table has the other one as it was last time').choices(
      halves,
    ),
  )
  .option('--jobs <n>', 'tests at once', positiveOption, 2)
  .option('--timeout <seconds>', 'for one test', positiveOption, 600)
  .option('--limit <minutes>', 'for everything', positiveOption, 240)
  .option(
    '--output <dir>',
    'folder for logs and results',
    // npm runs scripts in the checkout; names are meant from where npm was called
    (text: string) => resolve(process.env.INIT_CWD ?? '.', text),
    join(tmpdir(), `ipvs-bpf-conformance-${layout.name}`),
  )
  .option(
    '--resume',
    'go on with a run that was interrupted: leave out what the results there say has passed',
  )
  .option('--list', 'only list the tests')
  .action((options: Options) => main(() => (options.list ? list(options) : test(options))));

await program.parseAsync();
