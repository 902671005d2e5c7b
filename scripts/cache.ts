// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** The checkout that this file belongs to. */
export const repository = dirname(import.meta.dirname);

/** Everything that is downloaded or built and may be kept: outside of the checkout, keyed by content. */
export function cacheRoot(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'ipvs-bpf');
}

/**
 * A cached directory, made by `fill` if it is not there.
 *
 * `fill` works in a temporary directory that is renamed at the end: one that is interrupted leaves
 * nothing that a later call could take for complete, and of two at once the first to end wins.
 * @param name path under the cache root; it has to name all that the content depends on
 */
export async function cachedDirectory(
  name: string,
  fill: (directory: string) => Promise<void>,
): Promise<string> {
  const target = join(cacheRoot(), name);
  if (existsSync(target)) return target;
  await mkdir(dirname(target), { recursive: true });
  await removeStale(dirname(target));
  const temporary = await mkdtemp(`${target}.tmp-${process.pid}-`);
  try {
    await fill(temporary);
    await renameUnlessThere(temporary, target);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return target;
}

async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!existsSync(to)) throw error;
  }
}

/** Remove what interrupted runs left behind; what belongs to a running process stays. */
async function removeStale(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = /\.tmp-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

/** sha256, in hexadecimal, over all parts and the borders between them. */
export function hashOf(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
}

/** sha256 over names (relative to `base`) and contents of files and of all files below directories. */
export async function hashFiles(base: string, paths: readonly string[]): Promise<string> {
  const parts: (string | Uint8Array)[] = [];
  for (const path of [...paths].sort()) {
    for (const file of await filesBelow(join(base, path))) {
      parts.push(file.slice(base.length), await readFile(file));
    }
  }
  return hashOf(...parts);
}

async function filesBelow(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const names = (await readdir(path)).sort();
  return (await Promise.all(names.map((name) => filesBelow(join(path, name))))).flat();
}
