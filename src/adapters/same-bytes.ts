// SPDX-License-Identifier: Apache-2.0

/**
 * What the kernel's last answer was decoded to, given again as long as its bytes stay the same: whoever works it out
 * further then sees that nothing has changed, and thousands of objects are not made anew at each look.
 */
export class SameBytes<T extends object, P extends Uint8Array = Uint8Array> {
  readonly #decode: (parts: readonly P[]) => T;
  #bytes: Buffer | undefined;
  #parts = 0;
  #value: T | undefined;

  constructor(decode: (parts: readonly P[]) => T) {
    this.#decode = decode;
  }

  /** @param parts of one answer; nobody may change the result */
  of(parts: readonly P[]): T {
    const bytes = Buffer.concat(parts);
    if (this.#value !== undefined && this.#parts === parts.length && this.#bytes?.equals(bytes)) {
      return this.#value;
    }
    this.#value = this.#decode(parts);
    this.#bytes = bytes;
    this.#parts = parts.length;
    return this.#value;
  }
}
