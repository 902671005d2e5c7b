// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode } from '../../../../src/api/generated/resource-types.ts';
import type { NodeSpec } from '../../../../src/api/resources.ts';
import type { ClusterPod } from '../../../../src/core/cluster-facts.ts';
import {
  deliveredPath,
  deliveryFinding,
  deliveryPod,
  deliveryPodName,
  hasDelivery,
  planDeliveries,
} from '../../../../src/core/module-delivery.ts';
import { planCluster } from '../../../../src/core/policy-plan.ts';
import { facts, NOW, nodeObject, policy, policySpec } from './builders.ts';

const IMAGE = 'registry.example/ip-vs:6.1.0-1-amd64';
const PATH = deliveredPath(IMAGE, '6.1.0-1-amd64');
const NAME = deliveryPodName('n1', IMAGE, PATH);
const MODULE = {
  activation: 'Live' as const,
  kernelMappings: [{ regexp: '.*', image: IMAGE }],
  imagePullSecrets: [{ name: 'registry' }],
  unsupportedKernel: 'Skip' as const,
};
const POLICY = policy('p', { module: MODULE, mode: 'DryRun' });

type File = NonNullable<NonNullable<NonNullable<IpvsBpfNode['status']>['module']>['file']>;

/** Node n1 as the policy asks for it. */
function object(file?: File, change: Partial<NodeSpec> = {}): IpvsBpfNode {
  const step = planCluster(facts({ policies: [POLICY] })).steps.find(({ kind }) => kind === 'applyNode');
  if (step?.kind !== 'applyNode') throw new Error('nothing is asked of the node');
  return nodeObject('n1', { ...step.spec, ...change }, file === undefined ? {} : { module: { file } });
}

const pod = (status: ClusterPod['status'] = {}, name = NAME): ClusterPod => ({ metadata: { name }, status });
const found: File = { path: PATH, state: 'Found', srcversion: 'X' };
const missing: File = { path: PATH, state: 'Missing' };
const endedAt = (age: number): ClusterPod['status'] => ({
  phase: 'Succeeded',
  containerStatuses: [
    { state: { terminated: { exitCode: 0, finishedAt: new Date(NOW - age).toISOString() } } },
  ],
});

function plan(node: IpvsBpfNode | undefined, pods: readonly ClusterPod[] = []) {
  const { create, remove } = planDeliveries(node === undefined ? [] : [node], [POLICY], pods, NOW);
  return {
    create: create.map(({ image, path, pullSecrets }) => ({ image, path, pullSecrets })),
    remove: remove.map(({ metadata }) => metadata.name),
  };
}

describe('the pod that brings a module to a node', () => {
  it('is made, also for a dry run, with the secrets of the policy', () => {
    const create = [{ image: IMAGE, path: PATH, pullSecrets: ['registry'] }];
    expect(plan(object())).toEqual({ create, remove: [] });
    expect(plan(object(missing))).toEqual({ create, remove: [] });
  });

  it.each([
    ['stays while it works', object(missing), pod({ phase: 'Running' }), []],
    ['stays until the agent has seen the files', object(missing), pod(endedAt(60_000)), []],
    [
      'stays when what it brought is of no use',
      object({ path: PATH, state: 'Unreadable' }),
      pod(endedAt(1)),
      [],
    ],
    ['goes when they are there', object(found), pod(endedAt(1)), [NAME]],
    ['goes to be made again when they are gone again', object(missing), pod(endedAt(180_000)), [NAME]],
    ['goes with what it was for', undefined, pod(), [NAME]],
    [
      'goes when another image is asked for',
      object(found),
      pod({}, 'ipvs-bpf-module-other'),
      ['ipvs-bpf-module-other'],
    ],
  ] as const)('%s', (_, node, its, remove) => {
    expect(plan(node, [its])).toEqual({ create: [], remove });
  });

  it('is made again some time after it was refused', () => {
    const failed = (age: number) => pod({ phase: 'Failed', startTime: new Date(NOW - age).toISOString() });
    expect(plan(object(missing), [failed(10_000)]).remove).toEqual([]);
    expect(plan(object(missing), [failed(61_000)]).remove).toEqual([NAME]);
  });

  it('is removed once', () => {
    const going = { ...pod(), metadata: { name: NAME, deletionTimestamp: '2026-01-01T00:00:00Z' } };
    expect(plan(object(found), [going]).remove).toEqual([]);
  });

  it('may write one directory of its node, and has no other right', () => {
    const [delivery] = planDeliveries([object()], [POLICY], [], NOW).create;
    if (delivery === undefined) throw new Error('nothing is delivered');
    const config = {
      namespace: 'ns',
      image: 'r/ipvs-bpf:1',
      imagePullPolicy: 'Always',
      imagePullSecrets: [],
    } as const;
    expect(deliveryPod(delivery, config)).toMatchSnapshot();
  });
});

