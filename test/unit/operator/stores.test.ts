// SPDX-License-Identifier: Apache-2.0
/** How the operator knows that an agent lives: its Lease changes, whatever the clocks say that it is of. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NODE_LEASE_PREFIX } from '../../../src/core/manifests.ts';
import { isReachable } from '../../../src/core/policy-nodes.ts';
import { LEASES, NODES, POLICIES, SERVICES } from '../../../src/core/resource-types.ts';
import { Stores } from '../../../src/operator/stores.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';

const HOUR = 3_600_000;
const NAMESPACE = 'ipvs-bpf';
const DATE = Date.parse('2026-01-01T00:00:00Z');

describe('stores', () => {
  let cluster: FakeCluster;
  let stores: Stores;
  /** A clock that never jumps. */
  let nowMs: number;
  let changes: number;

  beforeEach(async () => {
    vi.useFakeTimers();
    nowMs = 1_000_000;
    changes = 0;
    cluster = new FakeCluster();
    cluster.put(NODES, { metadata: { name: 'n1' } });
    const nothing = () => {};
    stores = new Stores(cluster.watch(POLICIES, {}, { onChange: nothing }), {
      cluster,
      namespace: NAMESPACE,
      now: () => nowMs,
      onChange: () => {
        changes += 1;
      },
      onAgentsChange: nothing,
      onState: nothing,
    });
    await vi.advanceTimersByTimeAsync(10);
  });
  afterEach(() => {
    stores.stop();
    vi.useRealTimers();
  });

  /** The agent renews its Lease, by its own clock. */
  async function renew(date: number): Promise<void> {
    const renewTime = new Date(date).toISOString();
    cluster.put(LEASES, {
      metadata: { name: `${NODE_LEASE_PREFIX}n1`, namespace: NAMESPACE },
      spec: { holderIdentity: 'n1', renewTime },
    });
    await vi.advanceTimersByTimeAsync(10);
  }

  const lives = (date: number): boolean => isReachable(stores.facts(date).agents.n1, date);

  it.each([
    ['right', 0],
    ['hours behind', -5 * HOUR],
    ['hours ahead', 5 * HOUR],
  ])('an agent whose clock is %s lives as long as it renews', async (_, ahead) => {
    expect(lives(DATE)).toBe(false);
    await renew(DATE + ahead);
    expect(lives(DATE)).toBe(true);
    nowMs += 30_000;
    expect(lives(DATE + 30_000)).toBe(true);
    nowMs += 20_000;
    expect(lives(DATE + 50_000)).toBe(false);
    await renew(DATE + ahead + 50_000);
    expect(lives(DATE + 50_000)).toBe(true);
  });

  it.each([
    ['back', -5 * HOUR],
    ['forward', 5 * HOUR],
  ])("the operator's own clock may jump %s", async (_, jump) => {
    await renew(DATE);
    nowMs += 10_000;
    expect(lives(DATE + jump)).toBe(true);
    nowMs += 40_000;
    expect(lives(DATE + jump)).toBe(false);
  });

  it('what a kubelet writes of its Node again and again is neither kept nor a change', async () => {
    const Ready = { type: 'Ready', status: 'True' };
    const images = [{ names: ['a'], sizeBytes: 1 }];
    const put = async (status: object, annotations = {}) => {
      const before = changes;
      cluster.put(NODES, { metadata: { name: 'n1', annotations }, status });
      await vi.advanceTimersByTimeAsync(10);
      return changes - before;
    };
    expect(await put({ conditions: [Ready] })).toBe(1);
    const beat = { ...Ready, lastHeartbeatTime: '2026-01-01T00:00:00Z', reason: 'KubeletReady' };
    expect(await put({ conditions: [beat], images }, { attached: 'x' })).toBe(0);
    expect(stores.facts(DATE).nodes).toMatchObject([{ status: { conditions: [Ready] } }]);
    expect(JSON.stringify(stores.facts(DATE).nodes)).not.toMatch(/images|lastHeartbeatTime|attached/);
    expect(await put({ conditions: [{ ...Ready, status: 'False' }] })).toBe(1);
  });

  it('lists that have not changed are the same arrays, so that planning need not look again', async () => {
    cluster.put(SERVICES, { metadata: { name: 'web', namespace: 'a' } });
    await vi.advanceTimersByTimeAsync(10);
    const [first, second] = [stores.facts(DATE), stores.facts(DATE + 1)];
    expect(second.services).toBe(first.services);
    cluster.put(SERVICES, { metadata: { name: 'web', namespace: 'a' }, spec: { clusterIP: '10.96.0.1' } });
    await vi.advanceTimersByTimeAsync(10);
    expect(stores.facts(DATE).services).not.toBe(first.services);
    expect(stores.facts(DATE).endpointSlices).toBe(first.endpointSlices);
  });
});
