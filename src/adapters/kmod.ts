// SPDX-License-Identifier: Apache-2.0
/** Kernel modules: reads /proc/modules, /sys/module and module files; changes by insmod, modprobe and rmmod. */
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { errnoError, errnoOf, HostError, type HostErrorCode, isNotFound } from '../core/errors.ts';
import type { KernelModules, LoadedModule } from '../ports.ts';
import { CommandError, exec } from './exec.ts';
import { checkManifest, type ModuleInfo, readModuleInfo } from './module-file.ts';
import { readIfThere } from './proc.ts';

export interface KmodOptions {
  /** Where /proc, /sys and /lib/modules are; default "/". */
  readonly root?: string;
  /** File of `install` lines for modprobe; default /run/modprobe.d/ipvs-bpf.conf, gone after a reboot. */
  readonly blockFile?: string;
  /** Default: that of the running kernel. */
  readonly release?: string;
  /** Where kernel-module/ipvs_bpf_family_id.c may be, built for a kernel release. */
  readonly familyIdHelpers?: (release: string) => readonly string[];
  /** Has RELEASE/KEY/ip_vs.ko, ipvs_bpf_family_id.ko and manifest.json, which came from images. */
  readonly deliveredDirectory?: string;
}

interface Rule {
  readonly pattern: RegExp;
  readonly code: HostErrorCode;
  readonly retry?: boolean;
  readonly advice: string;
}

/** What insmod, modprobe and rmmod say (English, LC_ALL=C), most specific first. */
const RULES: readonly Rule[] = [
  {
    pattern: /is in use|Device or resource busy|Resource temporarily unavailable/,
    code: 'ModuleInUse',
    retry: true,
    advice: 'Remove its virtual servers and the modules that use it first.',
  },
  { pattern: /not currently loaded/, code: 'ModuleNotFound', advice: 'It is not loaded.' },
  { pattern: /File exists/, code: 'ModuleExists', advice: 'Remove the loaded module of this name first.' },
  {
    pattern: /Required key not available|Key was rejected/,
    code: 'SignatureRequired',
    advice: 'Sign the module with a key that this machine trusts (MOK), or turn Secure Boot off.',
  },
  {
    pattern: /Invalid module format|Exec format error/,
    code: 'VermagicMismatch',
    advice: 'Build the module for the running kernel.',
  },
  {
    pattern: /Unknown symbol/,
    code: 'UnknownSymbol',
    advice: 'See the kernel log for the symbol that is missing.',
  },
  { pattern: /Operation not permitted|Permission denied/, code: 'PermissionDenied', advice: 'Run as root.' },
  {
    pattern: /No such file or directory|not found/,
    code: 'ModuleNotFound',
    advice: 'Check the module and its path.',
  },
];

const HELPER = 'ipvs_bpf_family_id.ko';
const INSTALL_HEADER =
  '# Written by ipvs-bpf: keeps modprobe from loading these modules, until it is done with them.';
const OWN_DIRECTORY = '# The directory was made together with this file.';

/** The kernel lists modules with underscores whatever their file is called. */
function normalized(name: string): string {
  return name.replaceAll('-', '_');
}

export class ProcKernelModules implements KernelModules {
  readonly #root: string;
  readonly #blockFile: string;
  readonly #release: string;
  readonly #familyIdHelpers: readonly string[];
  readonly #delivered: string | undefined;

  constructor(options: KmodOptions = {}) {
    this.#root = options.root ?? '/';
    this.#blockFile = options.blockFile ?? '/run/modprobe.d/ipvs-bpf.conf';
    this.#release = options.release ?? release();
    this.#familyIdHelpers = options.familyIdHelpers?.(this.#release) ?? [];
    this.#delivered = options.deliveredDirectory;
  }

  async release(): Promise<string> {
    return this.#release;
  }

