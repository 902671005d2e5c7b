// SPDX-License-Identifier: Apache-2.0
/** eBPF programs that only tests have. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const INCLUDES = [`-I${join(import.meta.dirname, '../../bpf')}`, '-I/usr/include/x86_64-linux-gnu'];

/** Path of the object, alone in a directory of its own. */
export function compile(source: string): string {
  const object = join(mkdtempSync(join(tmpdir(), 'bpf-')), 'o');
  execFileSync('clang-14', ['-O2', '-g', '-target', 'bpf', ...INCLUDES, '-c', source, '-o', object]);
  return object;
}
