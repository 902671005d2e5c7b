// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { ClusterError } from '../../../src/core/cluster-error.ts';
import { IPVS_BPF_NODES, POLICIES } from '../../../src/core/resource-types.ts';
import { checkUninstall, UninstallRefused } from '../../../src/operator/uninstall.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';

const TIMEOUT_MS = 60_000;

describe('checkUninstall', () => {
  let cluster: FakeCluster;
  let now: number;
  let said: string[];
  /** What the operator does between two looks. */
  let meanwhile: () => Promise<unknown>;

  beforeEach(() => {
    cluster = new FakeCluster();
    now = 0;
    said = [];
    meanwhile = async () => undefined;
  });

  const check = (revert: boolean): Promise<void> =>
    checkUninstall({
      cluster,
      revert,
      timeoutMs: TIMEOUT_MS,
      now: () => now,
      sleep: async (milliseconds) => {
        now += milliseconds;
        await meanwhile();
      },
      say: (line) => said.push(line),
    });

  const refusal = async (revert: boolean): Promise<UninstallRefused> => {
    const error = await check(revert).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(UninstallRefused);
    return error as UninstallRefused;
  };

  const putPolicy = (name: string) =>
    cluster.put(POLICIES, { metadata: { name, finalizers: ['ipvs-bpf.io/revert-nodes'] }, spec: {} });
  const putNode = (name: string, status = {}) => cluster.put(IPVS_BPF_NODES, { metadata: { name }, status });

  /** All nodes are back: the operator lets the policies go. */
  async function finish(): Promise<void> {
    for (const { metadata } of cluster.select(IPVS_BPF_NODES, {}))
      await cluster.delete(IPVS_BPF_NODES, metadata);
    for (const policy of cluster.select(POLICIES, {})) await cluster.setFinalizers(POLICIES, policy, []);
  }

  it('lets the chart go where no policy and no node is, and where their definitions are gone', async () => {
    await check(false);
    cluster.refuse = () =>
      new ClusterError('list IpvsBpfPolicies', { status: 404, reason: 'NotFound', detail: 'no such kind' });
    await check(false);
    await check(true);
  });

  it('refuses while a policy or a node is there, names them, says what to do, and changes nothing', async () => {
    putPolicy('shop');
    putNode('n2');
    putNode('n1');
    const { message, advice } = await refusal(false);
    expect(message).toContain('there is IpvsBpfPolicy shop and IpvsBpfNode n1, n2;');
    expect(advice).toContain('kubectl delete ipvsbpfpolicy --all');
    expect(cluster.writes).toEqual([]);
  });

  it('names ten and counts the others', async () => {
    for (let i = 10; i < 25; i += 1) putNode(`n${i}`);
    expect((await refusal(false)).message).toContain('n18, n19 and 5 more;');
  });

  it('does not take an API server that refuses for one that has nothing', async () => {
    cluster.refuse = () =>
      new ClusterError('list IpvsBpfPolicies', { status: 403, reason: 'Forbidden', detail: 'no' });
    await expect(check(false)).rejects.toThrow(ClusterError);
  });

  it('with revert deletes the policies once and waits for the last node', async () => {
    putPolicy('shop');
    putPolicy('edge');
    putNode('n1');
    meanwhile = async () => {
      if (now >= 10_000) await finish();
    };
    await check(true);
    expect(now).toBe(10_000);
    expect(said).toEqual([
      'deleted IpvsBpfPolicy edge',
      'deleted IpvsBpfPolicy shop',
      'waits for IpvsBpfPolicy edge, shop and IpvsBpfNode n1',
      'no IpvsBpfPolicy and no IpvsBpfNode is there',
    ]);
    expect(cluster.select(POLICIES, {})).toEqual([]);
  });

  it('with revert says after the timeout which nodes are left and why', async () => {
    putPolicy('shop');
    const ready = { type: 'Ready', status: 'False', reason: 'Failed', message: 'rmmod: in use' };
    putNode('n1', { conditions: [ready] });
    const { message } = await refusal(true);
    expect(message).toBe(
      'not uninstalled: after 60 s there is still IpvsBpfPolicy shop and IpvsBpfNode n1\n  n1: Failed: rmmod: in use',
    );
    expect(now).toBeGreaterThan(TIMEOUT_MS);
  });
});
