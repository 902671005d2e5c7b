// SPDX-License-Identifier: Apache-2.0
/** What several commands read of a cluster. */
import type { IpvsBpfNode, IpvsBpfPolicy, IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import type { Cluster } from '../cluster-ports.ts';
import { isMissing } from '../core/cluster-error.ts';
import type { ClusterNode } from '../core/cluster-facts.ts';
import type { ClusterObjects } from '../core/cluster-summary.ts';
import { selectorOf } from '../core/installation.ts';
import type { KubeObject } from '../core/kube-object.ts';
import {
  DAEMON_SETS,
  DEPLOYMENTS,
  IPVS_BPF_NODES,
  NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
} from '../core/resource-types.ts';
import { UsageError } from './options.ts';

/** Undefined if the API server has no such kind: the chart is not installed. */
export async function readPolicies(cluster: Cluster): Promise<readonly IpvsBpfPolicy[] | undefined> {
  try {
    return (await cluster.list(POLICIES)) as unknown as readonly IpvsBpfPolicy[];
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Policies and nodes for a command that has no use without them. Throws UsageError. */
export async function readInstalled(cluster: Cluster) {
  const policies = await readPolicies(cluster);
  if (policies === undefined) {
    throw new UsageError('the API server knows no IpvsBpfPolicy: the chart is not installed on this cluster');
  }
  return { policies, nodes: await readNodes(cluster) };
}

export async function readNodes(cluster: Cluster): Promise<readonly IpvsBpfNode[]> {
  return (await cluster.list(IPVS_BPF_NODES)) as unknown as readonly IpvsBpfNode[];
}

export async function readSlices(cluster: Cluster): Promise<readonly IpvsBpfServiceSlice[]> {
  return (await cluster.list(SERVICE_SLICES)) as unknown as readonly IpvsBpfServiceSlice[];
}

export async function readKubernetesNodes(cluster: Cluster): Promise<readonly ClusterNode[]> {
  return (await cluster.list(NODES)) as unknown as readonly ClusterNode[];
}

/** Deployment of the operator and DaemonSet of the agents. */
export async function readWorkloads(
  cluster: Cluster,
  namespace: string | undefined,
): Promise<Pick<ClusterObjects, 'operators' | 'agents'>> {
  const scope = namespace === undefined ? {} : { namespace };
  const [operators, agents] = await Promise.all([
    cluster.list(DEPLOYMENTS, { ...scope, labelSelector: selectorOf('operator') }),
    cluster.list(DAEMON_SETS, { ...scope, labelSelector: selectorOf('agent') }),
  ]);
  return { operators, agents };
}

export async function readClusterObjects(
  cluster: Cluster,
  namespace: string | undefined,
): Promise<ClusterObjects> {
  const policies = await readPolicies(cluster);
  const nodes = policies === undefined ? [] : await readNodes(cluster);
  return { policies, nodes, ...(await readWorkloads(cluster, namespace)) };
}

/** A pod of an agent, with the node that it is on. */
export interface AgentPod {
  readonly node: string;
  readonly name: string;
  readonly namespace: string;
}

/**
 * The agents that run, of these nodes or of all.
 * @throws UsageError for a node that has none
 */
export async function readAgentPods(
  cluster: Cluster,
  { namespace, nodes = [] }: { readonly namespace?: string | undefined; readonly nodes?: readonly string[] },
): Promise<readonly AgentPod[]> {
  const scope = namespace === undefined ? {} : { namespace };
  const found = await cluster.list(PODS, { ...scope, labelSelector: selectorOf('agent') });
  const running = found.filter(isRunning).map(
    (pod): AgentPod => ({
      node: nodeOf(pod),
      name: pod.metadata.name,
      namespace: pod.metadata.namespace ?? '',
    }),
  );
  for (const node of nodes) {
    if (!running.some((pod) => pod.node === node)) throw new UsageError(`no agent runs on node ${node}`);
  }
  return running.filter(({ node }) => nodes.length === 0 || nodes.includes(node));
}

function isRunning({ metadata, status }: KubeObject): boolean {
  const { phase } = (status ?? {}) as { readonly phase?: string };
  return phase === 'Running' && metadata.deletionTimestamp === undefined;
}

function nodeOf({ spec }: KubeObject): string {
  return (spec as { readonly nodeName?: string } | undefined)?.nodeName ?? '';
}
