// SPDX-License-Identifier: Apache-2.0
import { copyFile, mkdir, readdir, rename } from 'node:fs/promises';
import { arch } from 'node:os';
import { join } from 'node:path';
import { cachedDirectory, hashFiles, hashOf, repository } from './cache.ts';
import { run, say } from './exec.ts';

const compiler = 'clang-14';
const machines: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };
const flags = [
  ...['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Werror', '-Ibpf'],
  // clang does not look for <asm/types.h> by itself when the target is bpf
  `-I/usr/include/${machines[arch()] ?? arch()}-linux-gnu`,
];

/** Compiles bpf/NAME.bpf.c into build/bpf/NAME.bpf.o; cached by the content of bpf/. */
export async function buildBpf(): Promise<string> {
  const all = await readdir(join(repository, 'bpf'), { recursive: true });
  const inputs = all.filter((name) => /\.[ch]$/.test(name)).map((name) => `bpf/${name}`);
  const version = await run(compiler, ['--version']);
  const key = hashOf(await hashFiles(`${repository}/`, inputs), version, flags.join(' ')).slice(0, 16);
  const sources = inputs.filter((name) => name.endsWith('.bpf.c'));
  const built = await cachedDirectory(`bpf/${key}`, async (directory) => {
    for (const source of sources) {
      say(`compiling ${source}`);
      // relative paths: the debugging information must not depend on where the checkout is
      const args = [...flags, `-ffile-prefix-map=${repository}=.`, '-c', source, '-o'];
      await run(compiler, [...args, join(directory, objectName(source))], { cwd: repository });
    }
  });
  const target = join(repository, 'build/bpf');
  await mkdir(target, { recursive: true });
  for (const name of sources.map(objectName)) await install(join(built, name), join(target, name));
  return target;
}

function objectName(source: string): string {
  return source.replace(/^bpf\//, '').replace(/\.c$/, '.o');
}

/** Whoever reads the target at this moment sees the old or the new file, never a part. */
async function install(from: string, to: string): Promise<void> {
  await copyFile(from, `${to}.${process.pid}`);
  await rename(`${to}.${process.pid}`, to);
}
