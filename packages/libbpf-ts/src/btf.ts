// SPDX-License-Identifier: Apache-2.0
import { LITTLE_ENDIAN, viewOf } from './codec.ts';
import { BpfError, EINVAL } from './errors.ts';

export interface BtfMember {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** Bits, if it is a bit-field. */
  readonly bitSize: number | undefined;
}

/** A variable of a data section. */
export interface BtfVariable {
  /** Id of the type of kind `var`. */
  readonly type: number;
  /** Bytes from the start of the section. */
  readonly offset: number;
  readonly size: number;
}

/** A type of BTF; `type` is always the id of another one, 0 for void. */
export type BtfType =
  | { readonly kind: 'void'; readonly name: string }
  | {
      readonly kind: 'int';
      readonly name: string;
      readonly size: number;
      readonly signed: boolean;
      readonly bool: boolean;
    }
  | { readonly kind: 'pointer'; readonly name: string; readonly type: number }
  | { readonly kind: 'array'; readonly name: string; readonly type: number; readonly length: number }
  | {
      readonly kind: 'struct' | 'union';
      readonly name: string;
      readonly size: number;
      readonly members: readonly BtfMember[];
    }
  | {
      readonly kind: 'enum';
      readonly name: string;
      readonly size: number;
      readonly signed: boolean;
      readonly values: ReadonlyMap<string, bigint>;
    }
  | {
      readonly kind: 'typedef' | 'qualifier' | 'var';
      readonly name: string;
      readonly type: number;
    }
  | {
      readonly kind: 'datasec';
      readonly name: string;
      readonly size: number;
      readonly variables: readonly BtfVariable[];
    }
  | { readonly kind: 'float'; readonly name: string; readonly size: number }
  | { readonly kind: 'other'; readonly name: string };

const MAGIC = 0xeb9f;
const TEXT = new TextDecoder();
/** Sizes in bytes of what follows the 12-byte head of a type, by kind: [fixed, each of vlen]. */
const TAIL: Readonly<Record<number, readonly [fixed: number, each: number]>> = {
  1: [4, 0],
  3: [12, 0],
  4: [0, 12],
  5: [0, 12],
  6: [0, 8],
  13: [0, 8],
  14: [4, 0],
  15: [0, 12],
  17: [4, 0],
  19: [0, 12],
};

/** Position of one type in the raw bytes. */
interface Head {
  readonly name: string;
  readonly kind: number;
  readonly flag: boolean;
  readonly count: number;
  /** A size or the id of a type. */
  readonly word: number;
  /** Where the tail starts. */
  readonly tail: number;
}

/** The types of an object file or of the kernel, from the raw bytes of a .BTF section. */
export class Btf {
  readonly types: readonly BtfType[];
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #strings: number;

  /** Throws BpfError EINVAL if `raw` is no BTF of this machine's byte order. */
  constructor(raw: Uint8Array) {
    this.#bytes = raw;
    this.#view = viewOf(raw);
    if (raw.length < 24 || this.#view.getUint16(0, LITTLE_ENDIAN) !== MAGIC) {
      throw invalid('no BTF header');
    }
    const header = this.#u32(4);
    const start = header + this.#u32(8);
    const end = start + this.#u32(12);
    this.#strings = header + this.#u32(16);
    if (end > raw.length || this.#strings + this.#u32(20) > raw.length) {
      throw invalid('truncated');
    }
    this.types = this.#parse(start, end);
  }

  /** Throws BpfError EINVAL on an id that is not there. */
  type(id: number): BtfType {
    const type = this.types[id];
    if (type === undefined) throw invalid(`no type with id ${id}`);
    return type;
  }

  /** Id of the type of that name and kind, or undefined. `struct ipvs_session` → `('ipvs_session', 'struct')`. */
  find(name: string, ...kinds: readonly BtfType['kind'][]): number | undefined {
    const index = this.types.findIndex(
      (type) => type.name === name && (kinds.length === 0 || kinds.includes(type.kind)),
    );
    return index < 0 ? undefined : index;
  }

