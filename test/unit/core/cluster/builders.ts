// SPDX-License-Identifier: Apache-2.0
/** Objects of a cluster, complete enough to plan with. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../../../../src/api/generated/resource-types.ts';
import { type NodeResourceStatus, POLICY_FINALIZER, type PolicySpec } from '../../../../src/api/resources.ts';
import type { ClusterFacts, ClusterNode, ClusterService } from '../../../../src/core/cluster-facts.ts';
import { FACT_FIELDS, keepFields } from '../../../../src/core/kept-fields.ts';
import type { KubeObject } from '../../../../src/core/kube-object.ts';
import type { RolloutNode } from '../../../../src/core/rollout.ts';

export const NOW = Date.parse('2026-01-01T00:00:00Z');
const API = 'ipvs-bpf.io/v1alpha1' as const;

export function policySpec(change: Partial<PolicySpec> = {}): PolicySpec {
  return {
    mode: 'Enabled',
    nodeSelector: {},
    services: { include: [{ namespace: 'a', name: 'web' }], exclude: [], filtering: 'Respect' },
    snat: { mode: 'External', clusterCIDRs: [] },
    ipvs: {},
    datapath: {
      interfaces: { autoDetect: 'Enabled', include: [], exclude: [] },
      sessionMapMaxEntries: 262144,
      onMapFull: 'Bypass',
    },
    module: { activation: 'Live', kernelMappings: [], imagePullSecrets: [], unsupportedKernel: 'Skip' },
    driftPolicy: 'Correct',
    rollout: {
      paused: false,
      maxUnavailable: 1,
      canary: { nodes: 1 },
      soakSeconds: 300,
      minReadySeconds: 60,
      stepTimeoutSeconds: 120,
      nodeTimeoutSeconds: 900,
    },
    failurePolicy: { maxFailedNodes: 0 },
    ...change,
  };
}

export function policy(
  name: string,
  change: Partial<PolicySpec> = {},
  metadata: Partial<IpvsBpfPolicy['metadata']> = {},
): IpvsBpfPolicy {
  return {
    apiVersion: API,
    kind: 'IpvsBpfPolicy',
    metadata: {
      name,
      uid: `uid-${name}`,
      generation: 1,
      creationTimestamp: '2025-01-01T00:00:00Z',
      finalizers: [POLICY_FINALIZER],
      ...metadata,
    },
    spec: policySpec(change),
  };
}

export function node(name: string, labels: Record<string, string> = {}): ClusterNode {
  return {
    metadata: { name, labels },
    spec: { podCIDRs: ['10.244.0.0/24'] },
    status: {
      conditions: [{ type: 'Ready', status: 'True' }],
      nodeInfo: { kernelVersion: '6.1.0-1-amd64' },
    },
  };
}

export function service(namespace: string, name: string, spec: ClusterService['spec'] = {}): ClusterService {
  return {
    metadata: { namespace, name },
    spec: {
      type: 'ClusterIP',
      clusterIP: '10.96.0.1',
      clusterIPs: [spec.clusterIP ?? '10.96.0.1'],
      ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
      selector: { app: name },
      ...spec,
    },
  };
}

export function facts(change: Partial<ClusterFacts> = {}): ClusterFacts {
  const nodes = change.nodes ?? [node('n1')];
  return {
    now: NOW,
    policies: [],
    nodes,
    nodeObjects: [],
    slices: [],
    namespaces: [{ metadata: { name: 'a' } }],
    services: [service('a', 'web')],
    endpointSlices: [],
    networkPolicies: [],
    deliveryPods: [],
    agents: Object.fromEntries(
      nodes.map(({ metadata }) => [metadata.name, { renewedAt: change.now ?? NOW, pod: true }]),
    ),
    ...change,
  };
}

/** The facts as the operator's stores have them, without the fields that these do not keep. */
export function keptFacts(all: ClusterFacts): ClusterFacts {
  const kept = Object.entries(FACT_FIELDS).map(([name, fields]) => {
    const objects = all[name as keyof typeof FACT_FIELDS] as unknown as readonly KubeObject[];
    return [name, objects.map((object) => keepFields(object, fields))] as const;
  });
  return { ...all, ...Object.fromEntries(kept) };
}

export function condition(type: string, status: 'True' | 'False', reason = 'Test') {
  return { type, status, reason, message: '', lastTransitionTime: '2025-12-31T00:00:00Z' };
}

export function nodeObject(
  name: string,
  spec: IpvsBpfNode['spec'],
  status: NodeResourceStatus = {},
): IpvsBpfNode {
  return {
    apiVersion: API,
    kind: 'IpvsBpfNode',
    metadata: { name, uid: `uid-${name}`, generation: 1 },
    spec,
    status: { observedGeneration: 1, ...status },
  };
}

/** A node whose turn in a rollout has not come. */
export function waitingNode(name: string, change: Partial<RolloutNode> = {}): RolloutNode {
  return {
    name,
    target: 'r1',
    applied: 'native',
    revert: false,
    preferredCanary: false,
    observed: true,
    preflight: 'Passed',
    readySince: undefined,
    waitsForBoot: false,
    busy: false,
    rebooted: false,
    mayStart: false,
    failed: false,
    stuck: false,
    agentReachable: true,
    agentSeenAt: NOW,
    nodeReady: true,
    grant: undefined,
    ...change,
  };
}
