// SPDX-License-Identifier: Apache-2.0
/** Boots a virtual machine for a script of this folder and gives its lines as they come. */
import { join } from 'node:path';
import { buildAll } from '../scripts/build.ts';
import { repository } from '../scripts/cache.ts';
import { run, say } from '../scripts/exec.ts';
import type { KernelSeries } from '../scripts/kernels.ts';
import { interrupted } from '../test/vm/interrupted.ts';
import { lineSplitter } from '../test/vm/lines.ts';
import { runInVm } from '../test/vm/machine.ts';

export interface GuestOptions {
  readonly kernel: KernelSeries;
  /** Name of a script in bench/. */
  readonly script: string;
  readonly args?: readonly string[];
  readonly timeoutSeconds: number;
  readonly onLine: (line: string) => void;
}

/** Builds what the script needs. */
export async function prepare(kernel: KernelSeries): Promise<void> {
  await buildAll([kernel]);
  await run(join(repository, 'test/net/build.sh'), []);
}

/**
 * Runs the script under -icount: one nanosecond of the guest's clock is one instruction.
 * @throws Error if the script fails, or the kernel complains in its log
 */
export async function runGuest(options: GuestOptions): Promise<void> {
  const stdout = lineSplitter(options.onLine);
  const result = await runInVm({
    kernel: options.kernel,
    script: join(repository, 'bench', options.script),
    args: options.args ?? [],
    cwd: repository,
    icount: true,
    timeoutSeconds: options.timeoutSeconds,
    signal: interrupted(),
    onStdout: stdout.push,
    onStderr: (chunk) => process.stderr.write(chunk),
  });
  stdout.end();
  for (const problem of result.problems) say(`kernel problem: ${problem}`);
  if (result.problems.length > 0) process.stderr.write(`${result.kernelLog}\n`);
  if (result.status !== 0) throw new Error(`bench/${options.script} ended with status ${result.status}`);
}
