// SPDX-License-Identifier: Apache-2.0
/** npm run check: types, lint and format of TypeScript, lint of shell scripts; no test is run. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from './cache.ts';
import { run, say } from './exec.ts';

export interface Check {
  readonly name: string;
  /** @throws Error with the tool's output when it finds fault */
  readonly check: () => Promise<unknown>;
}

const bin = (name: string) => join(repository, 'node_modules/.bin', name);

export const checks: readonly Check[] = [
  { name: 'types (tsc)', check: () => run(bin('tsc'), ['-p', '.'], { cwd: repository }) },
  {
    name: 'lint and format (biome)',
    check: () => run(bin('biome'), ['check', '--error-on-warnings', '.'], { cwd: repository }),
  },
  { name: 'shell scripts (shellcheck)', check: checkShell },
];

async function checkShell(): Promise<void> {
  const scripts = await shellScripts();
  await run('shellcheck', ['-x', '--source-path=SCRIPTDIR', ...scripts], { cwd: repository });
}

/** What git tracks, or would, and that begins with a shell's `#!` line. */
async function shellScripts(): Promise<string[]> {
  const listed = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
  });
  const scripts: string[] = [];
  for (const name of new Set(listed.split('\0').filter(Boolean))) {
    if (/^#!.*\b(ba|da)?sh\b/.test(await firstBytes(join(repository, name)))) scripts.push(name);
  }
  return scripts;
}

async function firstBytes(path: string): Promise<string> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0);
  return buffer.subarray(0, bytesRead).toString('latin1').split('\n')[0] ?? '';
}

if (import.meta.main) {
  for (const { name, check } of checks) {
    try {
      await check();
      say(`${name}: nothing found`);
    } catch (error) {
      process.exitCode = 1;
      say(`${name}: failed`);
      process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    }
  }
}
