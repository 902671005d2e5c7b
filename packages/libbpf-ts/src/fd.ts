// SPDX-License-Identifier: Apache-2.0
import { closeSync, readlinkSync } from 'node:fs';
import { BpfError, EBADF, EINVAL } from './errors.ts';

/** What /proc/self/fd says of each kind; the separator is not the same in all kernels. */
const INODES = {
  map: /bpf[-_]map$/,
  program: /bpf[-_]prog$/,
  link: /bpf[-_]link$/,
};

/** A file descriptor that cannot be used after it is closed. */
export class FileDescriptor implements Disposable {
  #fd: number | undefined;
  readonly #owned: boolean;
  readonly #what: string;

  /** `owned`: closing this closes the descriptor; otherwise it belongs to somebody else. */
  constructor(fd: number, what: string, options: { readonly owned: boolean }) {
    this.#fd = fd;
    this.#what = what;
    this.#owned = options.owned;
  }

  /**
   * Runs `make` on a new descriptor and closes the descriptor if that fails. A descriptor of
   * another kind of BPF object makes the kernel answer with the wrong information, so its kind is
   * looked up first. Throws BpfError EINVAL if it is not a `kind`.
   */
  static adopt<T>(fd: number, kind: keyof typeof INODES, subject: string, make: () => T): T {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (!INODES[kind].test(target)) {
        const reason = `it is no ${kind} but ${target}`;
        throw new BpfError({ operation: 'open', errno: EINVAL, subject, reason });
      }
      return make();
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Throws EBADF after close(). */
  get value(): number {
    if (this.#fd === undefined) {
      throw new BpfError({
        operation: 'use',
        errno: EBADF,
        subject: this.#what,
        reason: 'it is closed',
      });
    }
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd === undefined;
  }

  /** May be called more than once. */
  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined && this.#owned) closeSync(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
