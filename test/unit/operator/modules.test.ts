// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { NodeResourceStatus } from '../../../src/api/resources.ts';
import type { ClusterPod } from '../../../src/core/cluster-facts.ts';
import { deliveredPath } from '../../../src/core/module-delivery.ts';
import { PODS } from '../../../src/core/resource-types.ts';
import { reconcileModules } from '../../../src/operator/modules.ts';
import { RetryLater } from '../../../src/runtime/work-queue.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { facts, NOW, nodeObject, policy } from '../core/cluster/builders.ts';
import { World } from '../core/cluster/world.ts';

const IMAGE = 'r/ip-vs:1';
const PATH = deliveredPath(IMAGE, '6.1.0-1-amd64');
const module = {
  activation: 'Live' as const,
  kernelMappings: [{ regexp: '.*', image: IMAGE }],
  imagePullSecrets: [],
  unsupportedKernel: 'Skip',
};
const POLICY = policy('p', { module: { ...module, unsupportedKernel: 'Skip' } });
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const config = {
  namespace: 'ns',
  image: 'r/ipvs-bpf:1',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [],
  moduleHostPath: '/m',
  logLevel: 'info',
  logFormat: 'json',
  priorityClassName: '',
  resources: {},
  nodeSelector: {},
  tolerations: [],
} as unknown as Parameters<typeof reconcileModules>[0]['config'];

/** One run for node n1, which reports this about the file. */
function run(cluster: FakeCluster, file?: NonNullable<NodeResourceStatus['module']>['file']): Promise<void> {
  const world = new World([POLICY], ['n1']);
  world.plan();
  world.plan();
  const [made] = world.state.nodeObjects;
  if (made === undefined) throw new Error('nothing is asked of the node');
  const object = nodeObject('n1', made.spec, file === undefined ? {} : { module: { file } });
  const pods = cluster.select(PODS, {}) as unknown as readonly ClusterPod[];
  const { policies } = facts({ policies: [POLICY] });
  return reconcileModules({ cluster, config, log, nodeObjects: [object], policies, pods, now: NOW });
}

describe('the pods that deliver modules', () => {
  it('are made once, looked after, and removed when the files are there', async () => {
    const cluster = new FakeCluster();
    await expect(run(cluster)).rejects.toThrow(RetryLater);
    const [pod] = cluster.select(PODS, {});
    expect(pod).toMatchObject({ metadata: { namespace: 'ns' }, spec: { nodeName: 'n1' } });
    await expect(run(cluster, { path: PATH, state: 'Missing' })).rejects.toThrow(RetryLater);
    expect(cluster.select(PODS, {})).toHaveLength(1);
    await run(cluster, { path: PATH, state: 'Found' }).catch(() => {});
    expect(cluster.select(PODS, {})).toEqual([]);
    await run(cluster, { path: PATH, state: 'Found' });
  });

  it('are no error where the watch has not brought the one that is there', async () => {
    const cluster = new FakeCluster();
    await run(cluster).catch(() => {});
    const select = cluster.select.bind(cluster);
    cluster.select = () => [];
    await expect(run(cluster)).rejects.toThrow(RetryLater);
    cluster.select = select;
    expect(cluster.select(PODS, {})).toHaveLength(1);
  });
});
