// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where the compiled test/bpf/NAME.bpf.c are, as NAME.o. */
    readonly objects: string;
  }
}

const SOURCES = join(import.meta.dirname, 'bpf');
const FLAGS = ['-O2', '-g', '-Wall', '-Wextra', '-Werror', '-target', 'bpf', '-mcpu=v3'];

/** Compiles the BPF programs of the tests once, before all tests. */
export function setup(project: TestProject): () => void {
  const objects = mkdtempSync(join(tmpdir(), 'libbpf-ts-'));
  const remove = () => rmSync(objects, { recursive: true });
  try {
    compileAll(objects);
  } catch (error) {
    remove();
    throw error;
  }
  project.provide('objects', objects);
  return remove;
}

function compileAll(objects: string): void {
  const clang = process.env.CLANG ?? 'clang-14';
  const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim();
  for (const source of readdirSync(SOURCES).filter((name) => name.endsWith('.bpf.c'))) {
    const output = join(objects, source.replace('.bpf.c', '.o'));
    const include = `-I/usr/include/${machine}-linux-gnu`;
    execFileSync(clang, [...FLAGS, include, '-c', join(SOURCES, source), '-o', output], { stdio: 'inherit' });
  }
}
