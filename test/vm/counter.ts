// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { cachedDirectory, hashOf } from '../../scripts/cache.ts';
import { run } from '../../scripts/exec.ts';

const source = join(import.meta.dirname, 'counter.c');
let argument: Promise<string> | undefined;

/**
 * Tells a guest's kernel how fast its time stamp counter, which is this machine's, counts. By itself it measures that
 * against a timer, which goes wrong where the emulator has to wait for the host meanwhile: it has taken 23 MHz for the
 * truth instead of 2595, and the guest's clock then runs 112 times too fast, until it does nothing but time out. Not with
 * -icount, where instructions are counted. Empty on a machine without that counter.
 */
export function counterArgs(): Promise<string> {
  argument ??= measure();
  return argument;
}

async function measure(): Promise<string> {
  if (arch() !== 'x64') return '';
  const key = hashOf(await readFile(source)).slice(0, 16);
  const directory = await cachedDirectory(`vm/counter_${key}`, async (target) => {
    const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-static'];
    await run('gcc', [...flags, '-o', join(target, 'counter'), source]);
  });
  return `tsc_early_khz=${(await run(join(directory, 'counter'), [])).trim()}`;
}
