// SPDX-License-Identifier: Apache-2.0
/** The two object files of the tc programs: one of them has programs that call kfuncs of the module. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoError, errnoOf, isNotFound } from '../core/errors.ts';

export interface TcObjectsOptions {
  /** File of the one that calls nothing, "….bpf.o"; beside it is "…_kfuncs.bpf.o". */
  readonly path: string;
  /** Directory of the module's control files. */
  readonly controls: string;
  /** What the kernel says of the module; default /sys/module/ip_vs. */
  readonly module?: string;
}

export interface TcObject {
  readonly path: string;
  /** sha256 of the file. */
  readonly hash: string;
  readonly usesModule: boolean;
}

/** One that calls the module. */
export interface CallingObject extends TcObject {
  /** Object and module: what the kernel refuses of these it may take of others. */
  readonly pair: string;
}

export class TcObjects {
  readonly #path: string;
  readonly #kfuncsSysctl: string;
  readonly #srcversion: string;

  constructor({ path, controls, module = '/sys/module/ip_vs' }: TcObjectsOptions) {
    this.#path = path;
    this.#kfuncsSysctl = join(controls, 'bpf_kfuncs');
    this.#srcversion = join(module, 'srcversion');
  }

  async plain(): Promise<TcObject> {
    return { path: this.#path, hash: await hashOfFile(this.#path), usesModule: false };
  }

  /** Undefined if the module that is there offers no kfuncs. */
  async calling(): Promise<CallingObject | undefined> {
    if (read(this.#kfuncsSysctl) !== '1') return undefined;
    const path = this.#path.replace(/\.bpf\.o$/, '_kfuncs.bpf.o');
    const hash = await hashOfFile(path);
    return { path, hash, usesModule: true, pair: `${hash}_${read(this.#srcversion) ?? ''}` };
  }
}

export function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

async function hashOfFile(path: string): Promise<string> {
  try {
    return sha256(await readFile(path));
  } catch (error) {
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}

/** Undefined if there is no such file: the in-tree module has none. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw errnoError(`read ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}
