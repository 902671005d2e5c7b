// SPDX-License-Identifier: Apache-2.0
/** Back-off for many things that fail one by one. */

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  /** 0 up to but not 1. */
  readonly random: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  readonly #failed = new Map<string, { failures: number; until: number }>();

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** True while the key has to wait. */
  waits(key: string): boolean {
    return (this.#failed.get(key)?.until ?? Number.NEGATIVE_INFINITY) > this.#options.now();
  }

  /** Answers how long the key has to wait, in milliseconds. */
  failed(key: string): number {
    const { firstMs, maxMs, now, random } = this.#options;
    const failures = (this.#failed.get(key)?.failures ?? 0) + 1;
    const full = Math.min(maxMs, firstMs * 2 ** Math.min(failures - 1, 30));
    const waitMs = full / 2 + (full / 2) * random();
    this.#failed.set(key, { failures, until: now() + waitMs });
    return waitMs;
  }

  succeeded(key: string): void {
    this.#failed.delete(key);
  }

  /** Milliseconds until the first key may try again; undefined if none waits. */
  nextMs(): number | undefined {
    if (this.#failed.size === 0) return undefined;
    const first = Math.min(...[...this.#failed.values()].map(({ until }) => until));
    return Math.max(0, first - this.#options.now());
  }
}
