// SPDX-License-Identifier: Apache-2.0
import { BpfError, check, EBADF, EBUSY } from './errors.ts';
import { callForPointer } from './log.ts';
import type { BpfMap } from './map.ts';
import { bytesAt, callback, libbpf, type RingBufferPointer, releaseCallback } from './native.ts';

/** Makes libbpf stop; never seen by callers. */
const STOP = -1;

/** The reading end of a map of type ringbuf. */
export class RingBuffer implements Disposable {
  readonly #name: string;
  readonly #callback: bigint;
  #ring: RingBufferPointer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #consuming = false;
  #delivered = 0;
  #thrown: { readonly error: unknown } | undefined;

  /** `onSample` gets a copy of each sample. */
  constructor(map: BpfMap, onSample: (sample: Uint8Array) => void) {
    this.#name = map.info.name;
    const { fd } = map;
    this.#callback = callback(
      'int',
      ['void *', 'void *', 'size_t'],
      (_context: null, data: bigint, size: number) => this.#deliver(onSample, data, size),
    );
    try {
      this.#ring = callForPointer('ring_buffer__new', this.#name, (native) =>
        native.ring_buffer__new(fd, this.#callback, null, null),
      );
    } catch (error) {
      releaseCallback(this.#callback);
      throw error;
    }
  }

  /**
   * Hands out what has come in and returns how many samples that were. If the handler throws, the
   * samples behind that one stay in the buffer and the exception is thrown from here.
   */
  consume(): number {
    const ring = this.#ring;
    if (ring === undefined) throw this.#unusable(EBADF, 'the ring buffer is closed');
    if (this.#consuming) throw this.#unusable(EBUSY, 'called from its own handler');
    this.#consuming = true;
    this.#delivered = 0;
    const code = libbpf().ring_buffer__consume(ring);
    this.#consuming = false;
    const thrown = this.#thrown;
    this.#thrown = undefined;
    if (thrown !== undefined) {
      if (this.#ring === undefined) this.#free(ring);
      throw thrown.error;
    }
    // Closed by the handler: the negative result is our own.
    if (this.#ring === undefined) this.#free(ring);
    else check('ring_buffer__consume', code, this.#name);
    return this.#delivered;
  }

  /**
   * Consumes every `intervalMs` until stop() or close(). The timer does not keep the process alive.
   * What the handler throws becomes an uncaught exception of the process, unless `onError` takes it.
   */
  start(options: { readonly intervalMs?: number; readonly onError?: (error: unknown) => void } = {}): void {
    this.stop();
    const { onError } = options;
    const tick = () => {
      try {
        this.consume();
      } catch (error) {
        if (onError === undefined) throw error;
        onError(error);
      }
    };
    // A timer costs less than a poll: libuv's pool has few threads, and a poll keeps one.
    this.#timer = setInterval(tick, options.intervalMs ?? 10).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** May be called more than once, and from the handler. */
  close(): void {
    this.stop();
    const ring = this.#ring;
    this.#ring = undefined;
    // libbpf still reads from the ring while the handler runs: consume() frees it then.
    if (ring !== undefined && !this.#consuming) this.#free(ring);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unusable(errno: number, reason: string): BpfError {
    return new BpfError({ operation: 'consume', errno, subject: this.#name, reason });
  }

  #free(ring: RingBufferPointer): void {
    libbpf().ring_buffer__free(ring);
    releaseCallback(this.#callback);
  }

  /** Called by libbpf: exceptions must not pass through C. */
  #deliver(onSample: (sample: Uint8Array) => void, data: bigint, size: number): number {
    try {
      this.#delivered += 1;
      onSample(bytesAt(data, size).slice());
      return this.#ring === undefined ? STOP : 0;
    } catch (error) {
      this.#thrown = { error };
      return STOP;
    }
  }
}
