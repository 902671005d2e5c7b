// SPDX-License-Identifier: Apache-2.0
import type { Btf, BtfMember, BtfType } from './btf.ts';
import {
  array,
  bool,
  bytes,
  type Codec,
  type Field,
  i8,
  i16,
  i32,
  i64,
  layout,
  u8,
  u16,
  u32,
  u64,
} from './codec.ts';
import { BpfError, EINVAL, ENOENT } from './errors.ts';
import { bitField, union } from './special-codecs.ts';

/** Codecs to use for types of these names (typedef, struct, union or enum), instead of made ones. */
export type TypeOverrides = Readonly<Record<string, Codec<unknown>>>;

type AnyCodec = Codec<unknown>;

const UNSIGNED: Readonly<Record<number, AnyCodec>> = { 1: u8, 2: u16, 4: u32, 8: u64 };
const SIGNED: Readonly<Record<number, AnyCodec>> = { 1: i8, 2: i16, 4: i32, 8: i64 };

/**
 * A codec for the type with that id. Integers up to 32 bits, enums included, are numbers, longer
 * ones bigints; arrays of single bytes are Uint8Arrays; structures and unions are objects of
 * their named members. A union is read as all of its members and written from exactly one.
 */
export function codecOfType(btf: Btf, id: number, overrides: TypeOverrides = {}): AnyCodec {
  const type = btf.type(id);
  const override = type.name === '' ? undefined : overrides[type.name];
  if (override !== undefined) return checkOverride(btf, id, type.name, override);
  switch (type.kind) {
    case 'int':
      return integerCodec(type);
    case 'enum':
      return pick(type.signed ? SIGNED : UNSIGNED, type.size, type);
    case 'typedef':
    case 'qualifier':
    case 'var':
      return codecOfType(btf, type.type, overrides);
    case 'pointer':
      return u64;
    case 'array':
      return arrayCodec(btf, type, overrides);
    case 'struct':
      return structCodec(btf, type, overrides);
    case 'union':
      return union(label(type), fieldsOf(btf, type.members, overrides), type.size);
    case 'float':
    case 'void':
    case 'datasec':
    case 'other':
      throw unsupported(type, 'values of this kind cannot be read or written');
  }
}

/** A codec for a struct, union, typedef or enum by its name. Throws BpfError ENOENT if there is none. */
export function codecByName(btf: Btf, name: string, overrides?: TypeOverrides): AnyCodec {
  const id = btf.find(name, 'struct', 'union', 'typedef', 'enum');
  if (id === undefined) {
    throw new BpfError({ operation: 'find BTF type', errno: ENOENT, subject: name });
  }
  return codecOfType(btf, id, overrides);
}

function integerCodec(type: BtfType & { kind: 'int' }): AnyCodec {
  if (type.bool && type.size === 1) return bool;
  if (type.size === 16) return bytes(16);
  return pick(type.signed ? SIGNED : UNSIGNED, type.size, type);
}

function arrayCodec(btf: Btf, type: BtfType & { kind: 'array' }, overrides: TypeOverrides): AnyCodec {
  const element = codecOfType(btf, type.type, overrides);
  const single = element === u8 || element === i8;
  return single ? bytes(type.length) : array(element, type.length);
}

function structCodec(
  btf: Btf,
  type: BtfType & { kind: 'struct' | 'union' },
  overrides: TypeOverrides,
): AnyCodec {
  const fields = fieldsOf(btf, type.members, overrides);
  const alignment = fields.reduce((most, field) => Math.max(most, field.codec.alignment), 1);
  return layout(label(type), fields, type.size, alignment);
}

function fieldsOf(btf: Btf, members: readonly BtfMember[], overrides: TypeOverrides): Field[] {
  return members.flatMap((member) => {
    const codec = codecOfType(btf, member.type, overrides);
    const offset = Math.floor(member.bitOffset / 8);
    if (member.bitSize !== undefined) {
      if (member.name === '') return [];
      const unit = codec.size;
      const start = Math.floor(member.bitOffset / 8 / unit) * unit;
      const shift = member.bitOffset - start * 8;
      return [{ name: member.name, offset: start, codec: bitField(unit, shift, member.bitSize) }];
    }
    // Members of an anonymous struct or union belong to the type around it.
    if (member.name === '') return anonymousFields(btf, member, offset, overrides);
    return [{ name: member.name, offset, codec }];
  });
}

function anonymousFields(btf: Btf, member: BtfMember, offset: number, overrides: TypeOverrides): Field[] {
  const type = btf.type(member.type);
  if (type.kind === 'struct') {
    const inner = fieldsOf(btf, type.members, overrides);
    return inner.map((field) => ({ ...field, offset: field.offset + offset }));
  }
  throw unsupported(type, 'a union without a name needs one to be read or written');
}

function pick(table: Readonly<Record<number, AnyCodec>>, size: number, type: BtfType): AnyCodec {
  const codec = table[size];
  if (codec === undefined) throw unsupported(type, `integers of ${size} bytes are not supported`);
  return codec;
}

function checkOverride(btf: Btf, id: number, name: string, override: AnyCodec): AnyCodec {
  const size = sizeOfType(btf, id);
  if (override.size === size) return override;
  throw new RangeError(`the codec for ${name} has ${override.size} bytes, the type ${size}`);
}

/** Size in bytes of the type with that id. */
export function sizeOfType(btf: Btf, id: number): number {
  const type = btf.type(id);
  switch (type.kind) {
    case 'typedef':
    case 'qualifier':
    case 'var':
      return sizeOfType(btf, type.type);
    case 'array':
      return sizeOfType(btf, type.type) * type.length;
    case 'pointer':
      return 8;
    case 'void':
    case 'other':
      throw unsupported(type, 'it has no size');
    default:
      return type.size;
  }
}

function label(type: BtfType): string {
  return `${type.kind} ${type.name === '' ? '(anonymous)' : type.name}`;
}

function unsupported(type: BtfType, reason: string): BpfError {
  return new BpfError({
    operation: 'make codec',
    errno: EINVAL,
    subject: label(type),
    reason,
  });
}
