// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { cacheRoot, repository } from '../../scripts/cache.ts';
import type { VmOptions } from './machine.ts';

/** Variables of the host that the script sees too, beside its own few. */
const passedOn = /^(CI|NO_COLOR|NODE_COMPILE_CACHE|VM_.*|IPVS_BPF_.*)$/;

/** Text of a shell file that sets variables. */
export function settingsFile(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${quote(value)}\n`)
    .join('');
}

/** Text of a shell file that runs the script in the guest. */
export function commandFile(options: VmOptions): string {
  const cwd = resolve(options.cwd ?? process.cwd());
  const environment = Object.entries(process.env).filter(([name]) => passedOn.test(name));
  return [
    `cd ${quote(cwd)} || exit 126`,
    // The same cache as on the host, whose home may be another one.
    `export XDG_CACHE_HOME=${quote(dirname(cacheRoot()))}`,
    ...environment.map(([name, value]) => `export ${name}=${quote(value ?? '')}`),
    `exec ${[...command(resolve(cwd, options.script), options.script), ...(options.args ?? [])].map(quote).join(' ')}`,
    '',
  ].join('\n');
}

function command(path: string, name: string): string[] {
  if (!existsSync(path)) return [name];
  if (path.endsWith('.ts')) return [join(repository, 'node_modules/.bin/node'), path];
  if (path.endsWith('.sh') && !isExecutable(path)) return ['/bin/sh', path];
  return [path];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A word that a POSIX shell reads as exactly this text. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