  async list(): Promise<readonly LoadedModule[]> {
    return Promise.all((await this.#lines()).map((line) => this.#parse(line)));
  }

  async isBuiltIn(name: string): Promise<boolean> {
    const wanted = normalized(name);
    if ((await this.#lines()).some((line) => line.startsWith(`${wanted} `))) return false;
    const path = join(this.#root, 'lib/modules', this.#release, 'modules.builtin');
    for (const line of (readIfThere(path) ?? '').split('\n')) {
      const file = line.slice(line.lastIndexOf('/') + 1);
      if (file.endsWith('.ko') && normalized(file.slice(0, -3)) === wanted) return true;
    }
    // Code without module parameters has no directory there, code with them has one even if built in.
    return isThere(join(this.#root, 'sys/module', wanted));
  }

  async info(file: string): Promise<ModuleInfo> {
    const info = await readModuleInfo(file);
    await checkManifest(file, info);
    return info;
  }

  /** Loads the modules that FILE depends on with modprobe first, as insmod alone does not. */
  async insertFile(file: string, parameters: readonly string[] = []): Promise<void> {
    const { depends } = await readModuleInfo(file);
    // Each process that need not be started is a shorter outage.
    const loaded = new Set((await this.#lines()).map((line) => line.split(' ', 1)[0]));
    const missing = depends.filter((name) => !loaded.has(normalized(name)));
    if (missing.length > 0) await run('modprobe', ['-a', '--', ...missing]);
    await run('insmod', [file, ...parameters]);
  }

  async load(name: string, parameters: readonly string[] = []): Promise<void> {
    await run('modprobe', ['--', name, ...parameters]);
  }

  async readAhead(fileOrName: string): Promise<void> {
    const file = fileOrName.startsWith('/') ? fileOrName : await modulePath(fileOrName);
    await readFile(file).catch((error: unknown) => {
      throw errnoError(`read ${file}`, errnoOf(error) ?? 'EIO', error);
    });
  }

  async remove(name: string): Promise<void> {
    await run('rmmod', ['--', name]);
  }

  /** An `install` line: the kernel's own request runs modprobe, which then runs `false` instead. */
  async blockAutoload(name: string): Promise<void> {
    const blocked = await this.#blocked();
    if (blocked.names.includes(name)) return;
    await this.#writeBlocked({ ...blocked, names: [...blocked.names, name] });
  }

  async unblockAutoload(name: string): Promise<void> {
    const blocked = await this.#blocked();
    if (!blocked.names.includes(name)) return;
    const names = blocked.names.filter((other) => other !== name);
    if (names.length > 0) {
      await this.#writeBlocked({ ...blocked, names });
      return;
    }
    await rm(this.#blockFile, { force: true });
    if (blocked.ownDirectory) await removeIfEmpty(dirname(this.#blockFile));
  }

  async canAimFamilyId(): Promise<boolean> {
    return (await this.#findHelper()) !== undefined;
  }

  /** The helper never stays loaded: it ends with an error of its own when it has done its work. */
  async aimFamilyId(id: number): Promise<void> {
    const helper = await this.#findHelper();
    if (helper === undefined) throw new HostError('no helper for family ids', { code: 'NotFound' });
    try {
      await exec('insmod', [helper, `id=${id}`]);
    } catch (error) {
      if (error instanceof CommandError && error.stderr.includes('Operation canceled')) return;
      if (!(error instanceof CommandError)) throw error;
      throw translated(error);
    }
    throw new HostError(`${helper} stayed loaded`, { code: 'ModuleInvalid' });
  }

  async keepDelivered(files: readonly string[], newMs: number): Promise<void> {
    if (this.#delivered === undefined) return;
    const kept = files.map(dirname);
    for (const directory of await this.#deliveries()) {
      if (kept.includes(directory)) continue;
      if (newMs > 0 && (await ageMs(directory)) < newMs) continue;
      await rm(directory, { recursive: true, force: true });
    }
    if (kept.length > 0 || !(await isThere(this.#delivered))) return;
    for (const release of await namesIn(this.#delivered)) await removeIfEmpty(join(this.#delivered, release));
    await removeIfEmpty(this.#delivered);
  }

  /** RELEASE/KEY of every module that was delivered, whole or not. */
  async #deliveries(): Promise<readonly string[]> {
    const root = this.#delivered;
    if (root === undefined) return [];
    const found: string[] = [];
    for (const release of await namesIn(root)) {
      found.push(...(await namesIn(join(root, release))).map((key) => join(root, release, key)));
    }
    return found;
  }

  /** The helper is the same whichever build of ip_vs it came with. */
  async #findHelper(): Promise<string | undefined> {
    // A pod still copies what has a name with a dot.
    const whole = (await this.#deliveries()).filter((directory) => !basename(directory).startsWith('.'));
    const delivered = whole.map((directory) => join(directory, HELPER));
    for (const path of [...this.#familyIdHelpers, ...delivered]) {
      if (!(await isThere(path))) continue;
      const { vermagic } = await readModuleInfo(path);
      if (vermagic.split(' ')[0] === this.#release) return path;
    }
    return undefined;
  }

  async #lines(): Promise<readonly string[]> {
    const text = readIfThere(join(this.#root, 'proc/modules')) ?? '';
    return text.split('\n').filter((line) => line !== '');
  }

  async #parse(line: string): Promise<LoadedModule> {
    const [name = '', , references = '0', holders = '-', , , taint = ''] = line.split(' ');
    // A kernel has a hundred modules, and every look lists them: a file of each would be a tenth of its cost.
    const concerned = name.startsWith('ip_vs') || taint.includes('O');
    const srcversion = concerned
      ? readIfThere(join(this.#root, 'sys/module', name, 'srcversion'))?.trim()
      : undefined;
    const parameters = name.startsWith('ip_vs') ? await this.#parametersOf(name) : [];
    return {
      name,
      refCount: Number(references),
      holders: holders.split(',').filter((holder) => holder !== '' && holder !== '-'),
      ...(srcversion === undefined ? {} : { srcversion }),
      ...(parameters.length === 0 ? {} : { parameters }),
      taint: taint.replace(/[()]/g, ''),
    };
  }

  async #parametersOf(module: string): Promise<readonly string[]> {
    const directory = join(this.#root, 'sys/module', module, 'parameters');
    const names = await namesIn(directory);
    return names.map((name) => `${name}=${(readIfThere(join(directory, name)) ?? '').trim()}`).sort();
  }

  async #blocked(): Promise<{ readonly names: readonly string[]; readonly ownDirectory: boolean }> {
    const text = readIfThere(this.#blockFile);
    if (text === undefined) return { names: [], ownDirectory: !(await isThere(dirname(this.#blockFile))) };
    const names = [...text.matchAll(/^install (\S+) /gm)].map((match) => match[1] ?? '');
    return { names, ownDirectory: text.includes(OWN_DIRECTORY) };
  }

  /** The file appears whole: a half-written one would be an error of every modprobe on the host. */
  async #writeBlocked(blocked: {
    readonly names: readonly string[];
    readonly ownDirectory: boolean;
  }): Promise<void> {
    const lines = [
      INSTALL_HEADER,
      ...(blocked.ownDirectory ? [OWN_DIRECTORY] : []),
      ...blocked.names.map((name) => `install ${name} /bin/false`),
      '',
    ];
    await mkdir(dirname(this.#blockFile), { recursive: true, mode: 0o755 });
    // modprobe reads files that end in .conf only.
    const temporary = `${this.#blockFile}.new`;
    await writeFile(temporary, lines.join('\n'), { mode: 0o644 });
    await rename(temporary, this.#blockFile);
  }
}

async function modulePath(name: string): Promise<string> {
  const { stdout } = await exec('modinfo', ['--field', 'filename', '--', name]);
  return stdout.trim();
}

async function run(command: string, args: readonly string[]): Promise<void> {
  try {
    await exec(command, args);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw translated(error);
  }
}

function translated(error: CommandError): HostError {
  const rule = RULES.find(({ pattern }) => pattern.test(error.stderr));
  if (rule === undefined) return error;
  const { code, retry = false, advice } = rule;
  return new HostError(error.message, { code, retry, advice, cause: error });
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

/** Since its last change; 0 if it has just got another name. */
async function ageMs(path: string): Promise<number> {
  try {
    return Date.now() - (await stat(path)).mtimeMs;
  } catch (error) {
    if (isNotFound(error)) return 0;
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

async function removeIfEmpty(directory: string): Promise<void> {
  try {
    await rmdir(directory);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOTEMPTY') return;
    throw error;
  }
}
