// SPDX-License-Identifier: Apache-2.0
/** npm run vm -- [OPTION...] SCRIPT [ARG...]: see `usage`. */
import { Command } from 'commander';
import { interrupted } from '../test/vm/interrupted.ts';
import { runInVm, vmStatus } from '../test/vm/machine.ts';
import { main, say } from './exec.ts';
import { type KernelSeries, kernelSeries } from './kernels.ts';
import { positiveOption, seriesOption } from './options.ts';

interface Options {
  readonly kernel: KernelSeries;
  readonly smp: number;
  readonly memory: number;
  readonly icount?: true;
  readonly timeout: number;
}

async function runScript(options: Options, script: string, args: readonly string[]): Promise<void> {
  const outDir = process.env.IPVS_BPF_VM_OUT;
  const result = await runInVm({
    kernel: options.kernel,
    script,
    args,
    cwd: process.env.INIT_CWD ?? process.cwd(),
    smp: options.smp,
    memoryMb: options.memory,
    icount: options.icount ?? false,
    timeoutSeconds: options.timeout,
    ...(outDir ? { outDir } : {}),
    signal: interrupted(),
    onStdout: (chunk) => process.stdout.write(chunk),
    onStderr: (chunk) => process.stderr.write(chunk),
  });
  if (result.problems.length > 0 || result.bootMs === undefined) {
    say(`kernel log of ${options.kernel}:`);
    process.stderr.write(`${result.kernelLog}\n`);
    for (const problem of result.problems) say(`kernel problem: ${problem}`);
  }
  if (result.status === vmStatus.timedOut) say(`timed out after ${options.timeout} s`);
  if (process.env.VM_VERBOSE) say(`booted in ${result.bootMs} ms`);
  process.exitCode = result.status;
}

const program = new Command('npm run vm --')
  .description('Boot a Debian kernel under QEMU and run SCRIPT in it as root, on the files of this machine.')
  .option('--kernel <series>', `Debian kernel to boot: ${kernelSeries.join(', ')}`, seriesOption, '6.1')
  .option('--smp <n>', 'processors', positiveOption, 2)
  .option('--memory <mb>', 'memory', positiveOption, 2048)
  .option('--icount', 'the clock counts instructions, 1 ns each; one processor')
  .option('--timeout <s>', 'end the run, with status 124, after so many seconds', positiveOption, 300)
  .argument('<script>', 'an executable, a .sh or .ts file, or a command')
  .argument('[arg...]')
  .passThroughOptions()
  .addHelpText(
    'after',
    `
Exit status: SCRIPT's; 124 after the timeout; ${vmStatus.kernelProblem} if the kernel's log shows an oops, a WARNING or the
like, which is then printed; ${vmStatus.died} if the machine ended without a word.
Files that SCRIPT writes are gone with the machine, except below the folder that IPVS_BPF_VM_OUT names.
`,
  );

const [script = '', ...args] = program.parse().args;
await main(() => runScript(program.opts<Options>(), script, args));
