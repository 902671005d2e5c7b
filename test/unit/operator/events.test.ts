// SPDX-License-Identifier: Apache-2.0
/** The Events that the operator's loop records about policies, and not planning. */
import { describe, expect, it } from 'vitest';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import { planCluster } from '../../../src/core/policy-plan.ts';
import { NODES, POLICIES } from '../../../src/core/resource-types.ts';
import { Reconciler } from '../../../src/operator/reconcile.ts';
import { Stores } from '../../../src/operator/stores.ts';
import { Backoff } from '../../../src/runtime/backoff.ts';
import { RetryLater } from '../../../src/runtime/work-queue.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { casesOf, LOOP_EVENTS, type LoopEvent } from '../cases.ts';
import { policy } from '../core/cluster/builders.ts';

type Refusal = FakeCluster['refuse'];

/** What the API server answers, each with its words in the Event. */
const REFUSALS: Readonly<Record<LoopEvent, readonly (readonly [string, Refusal])[]>> = {
  ApplyFailed: [
    ['403 Forbidden', (method) => (method === 'apply' ? refusal(403, 'Forbidden') : undefined)],
    ['422 Invalid', (method) => (method === 'apply' ? refusal(422, 'Invalid') : undefined)],
  ],
  ObservationFailed: [
    ['403 Forbidden', (method, { kind }) => (reads(method, kind) ? refusal(403, 'Forbidden') : undefined)],
    ['404 NotFound', (method, { kind }) => (reads(method, kind) ? refusal(404, 'NotFound') : undefined)],
  ],
};

const reads = (method: string, kind: string): boolean => method === 'list' && kind === 'IpvsBpfNode';

function refusal(status: number, reason: string): ClusterError {
  return new ClusterError('a call', { status, reason, detail: 'no' });
}

/** Looks at a cluster with one policy and one node until nothing more comes of it. */
async function looked(refuse: Refusal): Promise<FakeCluster> {
  const cluster = new FakeCluster();
  cluster.put(NODES, { metadata: { name: 'n1' } });
  const { metadata, spec } = policy('main');
  cluster.put(POLICIES, { metadata, spec });
  cluster.refuse = refuse;
  const nothing = () => {};
  const now = () => performance.now();
  const stores = new Stores(cluster.watch(POLICIES, {}, { onChange: nothing }), {
    ...{ cluster, namespace: 'ipvs-bpf', now },
    ...{ onChange: nothing, onAgentsChange: nothing, onState: nothing },
  });
  const reconciler = new Reconciler({
    ...{ cluster, stores, plan: planCluster, date: Date.now },
    settleFinalizer: async (object) => object,
    backoff: new Backoff({ firstMs: 250, maxMs: 60_000, now, random: () => 0 }),
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
  });
  for (let round = 0; round < 3; round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 15));
    await expect(reconciler.reconcile()).rejects.toBeInstanceOf(RetryLater);
  }
  stores.stop();
  return cluster;
}

describe('the loop of the operator records', () => {
  const cases = casesOf(LOOP_EVENTS, REFUSALS).flatMap(([reason, refusals]) =>
    refusals.map(([text, refuse]) => [reason, text, refuse] as const),
  );

  it.each(cases)('%s once, with the words of the API server: %s', async (reason, text, refuse) => {
    const { events } = await looked(refuse);
    const found = events.filter((event) => event.reason === reason);
    expect(found).toMatchObject([{ type: 'Warning', about: { metadata: { name: 'main' } } }]);
    expect(found[0]?.message).toContain(text);
  });
});
