// SPDX-License-Identifier: Apache-2.0

/**
 * Passes a byte stream on as it comes, up to a last line that marks its end.
 *
 * A virtio port has no end of file, so the guest writes an unguessable line instead. The bytes that
 * could be the beginning of that line wait for the next chunk; all others are passed on at once.
 */
export class StreamEnd {
  readonly #mark: Buffer;
  readonly #write: (chunk: Buffer) => void;
  #held: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(mark: string, write: (chunk: Buffer) => void) {
    this.#mark = Buffer.from(`${mark}\n`);
    this.#write = write;
  }

  get ended(): boolean {
    return this.#ended;
  }

  push(chunk: Buffer): void {
    if (this.#ended) return;
    const all = Buffer.concat([this.#held, chunk]);
    const at = all.indexOf(this.#mark);
    this.#ended = at >= 0;
    const pass = this.#ended ? at : all.length - this.#heldBack(all);
    if (pass > 0) this.#write(all.subarray(0, pass));
    this.#held = all.subarray(pass);
  }

  /** Pass on what is still held when the mark never came: the machine has died. */
  flush(): void {
    if (!this.#ended && this.#held.length > 0) this.#write(this.#held);
    this.#held = Buffer.alloc(0);
  }

  /** Length of the longest end of `all` that the mark begins with. */
  #heldBack(all: Buffer): number {
    for (let length = Math.min(all.length, this.#mark.length - 1); length > 0; length--) {
      if (all.subarray(all.length - length).equals(this.#mark.subarray(0, length))) return length;
    }
    return 0;
  }
}
