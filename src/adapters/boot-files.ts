// SPDX-License-Identifier: Apache-2.0
/** What makes the host load the patched module at boot: two files in its /etc, and a directory of ours. */
import { createHash } from 'node:crypto';
import { accessSync, lstatSync, statSync } from 'node:fs';
import { access, constants, mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  BOOT_RESULTS,
  type BootFiles,
  type BootModule,
  type BootOutcome,
  type BootState,
} from '../boot-ports.ts';
import {
  BOOT_FILES,
  BOOT_SCRIPT,
  MODPROBE_FILE,
  MODULES_LOAD_FILE,
  MODULES_LOAD_TEXT,
  modprobeText,
} from '../core/boot-script.ts';
import { errnoError, errnoOf, HostError, isNotFound } from '../core/errors.ts';
import { syncDirectory, writeWhole } from './durable-files.ts';
import { checkManifest, readModuleInfo } from './module-file.ts';
import { listIfThere, readIfThere } from './proc.ts';

export interface HostBootFilesOptions {
  /** The host's root, also as seen from a container. */
  readonly root: string;
  /** Absolute, and the same on the host and here. */
  readonly directory: string;
}

/** That of the host's first process, also where this one has the root of a container, or of an image. */
export function firstProcessRoot(): string {
  try {
    accessSync('/proc/1/root/');
    return '/proc/1/root';
  } catch {
    // Not root: it can only look, and sees what everybody sees.
    return '/';
  }
}

const PROGRAM_DIRECTORIES = ['usr/sbin', 'usr/bin', 'sbin', 'bin'];
const PROGRAMS = ['modprobe', 'insmod', 'sha256sum', 'sync'];
const LOADER = 'systemd-modules-load';
const LOADER_DIRECTORIES = ['usr/lib/systemd', 'lib/systemd'];

export class HostBootFiles implements BootFiles {
  readonly #root: string;
  readonly #directory: string;
  readonly #modprobeFile: string;
  readonly #loadFile: string;
  /** The copy as it was when its digest was taken last: it need not be read at every look. */
  #digest: { readonly version: string; readonly sha256: string } | undefined;

  constructor({ root, directory }: HostBootFilesOptions) {
    this.#root = root;
    this.#directory = directory;
    this.#modprobeFile = join(root, MODPROBE_FILE);
    this.#loadFile = join(root, MODULES_LOAD_FILE);
  }

  async state(): Promise<BootState> {
    const missing = await this.#missing();
    const names = listIfThere(this.#directory);
    const etc = [this.#loadFile, this.#modprobeFile];
    const present = names !== undefined || etc.some((file) => readIfThere(file) !== undefined);
    if (!present) return { missing, present };
    const armed = await this.#armed();
    const unconfirmed = readIfThere(this.#path('attempt'))?.trim();
    const last = outcomeOf(readIfThere(this.#path('outcome')) ?? '');
    return {
      missing,
      present,
      ...(armed === undefined ? {} : { armed }),
      ...(unconfirmed === undefined ? {} : { unconfirmed }),
      ...(last === undefined ? {} : { last }),
    };
  }

  async arm({ file, srcversion, kernelRelease, bootId }: BootModule): Promise<void> {
    // Between a new module and its new record no boot must find either.
    await this.disarm();
    await this.#change('write', async () => {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const content = await readFile(file);
      await writeWhole(this.#path('module'), content);
      const info = await readModuleInfo(this.#path('module'));
      if (info.srcversion !== srcversion) {
        const message = `${file} has srcversion ${info.srcversion}, not ${srcversion}`;
        throw new HostError(message, { code: 'ModuleInvalid', retry: true });
      }
      await checkManifest(file, info);
      const record = `${kernelRelease} ${sha256(content)} ${bootId} ${srcversion}\n${info.depends.join(' ')}\n`;
      await writeWhole(this.#path('record'), record);
      await writeWhole(this.#path('script'), BOOT_SCRIPT, 0o700);
      await writeWhole(this.#modprobeFile, modprobeText(this.#directory), 0o644);
      await writeWhole(this.#loadFile, MODULES_LOAD_TEXT, 0o644);
    });
  }

  async confirm(): Promise<void> {
    await this.#change('remove', async () => {
      await rm(this.#path('attempt'), { force: true });
      await syncDirectory(this.#directory);
    });
  }

  async disarm(): Promise<void> {
    await this.#change('remove', async () => {
      for (const file of [this.#loadFile, this.#modprobeFile]) {
        for (const path of [file, `${file}.new`]) await rm(path, { force: true });
        if (isThere(dirname(file))) await syncDirectory(dirname(file));
      }
      await rm(this.#directory, { recursive: true, force: true });
    });
  }

  #path(name: keyof typeof BOOT_FILES): string {
    return join(this.#directory, BOOT_FILES[name]);
  }

  async #change(what: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (error instanceof HostError) throw error;
      const message = `${what} the files for the next boot (${error instanceof Error ? error.message : error})`;
      throw errnoError(message, errnoOf(error) ?? 'EIO', error);
    }
  }

  async #armed(): Promise<BootState['armed']> {
    const whole =
      readIfThere(this.#loadFile) === MODULES_LOAD_TEXT &&
      readIfThere(this.#modprobeFile) === modprobeText(this.#directory) &&
      readIfThere(this.#path('script')) === BOOT_SCRIPT;
    const record = /^(\S+) ([0-9a-f]{64}) (\S+) (\S*)\n.*\n$/.exec(readIfThere(this.#path('record')) ?? '');
    if (!whole || record === null) return undefined;
    const [, kernelRelease = '', digest, bootId = '', srcversion = ''] = record;
    if ((await this.#digestOfCopy()) !== digest) return undefined;
    return { kernelRelease, srcversion, bootId };
  }

  /** Undefined if there is none. */
  async #digestOfCopy(): Promise<string | undefined> {
    const path = this.#path('module');
    if (!isThere(path)) return undefined;
    const { mtimeMs, size, ino } = statSync(path);
    const version = `${mtimeMs} ${size} ${ino}`;
    if (this.#digest?.version !== version) {
      this.#digest = { version, sha256: sha256(await readFile(path)) };
    }
    return this.#digest.sha256;
  }

  async #missing(): Promise<readonly string[]> {
    const problems: string[] = [];
    for (const file of [MODULES_LOAD_FILE, MODPROBE_FILE]) {
      const directory = dirname(join(this.#root, file));
      if (!isThere(directory)) problems.push(`there is no directory /${dirname(file)}`);
      else if (!(await isWritable(directory))) problems.push(`/${dirname(file)} cannot be written`);
    }
    const has = (name: string, directories: readonly string[]): boolean =>
      directories.some((directory) => isThere(join(this.#root, directory, name)));
    for (const name of PROGRAMS) {
      if (!has(name, PROGRAM_DIRECTORIES)) problems.push(`there is no program ${name}`);
    }
    if (!has(LOADER, LOADER_DIRECTORIES)) problems.push(`there is no ${LOADER}, which reads modules-load.d`);
    return problems;
  }
}

/** Not what a link points to: an absolute one means another file in a container than on the host. */
function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw errnoError(`look at ${path}`, errnoOf(error) ?? 'EIO', error);
  }
}

async function isWritable(directory: string): Promise<boolean> {
  try {
    await access(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function outcomeOf(text: string): BootOutcome | undefined {
  const [, bootId = '', name, message = ''] = /^(\S+) (\S+)\s*(.*)$/s.exec(text) ?? [];
  const result = BOOT_RESULTS.find((each) => each === name);
  return result === undefined ? undefined : { bootId, result, message: message.trim().replace(/\s+/g, ' ') };
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
