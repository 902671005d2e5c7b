// SPDX-License-Identifier: Apache-2.0
import { array, type Codec, type Field, LITTLE_ENDIAN, roundUp } from './codec.ts';

/** A union: read as all of its members, written from the one that is given. */
export function union(name: string, fields: readonly Field[], size: number): Codec<unknown> {
  return {
    size,
    alignment: fields.reduce((most, field) => Math.max(most, field.codec.alignment), 1),
    read: (view, offset) =>
      Object.fromEntries(fields.map((f) => [f.name, f.codec.read(view, offset + f.offset)])),
    write: (view, offset, value) => {
      const given = Object.entries(value as Record<string, unknown>);
      const [entry] = given;
      if (given.length !== 1 || entry === undefined) {
        throw new TypeError(`${name} is written from exactly one member`);
      }
      const field = fields.find((candidate) => candidate.name === entry[0]);
      if (field === undefined) throw new TypeError(`${name} has no member ${entry[0]}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
      field.codec.write(view, offset + field.offset, entry[1]);
    },
  };
}

/**
 * An unsigned bit-field in a unit of that many bytes, `shift` bits from its start. Numbers; the
 * rest of the unit is left as it is, so that neighbours can be written one after another.
 */
export function bitField(unit: number, shift: number, bits: number): Codec<unknown> {
  const mask = (1n << BigInt(bits)) - 1n;
  const position = BigInt(LITTLE_ENDIAN ? shift : unit * 8 - shift - bits) & 0xffn;
  return {
    size: unit,
    alignment: unit,
    read: (view, offset) => {
      const value = (load(view, offset, unit) >> position) & mask;
      return bits <= 32 ? Number(value) : value;
    },
    write: (view, offset, value) => {
      const big = BigInt(value as number | bigint);
      if (big < 0n || big > mask) throw new RangeError(`${big} does not fit ${bits} bits`);
      const others = load(view, offset, unit) & ~(mask << position);
      store(view, offset, unit, others | (big << position));
    },
  };
}

function load(view: DataView, offset: number, unit: number): bigint {
  let value = 0n;
  for (let index = 0; index < unit; index++) {
    const at = LITTLE_ENDIAN ? offset + unit - 1 - index : offset + index;
    value = (value << 8n) | BigInt(view.getUint8(at));
  }
  return value;
}

function store(view: DataView, offset: number, unit: number, value: bigint): void {
  for (let index = 0; index < unit; index++) {
    const at = LITTLE_ENDIAN ? offset + index : offset + unit - 1 - index;
    view.setUint8(at, Number((value >> BigInt(8 * index)) & 0xffn));
  }
}

/**
 * The values of a per-CPU map: one for each possible CPU, each in a slot that the kernel rounds
 * up to 8 bytes.
 */
export function perCpu<T>(element: Codec<T>, cpus: number): Codec<T[]> {
  return { ...array(element, cpus, roundUp(element.size, 8)), alignment: 8 };
}