  #parse(start: number, end: number): BtfType[] {
    const types: BtfType[] = [{ kind: 'void', name: 'void' }];
    for (let at = start; at < end; ) {
      const head = this.#head(at);
      types.push(this.#type(head));
      const [fixed, each] = TAIL[head.kind] ?? [0, 0];
      at = head.tail + fixed + each * head.count;
    }
    return types;
  }

  #head(at: number): Head {
    const info = this.#u32(at + 4);
    return {
      name: this.#string(this.#u32(at)),
      kind: (info >>> 24) & 0x1f,
      flag: info >>> 31 === 1,
      count: info & 0xffff,
      word: this.#u32(at + 8),
      tail: at + 12,
    };
  }

  #type(head: Head): BtfType {
    const { name, word, tail } = head;
    switch (head.kind) {
      case 1: {
        const encoding = (this.#u32(tail) >>> 24) & 0xf;
        const [signed, bool] = [(encoding & 1) !== 0, (encoding & 4) !== 0];
        return { kind: 'int', name, size: word, signed, bool };
      }
      case 2:
        return { kind: 'pointer', name, type: word };
      case 3:
        return { kind: 'array', name, type: this.#u32(tail), length: this.#u32(tail + 8) };
      case 4:
      case 5:
        return {
          kind: head.kind === 4 ? 'struct' : 'union',
          name,
          size: word,
          members: this.#members(head),
        };
      case 6:
      case 19:
        return { kind: 'enum', name, size: word, signed: head.flag, values: this.#values(head) };
      case 8:
        return { kind: 'typedef', name, type: word };
      case 14:
        return { kind: 'var', name, type: word };
      case 15:
        return { kind: 'datasec', name, size: word, variables: this.#variables(head) };
      case 16:
        return { kind: 'float', name, size: word };
      case 9:
      case 10:
      case 11:
      case 18:
        return { kind: 'qualifier', name, type: word };
      case 7:
      case 12:
      case 13:
      case 17:
        return { kind: 'other', name };
      default:
        throw invalid(`unknown kind ${head.kind}`);
    }
  }

  #members(head: Head): BtfMember[] {
    return this.#items(head, 12, (at) => {
      const position = this.#u32(at + 8);
      // With the kind flag the upper byte is the size of a bit-field, 0 for other members.
      const bitSize = head.flag && position >>> 24 !== 0 ? position >>> 24 : undefined;
      const bitOffset = head.flag ? position & 0xffffff : position;
      return { name: this.#string(this.#u32(at)), type: this.#u32(at + 4), bitOffset, bitSize };
    });
  }

  #values(head: Head): Map<string, bigint> {
    const wide = head.kind === 19;
    const entries = this.#items(head, wide ? 12 : 8, (at): [string, bigint] => {
      const low = BigInt(this.#u32(at + 4));
      const value = wide ? (BigInt(this.#u32(at + 8)) << 32n) | low : low;
      const bits = wide ? 64 : 32;
      return [this.#string(this.#u32(at)), head.flag ? BigInt.asIntN(bits, value) : value];
    });
    return new Map(entries);
  }

  #variables(head: Head): BtfVariable[] {
    return this.#items(head, 12, (at) => ({
      type: this.#u32(at),
      offset: this.#u32(at + 4),
      size: this.#u32(at + 8),
    }));
  }

  #items<T>(head: Head, size: number, read: (at: number) => T): T[] {
    return Array.from({ length: head.count }, (_, index) => read(head.tail + index * size));
  }

  #u32(at: number): number {
    if (at + 4 > this.#view.byteLength) throw invalid('truncated');
    return this.#view.getUint32(at, LITTLE_ENDIAN);
  }

  #string(offset: number): string {
    const start = this.#strings + offset;
    const end = this.#bytes.indexOf(0, start);
    if (end < 0) throw invalid('a name does not end');
    return TEXT.decode(this.#bytes.subarray(start, end));
  }
}

function invalid(reason: string): BpfError {
  return new BpfError({ operation: 'parse BTF', errno: EINVAL, reason });
}
