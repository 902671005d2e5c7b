// SPDX-License-Identifier: Apache-2.0
/** A cluster with the chart installed, as its API server has it. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../../../src/api/generated/resource-types.ts';
import type { NodeResourceStatus, PolicySpec, PolicyStatus } from '../../../src/api/resources.ts';
import type { ClusterObjects } from '../../../src/core/cluster-summary.ts';
import type { KubeObject } from '../../../src/core/kube-object.ts';
import { condition, nodeObject, policy, policySpec } from '../core/cluster/builders.ts';

const NAMESPACE = 'ipvs-bpf';
const IMAGE = 'registry.example/ipvs-bpf:0.1.0';

export function operatorDeployment(change: object = {}): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      name: 'ipvs-bpf-operator',
      namespace: NAMESPACE,
      generation: 1,
      labels: { 'app.kubernetes.io/name': 'ipvs-bpf', 'app.kubernetes.io/component': 'operator' },
    },
    spec: { replicas: 2, template: { spec: { containers: [{ name: 'operator', image: IMAGE }] } } },
    status: { observedGeneration: 1, readyReplicas: 2, updatedReplicas: 2, ...change },
  };
}

export function agentDaemonSet(change: object = {}): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: {
      name: 'ipvs-bpf-agent',
      namespace: NAMESPACE,
      generation: 1,
      labels: { 'app.kubernetes.io/name': 'ipvs-bpf', 'app.kubernetes.io/component': 'agent' },
    },
    spec: {
      template: {
        spec: { containers: [{ name: 'agent', image: IMAGE }], imagePullSecrets: [{ name: 'registry' }] },
      },
    },
    status: {
      observedGeneration: 1,
      desiredNumberScheduled: 2,
      numberReady: 2,
      updatedNumberScheduled: 2,
      ...change,
    },
  };
}

export function agentPod(node: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `agent-${node}`,
      namespace: NAMESPACE,
      labels: { 'app.kubernetes.io/name': 'ipvs-bpf', 'app.kubernetes.io/component': 'agent' },
    },
    spec: { nodeName: node },
    status: { phase: 'Running' },
  };
}

/** A policy of which all nodes are ready. */
export function readyPolicy(
  name: string,
  change: PolicyStatus = {},
  spec: Partial<PolicySpec> = {},
): IpvsBpfPolicy {
  return {
    ...policy(name, spec),
    status: {
      observedGeneration: 1,
      nodes: { selected: 2, ready: 2, waiting: 0, failed: 0 },
      services: { selected: 3, accelerated: 2, rejected: 1 },
      conditions: [readyCondition('True', 'AllNodesReady', 'Accelerated: 2 Services on 2 nodes.')],
      ...change,
    },
  };
}

export function readyCondition(status: 'True' | 'False', reason: string, message: string) {
  return { ...condition('Ready', status, reason), message, observedGeneration: 1 };
}

export function readyNode(name: string, policyName: string, change: NodeResourceStatus = {}): IpvsBpfNode {
  const { snat, ipvs, datapath } = policySpec();
  return nodeObject(
    name,
    {
      policyRef: { name: policyName, uid: `uid-${policyName}` },
      action: 'Apply',
      mode: 'Enabled',
      revision: 'r1',
      attempt: 1,
      timeouts: { stepSeconds: 120, nodeSeconds: 900 },
      driftPolicy: 'Correct',
      snat,
      ipvs,
      datapath,
      module: { activation: 'Live' },
    },
    {
      agentVersion: '0.1.0',
      kernelRelease: '6.1.0-1-amd64',
      module: { origin: 'Patched', srcversion: 'ABC' },
      kubeProxy: { mode: 'ipvs', version: 'v1.34.2' },
      conditions: [condition('Ready', 'True', 'Accelerating'), condition('PreflightPassed', 'True')],
      ...change,
    },
  );
}

export function objects(change: Partial<ClusterObjects> = {}): ClusterObjects {
  return {
    operators: [operatorDeployment()],
    agents: [agentDaemonSet()],
    policies: [readyPolicy('shop')],
    nodes: [readyNode('n1', 'shop'), readyNode('n2', 'shop')],
    ...change,
  };
}

export { IMAGE, NAMESPACE };
