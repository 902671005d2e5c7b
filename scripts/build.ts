// SPDX-License-Identifier: Apache-2.0
/**
 * npm run build [-- --kernel 6.1 | --kernel running | --no-module]: everything that runs on a node.
 *
 *   dist/ipvs-bpf               the command line, and its bundle beside it; kubectl-ipvs_bpf is the same
 *   build/bpf/*.o               the tc programs
 *   build/RELEASE/ip_vs.ko      the kernel module, with manifest.json; for the newest kernel of each series, or the one chosen
 */
import { release, version } from 'node:os';
import { relative } from 'node:path';
import { Command } from 'commander';
import { buildModule } from '../kernel-module/build.ts';
import { buildBpf } from './build-bpf.ts';
import { buildCli } from './build-cli.ts';
import { repository } from './cache.ts';
import { main, say } from './exec.ts';
import { type KernelSeries, kernelFor, kernelOfUname, kernelSeries } from './kernels.ts';
import { kernelOption, RUNNING } from './options.ts';

/** The newest kernel of a series, or the one that this machine runs. */
type KernelChoice = KernelSeries | typeof RUNNING;

/** Builds all parts, the module for the given kernels; what has not changed comes from the cache. */
export async function buildAll(kernels: readonly KernelChoice[]): Promise<void> {
  // Before anything is built: a kernel that there is no module for is known at once.
  const running = kernels.includes(RUNNING) ? kernelOfUname(release(), version()) : undefined;
  report(await buildCli());
  report(await buildBpf());
  if (running !== undefined) report(await buildModule(running));
  for (const choice of kernels) if (choice !== RUNNING) report(await buildModule(await kernelFor(choice)));
}

function report(directory: string): void {
  say(`built ${relative(repository, directory)}/`);
}

if (import.meta.main) {
  const program = new Command('npm run build --')
    .description('Build the command line, the eBPF programs and the kernel module.')
    .option(
      '--kernel <series>',
      `only for the newest of this series: ${kernelSeries.join(', ')}; or the kernel that runs here: ${RUNNING}`,
      kernelOption,
    )
    .option('--no-module', 'build no kernel module');
  const { kernel, module } = program.parse().opts<{ kernel?: KernelChoice; module: boolean }>();
  if (kernel !== undefined && !module)
    program.error('error: only one of --kernel and --no-module may be given');
  await main(() => buildAll(module ? (kernel === undefined ? kernelSeries : [kernel]) : []));
}
