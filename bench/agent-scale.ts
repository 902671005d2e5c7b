// SPDX-License-Identifier: Apache-2.0
/** npm run bench:agent: what a node's agent does with many Services, in memory, on a real kernel and in a cluster; docs/benchmark.md. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { buildAll } from '../scripts/build.ts';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelFor, kernelSeries } from '../scripts/kernels.ts';
import { seriesOption } from '../scripts/options.ts';
import { measureInCluster } from './agent-cluster.ts';
import { prepareAgentGuest } from './agent-files.ts';
import { measureNative } from './agent-native.ts';
import type { Figures, Time } from './agent-run.ts';
import { prepare, runGuest } from './guest.ts';
import { MiB, median, seconds } from './scale-numbers.ts';

const REPEATS = 9;
/** Under -icount each takes seconds, and they differ less. */
const GUEST_REPEATS = 5;

interface Options {
  readonly services: number;
  readonly kernel: KernelSeries;
  readonly only?: 'memory' | 'kernel' | 'cluster';
}

const KINDS = [
  ['load', 'an agent starts: Node and its bundle are loaded'],
  ['start', '… and its first look, at a node that is as it should be'],
  ['look', 'a look that changes nothing'],
  ['edit', 'from an edited slice until the map has it'],
  ['reported', 'from an edited slice until the status is written'],
] as const;

function cpu(times: readonly Time[]): number {
  return median(times.map((time) => time.cpu));
}

async function inMemory(services: number): Promise<void> {
  await buildAll([]);
  say(`${services} Services on an in-memory kernel`);
  const figures = await measureNative(services, REPEATS);
  process.stdout.write(`In memory, ${services} Services: time (from, to), and processor time\n`);
  for (const [kind, text] of KINDS) {
    const wall = seconds(figures[kind].map((time) => time.wall));
    process.stdout.write(`| ${text} | ${wall} | ${seconds([cpu(figures[kind])])} |\n`);
  }
  process.stdout.write(`| memory (RSS), the in-memory kernel in it | ${MiB(figures.memory)} | |\n`);
}

async function onKernel(services: number, kernel: KernelSeries): Promise<void> {
  await prepare(kernel);
  await prepareAgentGuest([1, services]);
  const { release } = await kernelFor(kernel);
  const columns: Figures[] = [];
  for (const count of [1, services]) {
    say(`booting Linux ${release} with ${count} virtual servers; its clock counts instructions`);
    await runGuest({
      kernel,
      script: 'agent-guest.sh',
      args: [String(count), String(GUEST_REPEATS)],
      timeoutSeconds: 3000,
      onLine: (line) => columns.push(JSON.parse(line) as Figures),
    });
  }
  process.stdout.write(
    `Linux ${release}, millions of instructions of the agent's process, kernel included:\n`,
  );
  process.stdout.write(`1 virtual server, ${services} virtual servers\n`);
  const row = (text: string, show: (figures: Figures) => string): void => {
    process.stdout.write(`| ${text} | ${columns.map(show).join(' | ')} |\n`);
  };
  for (const [kind, text] of KINDS) row(text, (figures) => cpu(figures[kind]).toFixed(0));
  row('memory of the agent (RSS)', ({ memory }) => MiB(memory));
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 50_000) {
    throw new InvalidArgumentError('must be a whole number from 1 to 50000.');
  }
  return value;
}

const program = new Command('npm run bench:agent --')
  .description(
    "Measure a node's agent with many Services: on an in-memory kernel, in a virtual machine, in a cluster.",
  )
  .option('--services <count>', 'Services with a virtual server each', count, 10_000)
  .option('--kernel <series>', `Debian kernel to boot: ${kernelSeries.join(', ')}`, seriesOption, '6.1')
  .addOption(new Option('--only <part>', 'measure one part').choices(['memory', 'kernel', 'cluster']));
const { services, kernel, only } = program.parse().opts<Options>();
await main(async () => {
  const asked = (part: Options['only']): boolean => only === undefined || only === part;
  if (asked('memory')) await inMemory(services);
  if (asked('kernel')) await onKernel(services, kernel);
  if (asked('cluster')) await measureInCluster(services, kernel);
});
