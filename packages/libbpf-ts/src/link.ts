// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import { check } from './errors.ts';
import { FileDescriptor } from './fd.ts';
import { type LinkInfo, readLinkInfo } from './info.ts';
import { call } from './log.ts';
import { libbpf } from './native.ts';
import { getPinned, pinTo } from './pin.ts';
import type { BpfProgram } from './program.ts';

const BPF_F_REPLACE = 4;

/** A program attached to something: it is attached until the link is detached or nobody has it any more. */
export class BpfLink implements Disposable {
  readonly #fd: FileDescriptor;
  readonly #id: number;

  /** Takes a descriptor of a link. `owned`: close() closes it. */
  constructor(fd: number, options: { readonly owned: boolean }) {
    this.#id = readLinkInfo(fd).id;
    this.#fd = new FileDescriptor(fd, `link ${this.#id}`, options);
  }

  /** Attaches with enum bpf_attach_type `attachType` to a target of its kind (for TCX an ifindex). */
  static create(program: BpfProgram, target: number, attachType: number): BpfLink {
    const { name } = program.info;
    const fd = call('bpf_link_create', name, (native) =>
      native.bpf_link_create(program.fd, target, attachType, null),
    );
    return FileDescriptor.adopt(fd, 'link', name, () => new BpfLink(fd, { owned: true }));
  }

  /** `bpftool link show pinned PATH`. Throws BpfError ENOENT if nothing is there, EINVAL if it is no link. */
  static openPinned(path: string): BpfLink {
    const fd = getPinned(path);
    return FileDescriptor.adopt(fd, 'link', path, () => new BpfLink(fd, { owned: true }));
  }

  /** `bpftool link show id ID`. Throws BpfError ENOENT if there is none. */
  static openById(id: number): BpfLink {
    const subject = `link ${id}`;
    const fd = check('bpf_link_get_fd_by_id', libbpf().bpf_link_get_fd_by_id(id), subject);
    return FileDescriptor.adopt(fd, 'link', subject, () => new BpfLink(fd, { owned: true }));
  }

  /** Throws BpfError EBADF after close(). */
  get fd(): number {
    return this.#fd.value;
  }

  get id(): number {
    return this.#id;
  }

  /** As it is now. */
  info(): LinkInfo {
    return readLinkInfo(this.fd);
  }

  /**
   * Puts another program in its place, without a packet in between that sees none. With
   * `expected`, only if that one is attached now: otherwise throws BpfError EPERM.
   */
  update(program: BpfProgram, options: { readonly expected?: BpfProgram } = {}): void {
    const request = new Uint8Array(16);
    const view = viewOf(request);
    view.setBigUint64(0, 16n, LITTLE_ENDIAN);
    if (options.expected !== undefined) {
      view.setUint32(8, BPF_F_REPLACE, LITTLE_ENDIAN);
      view.setUint32(12, options.expected.fd, LITTLE_ENDIAN);
    }
    const code = libbpf().bpf_link_update(this.fd, program.fd, request);
    check('bpf_link_update', code, `link ${this.#id}`);
  }

  /** Detaches at once, also if the link is pinned or others have it open. */
  detach(): void {
    check('bpf_link_detach', libbpf().bpf_link_detach(this.fd), `link ${this.#id}`);
  }

  /** `bpftool link pin`: keeps the program attached after this process. */
  pin(path: string): void {
    pinTo(this.fd, path);
  }

  /** May be called more than once. Detaches, unless the link is pinned or open elsewhere. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
