// SPDX-License-Identifier: Apache-2.0
/** npm run bench:scale: the operator's process with many nodes and Services on a real API server; docs/benchmark.md. */
import { Command, InvalidArgumentError } from 'commander';
import { hashOf, repository } from '../scripts/cache.ts';
import { main, say } from '../scripts/exec.ts';
import { down, up } from '../test/cluster/cluster.ts';
import { place } from '../test/cluster/control-plane.ts';
import { helmBinary } from '../test/cluster/go.ts';
import { type Layout, layoutOf, statePaths } from '../test/cluster/layout.ts';
import { stop } from '../test/cluster/processes.ts';
import { ScaleRun } from './scale-run.ts';

interface Options {
  readonly nodes: number;
  readonly services: number;
}

/** Nothing but the API server: controllers and scheduler would look for machines behind the nodes. */
async function startApiServer(layout: Layout): Promise<void> {
  await up(layout, { nodes: 0 });
  for (const name of ['kube-controller-manager', 'kube-scheduler']) await stop(name, place(layout), 0);
  process.env.IPVS_BPF_TEST_KUBECONFIG = statePaths(layout.stateDir).kubeconfig;
  process.env.IPVS_BPF_TEST_HELM = await helmBinary();
}

async function bench({ nodes, services }: Options): Promise<void> {
  const layout = layoutOf(hashOf(repository), 'scale');
  // What is left of a run that was interrupted would be counted too.
  await down(layout);
  try {
    await startApiServer(layout);
    const run = new ScaleRun(nodes, services);
    try {
      say(`making ${nodes} nodes and ${services} Services`);
      await run.prepare();
      say('starting the operator');
      await run.start();
      const rows = await run.measure(say);
      for (const [what, value] of rows) process.stdout.write(`| ${what} | ${value} |\n`);
    } finally {
      await run.end();
    }
  } finally {
    await down(layout);
  }
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 50_000) {
    throw new InvalidArgumentError('must be a whole number from 1 to 50000.');
  }
  return value;
}

const program = new Command('npm run bench:scale --')
  .description("Measure the operator's process with many nodes and Services on a real API server.")
  .option('--nodes <count>', 'simulated nodes', count, 1000)
  .option('--services <count>', 'Services with an EndpointSlice each', count, 10_000)
  .action(async (options: Options) => main(() => bench(options)));
await program.parseAsync();
