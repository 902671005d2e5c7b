// SPDX-License-Identifier: Apache-2.0
/** The record of what was asked of the fakes, and the places where they are told to fail. */

/** Thrown by a fake where a test lets the program die; nothing may catch it as a failure of the host. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

interface Failure {
  readonly method: string;
  readonly error: Error;
  remaining: number;
}

/** Shared by all fakes of one machine. */
export class Calls {
  /** "modules.remove ip_vs" and so on, in order; reading calls too. */
  readonly log: string[] = [];
  /** Calls that change something, in order. */
  readonly changes: string[] = [];
  readonly #failures: Failure[] = [];
  #crashBefore = Number.POSITIVE_INFINITY;
  #crashAfter = Number.POSITIVE_INFINITY;

  /** Makes the next `times` calls of "port.method" (or "port.method ARGUMENT") throw `error`. */
  fail(method: string, error: Error, times = 1): void {
    this.#failures.push({ method, error, remaining: times });
  }

  /** Lets the program die at its changing call number `index` (from 0), before or after it acted. */
  crashAt(index: number, when: 'before' | 'after'): void {
    this.#crashBefore = when === 'before' ? index : Number.POSITIVE_INFINITY;
    this.#crashAfter = when === 'after' ? index : Number.POSITIVE_INFINITY;
  }

  /** Forgets failures, crashes and records, as before the program's next start. */
  reset(): void {
    this.log.length = 0;
    this.changes.length = 0;
    this.#failures.length = 0;
    this.crashAt(Number.POSITIVE_INFINITY, 'before');
  }

  /** A call that only reads. */
  read<T>(method: string, act: () => T): T {
    this.log.push(method);
    this.#throwIfAsked(method);
    return act();
  }

  /** A call that changes the machine. */
  change<T>(method: string, argument: string, act: () => T): T {
    const text = argument === '' ? method : `${method} ${argument}`;
    const index = this.changes.length;
    // A dead program does nothing more, whatever it would do about the exception.
    if (index >= this.#crashBefore || index > this.#crashAfter) throw new Crash(`before ${text}`);
    this.log.push(text);
    this.changes.push(text);
    this.#throwIfAsked(method, text);
    const result = act();
    if (index >= this.#crashAfter) throw new Crash(`after ${text}`);
    return result;
  }

  #throwIfAsked(...names: string[]): void {
    const failure = this.#failures.find((entry) => entry.remaining > 0 && names.includes(entry.method));
    if (failure === undefined) return;
    failure.remaining -= 1;
    throw failure.error;
  }
}
