// SPDX-License-Identifier: Apache-2.0
/** What the operator keeps of Kubernetes' own objects: what planning reads, and little else. */
import { describe, expect, it } from 'vitest';
import type { IpvsBpfNode } from '../../../../src/api/generated/resource-types.ts';
import type { ClusterFacts } from '../../../../src/core/cluster-facts.ts';
import { FACT_FIELDS, type FieldTree, keepFields } from '../../../../src/core/kept-fields.ts';
import type { KubeObject } from '../../../../src/core/kube-object.ts';
import { planDeliveries } from '../../../../src/core/module-delivery.ts';
import { planCluster } from '../../../../src/core/policy-plan.ts';
import { facts, keptFacts, node, nodeObject, policy, policySpec } from './builders.ts';

/** As the API server sends it, but for what only this test needs to be short. */
const SERVICE: KubeObject = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: {
    name: 'web',
    namespace: 'a',
    uid: 'u1',
    resourceVersion: '12',
    creationTimestamp: '2026-01-01T00:00:00Z',
    labels: { app: 'web' },
    annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
  },
  spec: {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.1',
    clusterIPs: ['10.96.0.1'],
    externalIPs: ['192.0.2.1'],
    externalTrafficPolicy: 'Local',
    internalTrafficPolicy: 'Cluster',
    ipFamilies: ['IPv4'],
    ports: [
      { name: 'http', port: 80, protocol: 'TCP', targetPort: 8080, nodePort: 30080 },
      { name: 'https', port: 443, protocol: 'TCP', targetPort: 8443 },
    ],
    selector: { app: 'web' },
    sessionAffinity: 'None',
  },
  status: { loadBalancer: { ingress: [{ ip: '192.0.2.2', ipMode: 'VIP', ports: [] }] } },
};

describe('keepFields', () => {
  it('keeps the fields of the tree and what names the object and its version', () => {
    expect(keepFields(SERVICE, FACT_FIELDS.services)).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'a', resourceVersion: '12', labels: { app: 'web' } },
      spec: {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.1',
        clusterIPs: ['10.96.0.1'],
        externalIPs: ['192.0.2.1'],
        externalTrafficPolicy: 'Local',
        ports: [
          { name: 'http', port: 80, protocol: 'TCP', nodePort: 30080 },
          { name: 'https', port: 443, protocol: 'TCP' },
        ],
        selector: { app: 'web' },
      },
      status: { loadBalancer: { ingress: [{ ip: '192.0.2.2', ipMode: 'VIP' }] } },
    });
  });

  it('keeps what is empty or null as it is: it may say something else than what is missing', () => {
    const object = { ...SERVICE, spec: { ports: [], selector: {}, clusterIP: null }, status: undefined };
    expect(keepFields(object, FACT_FIELDS.services)).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'a', resourceVersion: '12', labels: { app: 'web' } },
      spec: { ports: [], selector: {}, clusterIP: null },
    });
  });

  it('keeps everything, or nothing but the name and version', () => {
    expect(keepFields(SERVICE, true)).toBe(SERVICE);
    expect(keepFields(SERVICE, {})).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'a', resourceVersion: '12' },
    });
  });

  it('leaves the object that it got as it is', () => {
    const before = structuredClone(SERVICE);
    keepFields(SERVICE, FACT_FIELDS.services);
    expect(SERVICE).toEqual(before);
  });

  it('makes items of a list that have become the same one object', () => {
    const endpoints = Array.from({ length: 100 }, (_, i) => ({
      addresses: [`10.244.0.${i}`],
      targetRef: { kind: 'Pod', name: `p${i}` },
    }));
    const { endpoints: kept } = keepFields({ ...SERVICE, endpoints }, FACT_FIELDS.endpointSlices);
    expect(kept).toHaveLength(100);
    expect(new Set(kept as readonly unknown[]).size).toBe(1);
  });
});

/** The same value; whoever reads a field that is not in the tree gets an error that names it. */
function guarded<T>(value: T, fields: FieldTree, path: string): T {
  if (fields === true || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => guarded(item, fields, path)) as T;
  return new Proxy(value, {
    get: (object, field) => {
      const inner = typeof field === 'string' ? fields[field] : true;
      if (inner === undefined) throw new Error(`${path}.${String(field)} is read and not kept`);
      return guarded(Reflect.get(object, field), inner, `${path}.${String(field)}`);
    },
  });
}

function guardedFacts(all: ClusterFacts): ClusterFacts {
  const objects = Object.entries(FACT_FIELDS).map(([name, fields]) => {
    const list = all[name as keyof typeof FACT_FIELDS] as readonly unknown[];
    return [name, list.map((object) => guarded(object, fields, name))];
  });
  return { ...all, ...Object.fromEntries(objects) };
}

/** A cluster with something in every list, and a policy that looks at all of it. */
function everything(): ClusterFacts {
  const container = { state: { waiting: { reason: 'ImagePullBackOff', message: 'no such image' } } };
  const module = {
    ...policySpec().module,
    kernelMappings: [{ literal: '6.1.0-1-amd64', image: 'modules:1' }],
  };
  const services = { selector: {}, include: [], exclude: [], filtering: 'Bypass' as const };
  const first = facts({
    policies: [policy('main', { services, module, snat: { mode: 'Always', clusterCIDRs: [] } })],
    nodes: [node('n1', { zone: 'a' }), node('n2')],
    services: [SERVICE as never],
    networkPolicies: [{ metadata: { name: 'deny', namespace: 'a' }, spec: { podSelector: {}, egress: [] } }],
    endpointSlices: [
      {
        metadata: { name: 'web-x', namespace: 'a', labels: { 'kubernetes.io/service-name': 'web' } },
        endpoints: [{ targetRef: { kind: 'Pod' } }],
      },
    ],
    deliveryPods: [
      {
        metadata: { name: 'ipvs-bpf-module-x', namespace: 'ipvs-bpf', uid: 'u2' },
        status: { phase: 'Pending', containerStatuses: [container], initContainerStatuses: [container] },
      },
    ],
  });
  const nodeObjects = planCluster(first).steps.flatMap((step): IpvsBpfNode[] =>
    step.kind === 'applyNode' ? [nodeObject(step.name, step.spec)] : [],
  );
  return { ...first, nodeObjects };
}

describe('what planning reads', () => {
  const read = (all: ClusterFacts) => [
    planCluster(all),
    planDeliveries(all.nodeObjects, all.policies, all.deliveryPods, all.now),
  ];

  it('is kept', () => {
    const all = everything();
    expect(all.nodeObjects).toHaveLength(2);
    expect(() => read(guardedFacts(all))).not.toThrow();
  });

  it('makes the same plan of what is kept as of everything', () => {
    const all = everything();
    const withoutVersions = (value: unknown) => JSON.parse(JSON.stringify(value));
    expect(withoutVersions(read(keptFacts(all)))).toEqual(withoutVersions(read(all)));
  });

  it('would be missed if it were not kept', () => {
    const fields = { ...FACT_FIELDS.services, spec: { type: true } } as const;
    const all = everything();
    const services = all.services.map((service) => guarded(service, fields, 'services'));
    expect(() => planCluster({ ...all, services })).toThrow('services.spec.clusterIP');
  });
});
