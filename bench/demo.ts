// SPDX-License-Identifier: Apache-2.0
/** npm run demo:director [-- --kernel 6.12]: the same requests over native IPVS and over ipvs-bpf, in a virtual machine. */
import { Command } from 'commander';
import { main, say } from '../scripts/exec.ts';
import { type KernelSeries, kernelFor, kernelSeries } from '../scripts/kernels.ts';
import { seriesOption } from '../scripts/options.ts';
import { type Figure, parseFigure, summary } from './demo-table.ts';
import { prepare, runGuest } from './guest.ts';

async function demo(kernel: KernelSeries): Promise<void> {
  await prepare(kernel);
  const { release } = await kernelFor(kernel);
  say(`booting Linux ${release}; its clock counts instructions`);
  const figures: Figure[] = [];
  await runGuest({
    kernel,
    script: 'demo.sh',
    timeoutSeconds: 600,
    onLine: (line) => figures.push(parseFigure(line)),
  });
  const { text, ok } = summary(release, figures);
  process.stdout.write(`\n${text}\n`);
  if (!ok) throw new Error('the demo did not show what it should');
}

const program = new Command('npm run demo:director --')
  .description('Show native IPVS and ipvs-bpf side by side on a real kernel, in a virtual machine.')
  .option('--kernel <series>', `Debian kernel to boot: ${kernelSeries.join(', ')}`, seriesOption, '6.1');
const { kernel } = program.parse().opts<{ kernel: KernelSeries }>();
await main(() => demo(kernel));
