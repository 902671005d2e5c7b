// SPDX-License-Identifier: Apache-2.0
import { endianness } from 'node:os';

/** Byte order of this machine, in the sense of DataView's methods. */
export const LITTLE_ENDIAN = endianness() === 'LE';

/** How a value lies in memory. */
export interface Codec<T> {
  /** Bytes. */
  readonly size: number;
  /** Bytes; a power of two. */
  readonly alignment: number;
  /** Must not keep the view: the memory is used again. */
  read(view: DataView, offset: number): T;
  /** Writes all `size` bytes, padding as zero. Throws RangeError or TypeError on a value that does not fit. */
  write(view: DataView, offset: number, value: T): void;
}

/** The type of the values of a codec: `type Key = CodecValue<typeof key>`. */
export type CodecValue<C> = C extends Codec<infer T> ? T : never;

/** The bytes of `value`. */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  const bytes = new Uint8Array(codec.size);
  codec.write(viewOf(bytes), 0, value);
  return bytes;
}

/** The value in `bytes`, of which there must be `codec.size`. */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  if (bytes.length !== codec.size) {
    throw new RangeError(`expected ${codec.size} bytes, got ${bytes.length}`);
  }
  return codec.read(viewOf(bytes), 0);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

type Width = 8 | 16 | 32;

function integer(bits: Width, signed: boolean, little = LITTLE_ENDIAN): Codec<number> {
  const suffix = `${signed ? 'Int' : 'Uint'}${bits}` as const;
  const minimum = signed ? -(2 ** (bits - 1)) : 0;
  const maximum = minimum + 2 ** bits - 1;
  return {
    size: bits / 8,
    alignment: bits / 8,
    read: (view, offset) => view[`get${suffix}`](offset, little),
    write: (view, offset, value) => {
      if (!Number.isInteger(value) || value < minimum || value > maximum) {
        throw new RangeError(`${String(value)} is no integer from ${minimum} to ${maximum}`);
      }
      view[`set${suffix}`](offset, value, little);
    },
  };
}

function integer64(signed: boolean, little = LITTLE_ENDIAN): Codec<bigint> {
  const wrap = signed ? BigInt.asIntN : BigInt.asUintN;
  return {
    size: 8,
    alignment: 8,
    read: (view, offset) => (signed ? view.getBigInt64(offset, little) : view.getBigUint64(offset, little)),
    write: (view, offset, value: bigint | number) => {
      // Numbers are taken too: constants in calling code read better without the suffix.
      const big = BigInt(value);
      if (wrap(64, big) !== big) throw new RangeError(`${big} does not fit 64 bits`);
      view.setBigUint64(offset, BigInt.asUintN(64, big), little);
    },
  };
}

export const u8 = integer(8, false);
export const u16 = integer(16, false);
export const u32 = integer(32, false);
export const u64 = integer64(false);
export const i8 = integer(8, true);
export const i16 = integer(16, true);
export const i32 = integer(32, true);
export const i64 = integer64(true);
/** Integers in network byte order. */
export const be16 = integer(16, false, false);
export const be32 = integer(32, false, false);
export const be64 = integer64(false, false);

/** One byte, 0 or 1. */
export const bool: Codec<boolean> = {
  size: 1,
  alignment: 1,
  read: (view, offset) => view.getUint8(offset) !== 0,
  write: (view, offset, value) => view.setUint8(offset, value ? 1 : 0),
};

/** Exactly `size` bytes. What is read is a copy. */
export function bytes(size: number): Codec<Uint8Array> {
  return {
    size,
    alignment: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
    write: (view, offset, value) => {
      if (!(value instanceof Uint8Array) || value.length !== size) {
        throw new RangeError(`expected a Uint8Array of ${size} bytes`);
      }
      new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value);
    },
  };
}

/** Exactly `length` elements, `stride` bytes apart (default: the element's size). */
export function array<T>(element: Codec<T>, length: number, stride = element.size): Codec<T[]> {
  return {
    size: stride * length,
    alignment: element.alignment,
    read: (view, offset) => Array.from({ length }, (_, index) => element.read(view, offset + index * stride)),
    write: (view, offset, values) => {
      if (!Array.isArray(values) || values.length !== length) {
        throw new RangeError(`expected an array of ${length} elements`);
      }
      for (const [index, value] of values.entries()) {
        element.write(view, offset + index * stride, value);
      }
    },
  };
}

/** A field of a structure at a fixed offset. */
export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly codec: Codec<unknown>;
}

/** A structure of fields at given offsets; what lies between them is written as zero. */
export function layout(
  name: string,
  fields: readonly Field[],
  size: number,
  alignment: number,
): Codec<Record<string, unknown>> {
  return {
    size,
    alignment,
    read: (view, offset) =>
      Object.fromEntries(fields.map((f) => [f.name, f.codec.read(view, offset + f.offset)])),
    write: (view, offset, value) => {
      rejectUnknown(name, fields, value);
      new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
      for (const field of fields) {
        writeField(name, field, view, offset, value[field.name]);
      }
    },
  };
}

function writeField(name: string, field: Field, view: DataView, offset: number, value: unknown): void {
  if (value === undefined) throw new TypeError(`${name}.${field.name} is missing`);
  try {
    field.codec.write(view, offset + field.offset, value);
  } catch (cause) {
    if (!(cause instanceof Error)) throw cause;
    throw new RangeError(`${name}.${field.name}: ${cause.message}`, { cause });
  }
}

function rejectUnknown(name: string, fields: readonly Field[], value: object): void {
  if (typeof value !== 'object' || value === null) throw new TypeError(`${name}: not an object`);
  const keys = Object.keys(value);
  // Each field is looked for anyway: with as many keys as fields none is unknown.
  if (keys.length === fields.length) return;
  const extra = keys.find((key) => !fields.some((field) => field.name === key));
  if (extra !== undefined) throw new TypeError(`${name} has no field ${extra}`);
}

type StructValue<F extends Readonly<Record<string, Codec<unknown>>>> = {
  [Name in keyof F]: CodecValue<F[Name]>;
};

/**
 * A C structure: fields in order, each at its natural alignment, padded at the end as a compiler
 * does. Padding is written as zero.
 */
export function struct<const F extends Readonly<Record<string, Codec<unknown>>>>(
  fields: F,
): Codec<StructValue<F>> {
  const placed: Field[] = [];
  let end = 0;
  let alignment = 1;
  for (const [name, codec] of Object.entries(fields)) {
    const offset = roundUp(end, codec.alignment);
    placed.push({ name, offset, codec });
    end = offset + codec.size;
    alignment = Math.max(alignment, codec.alignment);
  }
  const codec: Codec<unknown> = layout('struct', placed, roundUp(end, alignment), alignment);
  return codec as Codec<StructValue<F>>;
}

/** A codec for another representation of the same bytes. */
export function mapped<Stored, T>(
  codec: Codec<Stored>,
  read: (stored: Stored) => T,
  write: (value: T) => Stored,
): Codec<T> {
  return {
    size: codec.size,
    alignment: codec.alignment,
    read: (view, offset) => read(codec.read(view, offset)),
    write: (view, offset, value) => codec.write(view, offset, write(value)),
  };
}

/** The next multiple of `step` that is not below `value`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
