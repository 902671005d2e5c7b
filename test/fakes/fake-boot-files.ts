// SPDX-License-Identifier: Apache-2.0
import type { BootFiles, BootModule, BootResult, BootState } from '../../src/boot-ports.ts';
import { HostError } from '../../src/core/errors.ts';
import type { Calls } from './calls.ts';
import type { FakeKernelModules, ModuleFile } from './fake-kernel-modules.ts';

/** The files that a host's boot reads, and what a boot makes of them. */
export class FakeBootFiles implements BootFiles {
  /** What the host lacks. */
  missing: string[] = [];
  /** Some files are there and make no whole. */
  damaged = false;
  #module: (BootModule & { readonly copy: ModuleFile }) | undefined;
  #unconfirmed: string | undefined;
  #last: BootState['last'];
  readonly #calls: Calls;
  readonly #modules: FakeKernelModules;

  constructor(calls: Calls, modules: FakeKernelModules) {
    this.#calls = calls;
    this.#modules = modules;
  }

  /** Whether the next boot reads anything. */
  get isArmed(): boolean {
    return this.#module !== undefined;
  }

  async state(): Promise<BootState> {
    return this.#calls.read('boot.state', () => {
      const { missing, damaged } = this;
      const present = damaged || this.#module !== undefined;
      return {
        missing,
        present,
        ...this.#armed(),
        ...(this.#unconfirmed === undefined ? {} : { unconfirmed: this.#unconfirmed }),
        ...(this.#last === undefined ? {} : { last: this.#last }),
      };
    });
  }

  async arm(module: BootModule): Promise<void> {
    this.#calls.change('boot.arm', module.file, () => {
      this.#clear();
      const copy = this.#modules.files.get(module.file);
      if (copy === undefined) {
        throw new HostError(`${module.file}: ENOENT`, { code: 'NotFound', errno: 'ENOENT' });
      }
      if (copy.srcversion !== module.srcversion) {
        throw new HostError('another srcversion', { code: 'ModuleInvalid', retry: true });
      }
      this.#module = { ...module, copy };
    });
  }

  async confirm(): Promise<void> {
    this.#calls.change('boot.confirm', '', () => {
      this.#unconfirmed = undefined;
    });
  }

  async disarm(): Promise<void> {
    this.#calls.change('boot.disarm', '', () => this.#clear());
  }

  /** As the script: `trouble` is what a boot finds that is not seen here. */
  boot(bootId: string, trouble?: Exclude<BootResult, 'Loaded'> | 'NotRun'): void {
    const armed = this.#module;
    if (armed === undefined || trouble === 'NotRun') {
      this.#modules.probe('ip_vs');
      return;
    }
    const other = armed.kernelRelease === this.#modules.kernelRelease ? trouble : 'OtherKernel';
    const unconfirmed = this.#unconfirmed === undefined ? undefined : 'Unconfirmed';
    const result = other ?? unconfirmed ?? 'Loaded';
    if (result === 'FileMissing' || result === 'DigestMismatch') this.damaged = true;
    this.#last = { bootId, result, message: result === 'Loaded' ? armed.srcversion : 'it is so' };
    if (result !== 'Loaded') {
      this.#modules.probe('ip_vs');
      return;
    }
    this.#unconfirmed = bootId;
    this.#modules.insert(armed.copy);
  }

  #armed(): Pick<BootState, 'armed'> {
    if (this.#module === undefined || this.damaged) return {};
    const { kernelRelease, srcversion, bootId } = this.#module;
    return { armed: { kernelRelease, srcversion, bootId } };
  }

  #clear(): void {
    this.#module = undefined;
    this.#unconfirmed = undefined;
    this.#last = undefined;
    this.damaged = false;
  }
}
