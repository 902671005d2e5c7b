// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { objectLines } from '../../cluster/object-listing.ts';

const node = (spec: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n1', ...metadata },
  spec,
});
const pod = (name: string, namespace: string, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace, ...metadata },
});

it('has what somebody may leave behind at an object', () => {
  const metadata = { labels: { a: '1' }, annotations: { b: '2' }, finalizers: ['c'] };
  expect(objectLines([node({ taints: [{ key: 'd', effect: 'NoSchedule' }] }, metadata)])).toEqual([
    'v1 Node /n1',
    'v1 Node /n1 annotation b=2',
    'v1 Node /n1 finalizer c',
    'v1 Node /n1 label a=1',
    'v1 Node /n1 taint {"key":"d","effect":"NoSchedule"}',
  ]);
});

it('leaves out what changes by itself', () => {
  const ownerReferences = [{ kind: 'ReplicaSet' }];
  const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': '2026-01-01T00:00:00Z' };
  const objects = [
    pod('web-x', 'shop', { ownerReferences }),
    pod('client', 'shop', { annotations }),
    pod('ours', 'default', { ownerReferences }),
  ];
  expect(objectLines(objects)).toEqual(['v1 Pod default/ours', 'v1 Pod shop/client']);
});
