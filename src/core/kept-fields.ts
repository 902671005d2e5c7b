// SPDX-License-Identifier: Apache-2.0
/**
 * Which fields of Kubernetes' own objects the operator keeps: those of the types in cluster-facts.ts, which is all
 * that planning can read. The rest, most of a Node or a Pod, is forgotten as it arrives.
 */
import type { AgentLease, AgentPod, ClusterFacts } from './cluster-facts.ts';
import type { KubeObject } from './kube-object.ts';

/** `true`: the field with all that is in it. A tree: these fields of it; of a list, of each of its items. */
export type FieldTree = true | { readonly [field: string]: FieldTree };

/** The tree of a type's fields: the compiler refuses one that leaves a field out. */
export type FieldsOf<T> = T extends readonly (infer Item)[]
  ? FieldsOf<Item>
  : T extends object
    ? string extends keyof T
      ? true
      : { readonly [Field in keyof T]-?: FieldsOf<Exclude<T[Field], undefined>> }
    : true;

const CONTAINER_STATE = {
  waiting: { reason: true, message: true },
  terminated: { exitCode: true, reason: true, message: true, finishedAt: true },
} as const;
const CONTAINER_STATUS = { state: CONTAINER_STATE, lastState: CONTAINER_STATE } as const;

/** Those facts that are Kubernetes' own objects. */
type OwnFacts = Pick<
  ClusterFacts,
  'nodes' | 'namespaces' | 'services' | 'endpointSlices' | 'networkPolicies' | 'deliveryPods'
>;

export const FACT_FIELDS: { readonly [Name in keyof OwnFacts]: FieldsOf<OwnFacts[Name]> } = {
  nodes: {
    metadata: { name: true, labels: true },
    spec: { podCIDRs: true },
    status: { conditions: { type: true, status: true }, nodeInfo: { kernelVersion: true, bootID: true } },
  },
  namespaces: { metadata: { name: true, labels: true } },
  services: {
    metadata: { name: true, namespace: true, labels: true },
    spec: {
      type: true,
      clusterIP: true,
      clusterIPs: true,
      externalIPs: true,
      ports: { name: true, port: true, protocol: true, nodePort: true },
      selector: true,
      externalTrafficPolicy: true,
      loadBalancerSourceRanges: true,
    },
    status: { loadBalancer: { ingress: { ip: true, ipMode: true } } },
  },
  endpointSlices: {
    metadata: { name: true, namespace: true, labels: { 'kubernetes.io/service-name': true } },
    endpoints: { targetRef: { kind: true } },
  },
  networkPolicies: {
    metadata: { name: true, namespace: true },
    spec: {
      podSelector: { matchLabels: true, matchExpressions: { key: true, operator: true, values: true } },
      policyTypes: true,
      egress: true,
    },
  },
  deliveryPods: {
    metadata: { name: true, namespace: true, uid: true, deletionTimestamp: true },
    status: {
      phase: true,
      reason: true,
      message: true,
      startTime: true,
      containerStatuses: CONTAINER_STATUS,
      initContainerStatuses: CONTAINER_STATUS,
    },
  },
};

export const LEASE_FIELDS: FieldsOf<AgentLease> = {
  metadata: { name: true, uid: true, resourceVersion: true },
};

export const AGENT_POD_FIELDS: FieldsOf<AgentPod> = {
  metadata: { name: true, deletionTimestamp: true },
  spec: { nodeName: true },
};

/** By these a store finds an object and knows one version of it from another. */
const IDENTITY = { name: true, namespace: true, resourceVersion: true } as const;

/** The object with its identity, with these of its fields, and no others. */
export function keepFields(object: KubeObject, fields: FieldTree): KubeObject {
  if (fields === true) return object;
  const { apiVersion, kind } = object;
  const metadata = fields.metadata === true ? true : { ...fields.metadata, ...IDENTITY };
  return { apiVersion, kind, ...(select(object, { ...fields, metadata }) as Pick<KubeObject, 'metadata'>) };
}

function select(value: unknown, fields: FieldTree): unknown {
  if (fields === true || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return selectItems(value, fields);
  const kept: Record<string, unknown> = {};
  for (const [name, inner] of Object.entries(fields)) {
    const field = (value as Readonly<Record<string, unknown>>)[name];
    if (field !== undefined) kept[name] = select(field, inner);
  }
  return kept;
}

/** Items that have become the same are one object: of a hundred endpoints little more is left than that they are. */
function selectItems(items: readonly unknown[], fields: FieldTree): readonly unknown[] {
  const known = new Map<string, unknown>();
  return items.map((item) => {
    const kept = select(item, fields);
    const text = JSON.stringify(kept);
    if (!known.has(text)) known.set(text, kept);
    return known.get(text);
  });
}
