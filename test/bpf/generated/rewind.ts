// SPDX-License-Identifier: Apache-2.0
/** Puts back what packets have changed in a session, where it stands. */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type BpfMap, type BpfObject, openObject } from 'libbpf-ts';
import { compile } from '../compile.ts';
import { CHANGING } from './encode.ts';

const ETHERNET_HEADER = Buffer.alloc(14);

export class Rewinder implements Disposable {
  readonly #object: BpfObject;

  constructor(sessions: BpfMap) {
    const file = compile(join(import.meta.dirname, 'rewind.bpf.c'));
    const opened = openObject(file);
    opened.map('ipvs_sessions').reuse(sessions);
    this.#object = opened.load();
    rmSync(dirname(file), { recursive: true });
  }

  /** An element of ipvs_sessions, as it was when it was read. Throws if that session is gone. */
  write(key: Uint8Array, value: Uint8Array): void {
    const changing = value.subarray(CHANGING.offset, CHANGING.offset + CHANGING.size);
    const data = Buffer.concat([ETHERNET_HEADER, key, changing]);
    if (this.#object.program('rewind').run({ data }).retval !== 0) throw new Error('the session is gone');
  }

  [Symbol.dispose](): void {
    this.#object.close();
  }
}
