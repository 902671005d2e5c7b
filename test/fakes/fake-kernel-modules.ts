// SPDX-License-Identifier: Apache-2.0
import { HostError } from '../../src/core/errors.ts';
import type { KernelModules, LoadedModule } from '../../src/ports.ts';
import type { Calls } from './calls.ts';

/** A module file: in the kernel's own tree (found by name), or anywhere else (found by path). */
export interface ModuleFile {
  readonly name: string;
  readonly srcversion: string;
  readonly vermagic: string;
  readonly depends: readonly string[];
  /** True for the ip_vs that has net.ipv4.vs.bpf_mode and bpf_maps. */
  readonly patched?: boolean;
}

export const FAKE_RELEASE = '6.1.0-56-amd64';
export const FAKE_VERMAGIC = `${FAKE_RELEASE} SMP preempt mod_unload modversions`;

function inTree(name: string, depends: readonly string[]): ModuleFile {
  return { name, srcversion: `INTREE${name.toUpperCase()}`, vermagic: FAKE_VERMAGIC, depends };
}

const IN_TREE: readonly ModuleFile[] = [
  inTree('libcrc32c', []),
  inTree('nf_defrag_ipv4', []),
  inTree('nf_defrag_ipv6', []),
  inTree('nf_conntrack', ['nf_defrag_ipv6', 'nf_defrag_ipv4', 'libcrc32c']),
  inTree('ip_vs', ['nf_conntrack', 'nf_defrag_ipv6', 'libcrc32c']),
  ...['rr', 'wrr', 'lc', 'wlc', 'sh', 'mh', 'nq', 'sed', 'dh', 'lblc', 'lblcr', 'fo', 'ovf', 'pe_sip'].map(
    (name) => inTree(`ip_vs_${name}`, ['ip_vs']),
  ),
];

/** What modules have that were told nothing. */
const PARAMETERS: Readonly<Record<string, readonly string[]>> = { ip_vs: ['conn_tab_bits=12'] };

