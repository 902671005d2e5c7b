// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Finished, RetryLater, WorkQueue } from '../../../src/runtime/work-queue.ts';

describe('WorkQueue', () => {
  afterEach(() => void vi.useRealTimers());

  const finished: Finished[] = [];
  const runs: string[] = [];
  beforeEach(() => {
    vi.useFakeTimers();
    finished.length = 0;
    runs.length = 0;
  });

  function queue(work: (key: string) => Promise<void>, options: object = {}): WorkQueue {
    return new WorkQueue({
      work: async (key) => {
        runs.push(key);
        await work(key);
      },
      random: () => 1,
      now: () => performance.now(),
      onFinished: (one) => finished.push(one),
      ...options,
    });
  }

  const takes = (ms: number) => async () => {
    await new Promise((resolve) => setTimeout(resolve, ms));
  };

  it('runs a key that was added many times once', async () => {
    const subject = queue(takes(10));
    for (let count = 0; count < 5; count += 1) subject.add('other');
    for (let count = 0; count < 5; count += 1) subject.add('key');
    await vi.advanceTimersByTimeAsync(100);
    expect(runs).toEqual(['other', 'key', 'other']);
  });

  it('never runs a key twice at the same time, and runs it again when it changed meanwhile', async () => {
    let running = 0;
    let most = 0;
    const subject = queue(
      async () => {
        running += 1;
        most = Math.max(most, running);
        await takes(10)();
        running -= 1;
      },
      { concurrency: 4 },
    );
    subject.add('key');
    await vi.advanceTimersByTimeAsync(5);
    subject.add('key');
    await vi.advanceTimersByTimeAsync(50);
    expect([runs.length, most]).toEqual([2, 1]);
  });

  it('lets a slow key hold up nobody', async () => {
    const subject = queue((key) => takes(key === 'slow' ? 1000 : 1)(), { concurrency: 2 });
    subject.add('slow');
    subject.add('a');
    subject.add('b');
    await vi.advanceTimersByTimeAsync(10);
    expect(finished.map(({ key }) => key)).toEqual(['a', 'b']);
  });

  it('doubles the pause after each failure up to the limit, and forgets them after a success', async () => {
    let fails = true;
    const subject = queue(
      async () => {
        if (fails) throw new Error('no');
      },
      { firstBackoffMs: 100, maxBackoffMs: 300 },
    );
    subject.add('key');
    await vi.advanceTimersByTimeAsync(750);
    expect(finished.map(({ retryInMs }) => retryInMs)).toEqual([100, 200, 300, 300]);
    fails = false;
    await vi.advanceTimersByTimeAsync(400);
    expect(finished.at(-1)).toMatchObject({ outcome: 'done', failures: 0 });
    fails = true;
    subject.add('key');
    await vi.advanceTimersByTimeAsync(1);
    expect(finished.at(-1)).toMatchObject({ outcome: 'failed', retryInMs: 100 });
  });

  it('keeps a failing key in back-off although it is added', async () => {
    const subject = queue(() => Promise.reject(new Error('no')), { firstBackoffMs: 1000 });
    subject.add('key');
    await vi.advanceTimersByTimeAsync(1);
    subject.add('key');
    await vi.advanceTimersByTimeAsync(900);
    expect(runs).toHaveLength(1);
  });

  it('tries work that has to wait again after its time, or at once when it is added', async () => {
    const subject = queue(() => Promise.reject(new RetryLater('wait', 1000)));
    subject.add('key');
    await vi.advanceTimersByTimeAsync(1);
    subject.add('key');
    await vi.advanceTimersByTimeAsync(1);
    expect(runs).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1000);
    expect(runs).toHaveLength(3);
    expect(finished.at(-1)).toMatchObject({ outcome: 'later', failures: 0 });
  });

  it('spends one run on a burst of changes', async () => {
    const subject = queue(async () => undefined, { minIntervalMs: 100 });
    subject.add('key');
    for (let count = 0; count < 50; count += 1) {
      await vi.advanceTimersByTimeAsync(1);
      subject.add('key');
    }
    await vi.advanceTimersByTimeAsync(500);
    expect(runs).toHaveLength(2);
  });

  it('ends when what runs has ended, and takes nothing new', async () => {
    const subject = queue(takes(100));
    subject.add('key');
    subject.add('next');
    let ended = false;
    void subject.stop().then(() => {
      ended = true;
    });
    await vi.advanceTimersByTimeAsync(50);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(100);
    subject.add('late');
    await vi.advanceTimersByTimeAsync(100);
    expect([ended, runs]).toEqual([true, ['key']]);
  });
});
