// SPDX-License-Identifier: Apache-2.0
import { check } from './errors.ts';
import { FileDescriptor } from './fd.ts';
import { type ProgramInfo, readProgramInfo } from './info.ts';
import { libbpf } from './native.ts';
import { getPinned, pinTo } from './pin.ts';
import { type RunOptions, type RunResult, runProgram } from './program-run.ts';

/** A program in the kernel. */
export class BpfProgram implements Disposable {
  readonly #fd: FileDescriptor;
  readonly #info: ProgramInfo;

  /** Takes a descriptor of a program. `owned`: close() closes it. */
  constructor(fd: number, options: { readonly owned: boolean }) {
    this.#info = readProgramInfo(fd);
    this.#fd = new FileDescriptor(fd, `program ${this.#info.name}`, options);
  }

  /** `bpftool prog show pinned PATH`. Throws BpfError ENOENT if nothing is there, EINVAL if it is no program. */
  static openPinned(path: string): BpfProgram {
    const fd = getPinned(path);
    return FileDescriptor.adopt(fd, 'program', path, () => new BpfProgram(fd, { owned: true }));
  }

  /** `bpftool prog show id ID`. Throws BpfError ENOENT if there is none. */
  static openById(id: number): BpfProgram {
    const subject = `program ${id}`;
    const fd = check('bpf_prog_get_fd_by_id', libbpf().bpf_prog_get_fd_by_id(id), subject);
    return FileDescriptor.adopt(fd, 'program', subject, () => new BpfProgram(fd, { owned: true }));
  }

  /** Throws BpfError EBADF after close(). */
  get fd(): number {
    return this.#fd.value;
  }

  /** As it was when the program was opened. */
  get info(): ProgramInfo {
    return this.#info;
  }

  get id(): number {
    return this.#info.id;
  }

  /** Runs it on a packet that no interface sees (BPF_PROG_RUN). */
  run(options: RunOptions = {}): RunResult {
    return runProgram(this.fd, this.#info.name, options);
  }

  /** `bpftool prog pin`. Throws BpfError EEXIST if the path is taken. */
  pin(path: string): void {
    pinTo(this.fd, path);
  }

  /** May be called more than once. The program lives on while it is pinned or attached. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
