// SPDX-License-Identifier: Apache-2.0
import { unlinkSync } from 'node:fs';
import { check } from './errors.ts';
import { call } from './log.ts';
import { libbpf } from './native.ts';

/** Pins a map, program or link in a bpf file system. Throws BpfError EEXIST if the path is taken. */
export function pinTo(fd: number, path: string): void {
  call('bpf_obj_pin', path, (native) => native.bpf_obj_pin(fd, path));
}

/** A new descriptor of what is pinned there. */
export function getPinned(path: string): number {
  return check('bpf_obj_get', libbpf().bpf_obj_get(path), path);
}

/** Removes a pin of any kind; true if there was one. What was pinned lives on while it is used. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