/** Modules with the dependencies and reference counts that the kernel keeps. */
export class FakeKernelModules implements KernelModules {
  /** What `modprobe NAME` finds. */
  readonly tree = new Map<string, ModuleFile>(IN_TREE.map((file) => [file.name, file]));
  /** What `insmod PATH` finds. */
  readonly files = new Map<string, ModuleFile>();
  readonly builtIn = new Set<string>();
  /** Those of `files` that came from images, with how long ago that was in milliseconds. */
  readonly delivered = new Map<string, number>();
  readonly blocked = new Set<string>();
  /** References that are no module's: ip_vs has one a virtual server. Set by the other fakes. */
  readonly users = new Map<string, () => number>();
  /** Called with the module that came or went. */
  readonly onChange: ((file: ModuleFile, loaded: boolean) => void)[] = [];
  kernelRelease = FAKE_RELEASE;
  hasFamilyIdHelper = true;
  filesAreSigned = false;
  nextFamilyId = 31;
  readonly #loaded = new Map<string, ModuleFile>();
  readonly #fromTree = new Set<string>();
  /** What modules were told that are not as PARAMETERS has them. */
  readonly #told = new Map<string, readonly string[]>();
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Names of the loaded modules, sorted. */
  get loaded(): readonly string[] {
    return [...this.#loaded.keys()].sort();
  }

  /** The loaded module's file, or undefined. */
  loadedFile(name: string): ModuleFile | undefined {
    return this.#loaded.get(name);
  }

  async release(): Promise<string> {
    return this.#calls.read('modules.release', () => this.kernelRelease);
  }

  async list(): Promise<readonly LoadedModule[]> {
    return this.#calls.read('modules.list', () =>
      [...this.#loaded.values()].map((file) => ({
        name: file.name,
        refCount: this.#references(file.name),
        holders: this.#holders(file.name),
        srcversion: file.srcversion,
        ...this.#parametersOf(file.name),
        taint: this.#fromTree.has(file.name) ? '' : 'OE',
      })),
    );
  }

  async isBuiltIn(name: string): Promise<boolean> {
    return this.#calls.read('modules.isBuiltIn', () => this.builtIn.has(name));
  }

  async info(
    file: string,
  ): Promise<{ readonly vermagic: string; readonly srcversion: string; readonly signed: boolean }> {
    return this.#calls.read('modules.info', () => {
      const { vermagic, srcversion } = this.#file(file);
      return { vermagic, srcversion, signed: this.filesAreSigned };
    });
  }

  async insertFile(file: string, parameters: readonly string[] = []): Promise<void> {
    this.#calls.change('modules.insertFile', file, () => {
      const found = this.#file(file);
      if (found.vermagic.split(' ')[0] !== this.kernelRelease) {
        throw new HostError(`insmod ${file}: Invalid module format`, { code: 'VermagicMismatch' });
      }
      if (this.#loaded.has(found.name)) {
        throw new HostError(`insmod ${file}: File exists`, { code: 'ModuleExists', errno: 'EEXIST' });
      }
      for (const dependency of found.depends) this.probe(dependency);
      this.#insert(found, false);
      this.tell(found.name, parameters);
    });
  }

  async load(name: string, parameters: readonly string[] = []): Promise<void> {
    this.#calls.change('modules.load', name, () => {
      const isNew = !this.#loaded.has(name);
      this.probe(name);
      if (isNew) this.tell(name, parameters);
    });
  }

  async readAhead(fileOrName: string): Promise<void> {
    this.#calls.read('modules.readAhead', () => {
      if (fileOrName.startsWith('/')) this.#file(fileOrName);
      else if (!this.tree.has(fileOrName)) {
        throw new HostError(`modinfo: Module ${fileOrName} not found`, { code: 'CommandFailed' });
      }
    });
  }

  async remove(name: string): Promise<void> {
    this.#calls.change('modules.remove', name, () => {
      const file = this.#loaded.get(name);
      if (file === undefined) {
        throw new HostError(`rmmod ${name}: Module ${name} is not currently loaded`, {
          code: 'ModuleNotFound',
        });
      }
      if (this.#references(name) > 0) {
        throw new HostError(`rmmod ${name}: Module ${name} is in use`, { code: 'ModuleInUse', retry: true });
      }
      this.#loaded.delete(name);
      this.#told.delete(name);
      this.#fromTree.delete(name);
      for (const tell of this.onChange) tell(file, false);
    });
  }

  async blockAutoload(name: string): Promise<void> {
    this.#calls.change('modules.blockAutoload', name, () => void this.blocked.add(name));
  }

  async unblockAutoload(name: string): Promise<void> {
    this.#calls.change('modules.unblockAutoload', name, () => void this.blocked.delete(name));
  }

  async canAimFamilyId(): Promise<boolean> {
    return this.#calls.read('modules.canAimFamilyId', () => this.hasFamilyIdHelper);
  }

  async keepDelivered(files: readonly string[], newMs: number): Promise<void> {
    await this.#calls.read('modules.keepDelivered', () => {
      for (const [path, age] of this.delivered) {
        if (files.includes(path) || age < newMs) continue;
        this.delivered.delete(path);
        this.files.delete(path);
      }
    });
  }

  async aimFamilyId(id: number): Promise<void> {
    this.#calls.change('modules.aimFamilyId', String(id), () => {
      this.nextFamilyId = id;
    });
  }

  /** The id that a family gets which is registered now. */
  takeFamilyId(): number {
    const id = this.nextFamilyId;
    this.nextFamilyId += 1;
    return id;
  }

  /** `modprobe NAME` by the kernel or by a user, not counted as a call of the program. */
  probe(name: string): void {
    if (this.#loaded.has(name) || this.builtIn.has(name)) return;
    const file = this.tree.get(name);
    if (file === undefined) {
      throw new HostError(`modprobe ${name}: Module ${name} not found`, { code: 'ModuleNotFound' });
    }
    if (this.blocked.has(name)) {
      throw new HostError(`modprobe ${name}: install command failed`, { code: 'CommandFailed' });
    }
    for (const dependency of file.depends) this.probe(dependency);
    this.#insert(file, true);
  }

  /** Loads a module file as a user would with insmod, not counted as a call of the program. */
  insert(file: ModuleFile): void {
    for (const dependency of file.depends) this.probe(dependency);
    this.#insert(file, false);
  }

  /** What a module has that is loaded, by whoever loaded it. */
  tell(name: string, parameters: readonly string[]): void {
    if (parameters.length > 0) this.#told.set(name, parameters);
  }

  /** No module outlives its kernel, and no file of /run. */
  reboot(): void {
    const files = [...this.#loaded.values()];
    this.#loaded.clear();
    this.#told.clear();
    this.#fromTree.clear();
    this.blocked.clear();
    for (const file of files) for (const tell of this.onChange) tell(file, false);
  }

  #insert(file: ModuleFile, fromTree: boolean): void {
    this.#loaded.set(file.name, file);
    if (fromTree) this.#fromTree.add(file.name);
    for (const tell of this.onChange) tell(file, true);
  }

  #file(path: string): ModuleFile {
    const file = this.files.get(path);
    if (file === undefined) throw new HostError(`${path}: ENOENT`, { code: 'NotFound', errno: 'ENOENT' });
    return file;
  }

  #parametersOf(name: string): Pick<LoadedModule, 'parameters'> {
    const parameters = this.#told.get(name) ?? PARAMETERS[name];
    return parameters === undefined ? {} : { parameters };
  }

  #holders(name: string): readonly string[] {
    return [...this.#loaded.values()].filter((file) => file.depends.includes(name)).map((file) => file.name);
  }

  /** A scheduler or persistence engine counts twice at ip_vs: for its symbols and for being registered. */
  #references(name: string): number {
    const perHolder = name === 'ip_vs' ? 2 : 1;
    return this.#holders(name).length * perHolder + (this.users.get(name)?.() ?? 0);
  }
}
