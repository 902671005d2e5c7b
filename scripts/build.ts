// SPDX-License-Identifier: Apache-2.0
/**
 * npm run build [-- --kernel 6.1 | --no-module]: everything that runs on a node.
 *
 *   dist/ipvs-bpf               the command line, and its bundle beside it; kubectl-ipvs_bpf is the same
 *   build/bpf/*.o               the tc programs
 *   build/RELEASE/ip_vs.ko      the kernel module, with manifest.json; for all kernels or the one chosen
 */
import { relative } from 'node:path';
import { Command } from 'commander';
import { buildModule } from '../kernel-module/build.ts';
import { buildBpf } from './build-bpf.ts';
import { buildCli } from './build-cli.ts';
import { repository } from './cache.ts';
import { main, say } from './exec.ts';
import { type KernelSeries, kernelFor, kernelSeries } from './kernels.ts';
import { seriesOption } from './options.ts';

/** Builds all parts, the module for the given kernels; what has not changed comes from the cache. */
export async function buildAll(kernels: readonly KernelSeries[]): Promise<void> {
  report(await buildCli());
  report(await buildBpf());
  for (const series of kernels) report(await buildModule(await kernelFor(series)));
}

function report(directory: string): void {
  say(`built ${relative(repository, directory)}/`);
}

if (import.meta.main) {
  const program = new Command('npm run build --')
    .description('Build the command line, the eBPF programs and the kernel module.')
    .option('--kernel <series>', `only for this kernel: ${kernelSeries.join(', ')}`, seriesOption)
    .option('--no-module', 'build no kernel module');
  const { kernel, module } = program.parse().opts<{ kernel?: KernelSeries; module: boolean }>();
  if (kernel !== undefined && !module)
    program.error('error: only one of --kernel and --no-module may be given');
  await main(() => buildAll(module ? (kernel === undefined ? kernelSeries : [kernel]) : []));
}
