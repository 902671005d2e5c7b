// SPDX-License-Identifier: Apache-2.0

interface Member {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  readonly bitSize?: number;
}

/** Makes BTF bytes, little-endian; every method returns the id of the type that it adds. */
export class BtfWriter {
  readonly #words: number[] = [];
  #strings = '\0';
  #next = 1;

  int(name: string, size: number, options: { signed?: boolean; bool?: boolean } = {}): number {
    const encoding = (options.signed ? 1 : 0) | (options.bool ? 4 : 0);
    return this.#add(name, 1, 0, false, size, [((encoding << 24) | (size * 8)) >>> 0]);
  }

  /** Kinds with nothing but another type's id: pointer 2, typedef 8, volatile 9, const 10. */
  reference(kind: number, name: string, type: number): number {
    return this.#add(name, kind, 0, false, type, []);
  }

  array(element: number, length: number): number {
    return this.#add('', 3, 0, false, 0, [element, element, length]);
  }

  /** struct 4, union 5; also float 16, without members. */
  composite(kind: number, name: string, size: number, members: readonly Member[]): number {
    const flag = members.some((member) => member.bitSize !== undefined);
    const words = members.flatMap((member) => [
      this.#string(member.name),
      member.type,
      (((member.bitSize ?? 0) << 24) | member.bitOffset) >>> 0,
    ]);
    return this.#add(name, kind, members.length, flag, size, words);
  }

  enumeration(
    name: string,
    size: number,
    values: Readonly<Record<string, number>>,
    options: { signed?: boolean } = {},
  ): number {
    const entries = Object.entries(values);
    const words = entries.flatMap(([label, value]) => [this.#string(label), value >>> 0]);
    return this.#add(name, 6, entries.length, options.signed ?? false, size, words);
  }

  variable(name: string, type: number): number {
    return this.#add(name, 14, 0, false, type, [1]);
  }

  datasec(
    name: string,
    size: number,
    variables: readonly { type: number; offset: number; size: number }[],
  ): number {
    const words = variables.flatMap((variable) => [variable.type, variable.offset, variable.size]);
    return this.#add(name, 15, variables.length, false, size, words);
  }

  build(): Uint8Array {
    const strings = Buffer.from(this.#strings, 'latin1');
    const size = this.#words.length * 4;
    const raw = new Uint8Array(24 + size + strings.length);
    const view = new DataView(raw.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    for (const [index, word] of [24, 0, size, size, strings.length].entries()) {
      view.setUint32(4 + 4 * index, word, true);
    }
    for (const [index, word] of this.#words.entries()) view.setUint32(24 + 4 * index, word, true);
    raw.set(strings, 24 + size);
    return raw;
  }

  #add(
    name: string,
    kind: number,
    count: number,
    flag: boolean,
    word: number,
    tail: readonly number[],
  ): number {
    const info = (((flag ? 1 : 0) << 31) | (kind << 24) | count) >>> 0;
    this.#words.push(this.#string(name), info, word, ...tail);
    return this.#next++;
  }

  #string(text: string): number {
    if (text === '') return 0;
    const offset = this.#strings.length;
    this.#strings += `${text}\0`;
    return offset;
  }
}
