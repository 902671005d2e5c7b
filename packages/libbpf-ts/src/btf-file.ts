// SPDX-License-Identifier: Apache-2.0
import { Btf } from './btf.ts';
import { BpfError, EINVAL } from './errors.ts';
import { callForPointer } from './log.ts';
import { type BtfPointer, bytesAt, libbpf } from './native.ts';

/** The types in an object file's .BTF section, or in a file of raw BTF (/sys/kernel/btf/vmlinux). */
export function readBtfFile(path: string): Btf {
  const pointer = callForPointer('btf__parse', path, (native) => native.btf__parse(path, null));
  try {
    return copyBtf(pointer, path);
  } finally {
    libbpf().btf__free(pointer);
  }
}

/** Reads what libbpf holds; the pointer is not needed afterwards. */
export function copyBtf(pointer: BtfPointer, subject: string): Btf {
  const size = new Uint32Array(1);
  const address = libbpf().btf__raw_data(pointer, size);
  if (address === null) {
    throw new BpfError({ operation: 'btf__raw_data', errno: EINVAL, subject });
  }
  return new Btf(bytesAt(address, size[0] ?? 0).slice());
}
