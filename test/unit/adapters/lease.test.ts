// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LeaderElection } from '../../../src/adapters/lease.ts';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import { LEASES } from '../../../src/core/resource-types.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';

const LEASE = { name: 'leader', namespace: 'here' };
const TIMES = { durationMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 };

class Replica {
  readonly log: string[] = [];
  readonly election: LeaderElection;
  /** What the network does to it: a pause before each call in milliseconds, or no answer at all. */
  network: { delayMs: number; cut: boolean } = { delayMs: 0, cut: false };
  /** Its time of day, in milliseconds since 1970. */
  dateMs: number;

  constructor(identity: string, cluster: FakeCluster) {
    this.dateMs = identity === 'a' ? 0 : 4e12;
    const through =
      <A extends unknown[], R>(call: (...parameters: A) => Promise<R>) =>
      async (...parameters: A): Promise<R> => {
        const { delayMs, cut } = this.network;
        if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
        if (cut) throw new ClusterError('x', { status: 0, reason: 'Unreachable', detail: 'cut' });
        return await call(...parameters);
      };
    this.election = new LeaderElection({
      cluster: {
        get: through((type, name) => cluster.get(type, name)),
        create: through((type, object) => cluster.create(type, object)),
        replace: through((type, object) => cluster.replace(type, object)),
      },
      lease: LEASE,
      identity,
      ...TIMES,
      now: () => performance.now(),
      // Clocks of the day differ wildly, and nothing may depend on them.
      date: () => new Date(this.dateMs),
      onStarted: () => this.log.push('started'),
      onStopped: () => this.log.push('stopped'),
      onError: () => undefined,
    });
  }
}

describe('LeaderElection', () => {
  let cluster: FakeCluster;
  beforeEach(() => {
    vi.useFakeTimers();
    cluster = new FakeCluster();
  });
  afterEach(() => void vi.useRealTimers());

  it('lets one of two lead', async () => {
    const replicas = [new Replica('a', cluster), new Replica('b', cluster)];
    for (const { election } of replicas) election.start();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(replicas.filter(({ election }) => election.leading)).toHaveLength(1);
  });

  it('replaces a leader that is gone, after the Lease ran out and not before', async () => {
    const [a, b] = [new Replica('a', cluster), new Replica('b', cluster)];
    a.election.start();
    await vi.advanceTimersByTimeAsync(100);
    b.election.start();
    await vi.advanceTimersByTimeAsync(5_000);
    a.network.cut = true;
    await vi.advanceTimersByTimeAsync(10_000);
    expect([a.election.leading, b.election.leading]).toEqual([false, false]);
    expect(a.log).toEqual(['started', 'stopped']);
    await vi.advanceTimersByTimeAsync(12_000);
    expect(b.election.leading).toBe(true);
    const lease = await cluster.get(LEASES, LEASE);
    expect(lease?.spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
  });

  it('hands over at once when the leader ends in order', async () => {
    const [a, b] = [new Replica('a', cluster), new Replica('b', cluster)];
    a.election.start();
    await vi.advanceTimersByTimeAsync(100);
    b.election.start();
    await a.election.stop();
    await vi.advanceTimersByTimeAsync(3_000);
    expect([a.election.leading, b.election.leading]).toEqual([false, true]);
  });

  it('keeps leading through a short loss of the API server', async () => {
    const a = new Replica('a', cluster);
    a.election.start();
    await vi.advanceTimersByTimeAsync(100);
    a.network.cut = true;
    await vi.advanceTimersByTimeAsync(6_000);
    a.network.cut = false;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(a.log).toEqual(['started']);
    expect(a.election.leading).toBe(true);
  });

  it.each([
    ['back', -5 * 3_600_000],
    ['forward', 5 * 3_600_000],
  ])('neither loses nor wins anything by a clock that jumps %s', async (_, jumpMs) => {
    const replicas = [new Replica('a', cluster), new Replica('b', cluster)];
    const [a, b] = replicas as [Replica, Replica];
    for (const each of replicas) each.dateMs = 1_800_000_000_000;
    a.election.start();
    await vi.advanceTimersByTimeAsync(100);
    b.election.start();
    await vi.advanceTimersByTimeAsync(20_000);
    for (const each of replicas) {
      each.dateMs += jumpMs;
      await vi.advanceTimersByTimeAsync(20_000);
      expect([a.log, b.log]).toEqual([['started'], []]);
    }
    a.network.cut = true;
    await vi.advanceTimersByTimeAsync(30_000);
    expect([a.election.leading, b.election.leading]).toEqual([false, true]);
  });

  it('stops when somebody else has taken the Lease by hand', async () => {
    const a = new Replica('a', cluster);
    a.election.start();
    await vi.advanceTimersByTimeAsync(100);
    cluster.put(LEASES, { metadata: LEASE, spec: { holderIdentity: 'z', leaseDurationSeconds: 15 } });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(a.log).toEqual(['started', 'stopped']);
  });

  it('never has two leaders at once, whatever the network does to whom', async () => {
    const disturbance = fc.record({
      who: fc.integer({ min: 0, max: 2 }),
      delayMs: fc.constantFrom(0, 50, 1_500, 9_000, 14_000),
      cut: fc.boolean(),
      forMs: fc.integer({ min: 100, max: 25_000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(disturbance, { maxLength: 12 }), async (disturbances) => {
        const shared = new FakeCluster();
        const replicas = ['a', 'b', 'c'].map((name) => new Replica(name, shared));
        for (const { election } of replicas) election.start();
        for (const { who, delayMs, cut, forMs } of disturbances) {
          const replica = replicas[who];
          if (replica !== undefined) replica.network = { delayMs, cut };
          for (let passed = 0; passed < forMs; passed += 250) {
            await vi.advanceTimersByTimeAsync(250);
            expect(replicas.filter(({ election }) => election.leading).length).toBeLessThanOrEqual(1);
          }
        }
        for (const replica of replicas) replica.network = { delayMs: 0, cut: false };
        await vi.advanceTimersByTimeAsync(60_000);
        expect(replicas.filter(({ election }) => election.leading)).toHaveLength(1);
        vi.clearAllTimers();
      }),
      { numRuns: 40 },
    );
  });
});
