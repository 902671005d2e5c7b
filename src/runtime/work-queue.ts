// SPDX-License-Identifier: Apache-2.0
/** A queue of keys: one flight at a time per key, several keys side by side, back-off after a failure. */

/** Thrown by work that has to wait for something: tried again after that time, not counted as a failure. */
export class RetryLater extends Error {
  override readonly name = 'RetryLater';
  readonly afterMs: number;

  constructor(message: string, afterMs: number) {
    super(message);
    this.afterMs = afterMs;
  }
}

export interface Finished {
  readonly key: string;
  readonly durationMs: number;
  readonly outcome: 'done' | 'later' | 'failed';
  /** Failures in a row, this one included. */
  readonly failures: number;
  readonly error?: unknown;
  /** When the key is tried again; undefined if nothing asks for it. */
  readonly retryInMs?: number;
}

export interface WorkQueueOptions {
  /** Works on the newest state of what the key names. A rejection is a failure and is tried again. */
  readonly work: (key: string) => Promise<void>;
  /** Keys worked on at the same time; at least 1. */
  readonly concurrency?: number;
  /** Pause after the first failure; doubles with each one. */
  readonly firstBackoffMs?: number;
  readonly maxBackoffMs?: number;
  /** Between two runs of the same key at least this long, so that a burst of changes costs one run. */
  readonly minIntervalMs?: number;
  /** 0 up to but not 1; spreads the back-off of many. */
  readonly random: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  readonly onFinished?: (finished: Finished) => void;
}

interface Entry {
  timer: NodeJS.Timeout | undefined;
  /** When the timer fires. */
  dueAt: number;
  running: boolean;
  /** Added while it ran: runs once more. */
  again: boolean;
  failures: number;
  lastStart: number;
}

export class WorkQueue {
  readonly #options: Required<Omit<WorkQueueOptions, 'onFinished'>> & Pick<WorkQueueOptions, 'onFinished'>;
  readonly #entries = new Map<string, Entry>();
  readonly #ready: string[] = [];
  #running = 0;
  #stopped = false;
  #whenIdle: (() => void)[] = [];

  constructor(options: WorkQueueOptions) {
    this.#options = {
      concurrency: 1,
      firstBackoffMs: 250,
      maxBackoffMs: 60_000,
      minIntervalMs: 0,
      ...options,
    };
  }

  /** Keys that wait for their turn, without those that wait for a time. */
  get depth(): number {
    return this.#ready.length;
  }

  /** Asks for a run. A key that already waits is not added twice; one in back-off keeps waiting for it. */
  add(key: string): void {
    const entry = this.#entry(key);
    if (entry.running) {
      entry.again = true;
    } else if (entry.failures === 0 || entry.timer === undefined) {
      this.#schedule(key, entry, entry.lastStart + this.#options.minIntervalMs - this.#options.now());
    }
  }

  /** Asks for a run not later than in `ms`. */
  addAfter(key: string, ms: number): void {
    this.#schedule(key, this.#entry(key), ms);
  }

  /** Takes nothing new and resolves when what runs has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const entry of this.#entries.values()) clearTimeout(entry.timer);
    this.#ready.length = 0;
    if (this.#running === 0) return;
    await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }

  #entry(key: string): Entry {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = {
        timer: undefined,
        dueAt: 0,
        running: false,
        again: false,
        failures: 0,
        lastStart: Number.NEGATIVE_INFINITY,
      };
      this.#entries.set(key, entry);
    }
    return entry;
  }

  #schedule(key: string, entry: Entry, ms: number): void {
    if (this.#stopped || this.#ready.includes(key)) return;
    const dueAt = this.#options.now() + Math.max(0, ms);
    if (entry.timer !== undefined) {
      if (entry.dueAt <= dueAt) return;
      clearTimeout(entry.timer);
      entry.timer = undefined;
    }
    if (ms <= 0) {
      this.#makeReady(key, entry);
      return;
    }
    entry.dueAt = dueAt;
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      this.#makeReady(key, entry);
    }, ms);
  }

  #makeReady(key: string, entry: Entry): void {
    if (entry.running) {
      entry.again = true;
      return;
    }
    this.#ready.push(key);
    this.#startNext();
  }

  #startNext(): void {
    while (!this.#stopped && this.#running < this.#options.concurrency) {
      const key = this.#ready.shift();
      if (key === undefined) return;
      this.#running += 1;
      void this.#run(key, this.#entry(key));
    }
  }

  async #run(key: string, entry: Entry): Promise<void> {
    const { now, work } = this.#options;
    entry.running = true;
    entry.lastStart = now();
    let error: unknown;
    let failed = false;
    try {
      await work(key);
    } catch (caught) {
      error = caught;
      failed = true;
    }
    entry.running = false;
    this.#running -= 1;
    this.#finish(key, entry, failed ? { error } : undefined);
    if (this.#stopped) {
      if (this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
      return;
    }
    this.#startNext();
  }

  #finish(key: string, entry: Entry, failure: { readonly error: unknown } | undefined): void {
    const durationMs = this.#options.now() - entry.lastStart;
    const { again } = entry;
    entry.again = false;
    const later = failure?.error instanceof RetryLater ? failure.error : undefined;
    entry.failures = failure === undefined || later !== undefined ? 0 : entry.failures + 1;
    const { failures } = entry;
    let retryInMs: number | undefined;
    if (failures > 0) retryInMs = this.#backoff(failures);
    else if (again) retryInMs = entry.lastStart + this.#options.minIntervalMs - this.#options.now();
    else if (later !== undefined) retryInMs = later.afterMs;
    if (retryInMs !== undefined) this.#schedule(key, entry, retryInMs);
    // With an interval the entry is kept, because it has when the key last ran.
    else if (this.#options.minIntervalMs === 0) this.#entries.delete(key);
    this.#options.onFinished?.({
      key,
      durationMs,
      outcome: failure === undefined ? 'done' : later === undefined ? 'failed' : 'later',
      failures,
      ...(failure === undefined ? {} : { error: failure.error }),
      ...(retryInMs === undefined ? {} : { retryInMs: Math.max(0, retryInMs) }),
    });
  }

  /** Half fixed, half by chance. */
  #backoff(failures: number): number {
    const { firstBackoffMs, maxBackoffMs, random } = this.#options;
    const full = Math.min(maxBackoffMs, firstBackoffMs * 2 ** Math.min(failures - 1, 30));
    return full / 2 + (full / 2) * random();
  }
}
