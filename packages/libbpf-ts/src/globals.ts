// SPDX-License-Identifier: Apache-2.0
import type { Btf } from './btf.ts';
import { codecOfType, type TypeOverrides } from './btf-codec.ts';
import { type Codec, encode } from './codec.ts';
import { BpfError, ENOENT } from './errors.ts';

/** A global variable: where it lies and how. */
export interface Global {
  /** `.rodata`, `.data`, `.bss` or one of these with a suffix. */
  readonly section: string;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly size: number;
  /** Id of the variable's type. */
  readonly type: number;
}

/** A value of a global variable: what its BTF codec takes, or its bytes. */
export type GlobalValue =
  | number
  | bigint
  | boolean
  | Uint8Array
  | readonly GlobalValue[]
  | { readonly [member: string]: GlobalValue };

const SECTION = /^\.(rodata|data|bss)(\.|$)/;

/** All global variables by name. Static variables of the same name in one object: the last one. */
export function globalsOf(btf: Btf): ReadonlyMap<string, Global> {
  const globals = new Map<string, Global>();
  for (const section of btf.types) {
    if (section.kind !== 'datasec' || !SECTION.test(section.name)) continue;
    for (const { type, offset, size } of section.variables) {
      globals.set(btf.type(type).name, { section: section.name, offset, size, type });
    }
  }
  return globals;
}

/** Throws BpfError ENOENT if there is no such variable. */
export function findGlobal(globals: ReadonlyMap<string, Global>, name: string): Global {
  const global = globals.get(name);
  if (global !== undefined) return global;
  const reason = 'no global variable has this name (does the object have BTF?)';
  throw new BpfError({ operation: 'find variable', errno: ENOENT, subject: name, reason });
}

/** The bytes of a variable with that value. Throws RangeError or TypeError if it does not fit. */
export function encodeGlobal(
  btf: Btf,
  global: Global,
  value: GlobalValue,
  overrides?: TypeOverrides,
): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length === global.size) return value;
    throw new RangeError(`the variable has ${global.size} bytes, the value ${value.length}`);
  }
  const codec: Codec<unknown> = codecOfType(btf, global.type, overrides);
  return encode(codec, value);
}