describe('what is said of the way of a module', () => {
  const said = (node: IpvsBpfNode, ...pods: readonly ClusterPod[]) => {
    const { reason, message } = deliveryFinding(node, pods);
    return `${reason}: ${message}`;
  };
  const waiting = (reason: string, message: string) =>
    pod({ phase: 'Pending', containerStatuses: [{ state: { waiting: { reason, message } } }] });

  it('keeps the error of a pull while the kubelet waits for the next', () => {
    const node = object(missing);
    const error = deliveryFinding(node, [waiting('ErrImagePull', 'manifest unknown')]);
    expect(error).toMatchObject({ reason: 'ImagePullFailed', message: `${IMAGE}: manifest unknown` });
    const told = { ...error, lastTransitionTime: '2026-01-01T00:00:00Z' };
    const later = { ...node, status: { ...node.status, conditions: [told] } };
    expect(said(later, waiting('ImagePullBackOff', 'Back-off'))).toBe(
      `ImagePullFailed: ${IMAGE}: manifest unknown`,
    );
  });

  it('has the words of a copy that failed, also while it is tried again', () => {
    const text = 'the image has no /lib/modules/6.1.0-1-amd64/ip_vs.ko\n';
    const terminated = { exitCode: 1, message: text };
    for (const status of [{ state: { terminated } }, { state: {}, lastState: { terminated } }]) {
      const its = pod({ phase: 'Running', containerStatuses: [status] });
      expect(said(object(missing), its)).toBe(`DeliveryFailed: ${IMAGE}: ${text.trim()}`);
    }
  });

  it('has the reason for which a node refused the pod', () => {
    const its = pod({ phase: 'Failed', reason: 'Evicted', message: 'low on disk' });
    expect(said(object(missing), its)).toBe('DeliveryFailed: The pod failed: low on disk');
  });

  it('is that the files are of no use', () => {
    const node = object({ path: PATH, state: 'Unreadable' });
    expect(said(node, pod(endedAt(1)))).toMatch(/^DeliveryFailed: .* not what its manifest says/);
  });
});

describe('a policy that goes', () => {
  const deleted = policy(
    'p',
    { ...policySpec(), module: MODULE, mode: 'DryRun' },
    { deletionTimestamp: '2026-01-01T00:00:00Z' },
  );
  const steps = (node: IpvsBpfNode, agents = true) =>
    planCluster(facts({ policies: [deleted], nodeObjects: [node], ...(agents ? {} : { agents: {} }) })).steps;
  const native = (file: File): IpvsBpfNode => {
    const node = object(file);
    return { ...node, status: { ...node.status, appliedRevision: 'native', observedGeneration: 1 } };
  };

  it('has the agent remove what was delivered for a dry run', () => {
    expect(hasDelivery(native(found))).toBe(true);
    const asked = steps(native(found)).find(({ kind }) => kind === 'applyNode');
    expect(asked).toMatchObject({
      spec: { action: 'Revert', module: { activation: 'Live' as const, path: PATH } },
    });
    expect(asked).not.toHaveProperty('spec.module.image');
  });

  it('leaves the node when that is done, and when nobody is there to do it', () => {
    expect(steps(native(missing)).map(({ kind }) => kind)).toContain('deleteNode');
    expect(steps(native(found), false).map(({ kind }) => kind)).toContain('deleteNode');
  });
});
