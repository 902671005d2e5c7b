// SPDX-License-Identifier: Apache-2.0
/** The parts of a sysdump, one after the other: each is read for itself, and what cannot be read is said. */
import { ClusterError } from '../core/cluster-error.ts';
import { nodesPreflight } from '../core/cluster-preflight.ts';
import { summarizeCluster } from '../core/cluster-summary.ts';
import { conditionOf } from '../core/conditions.ts';
import { selectorOf } from '../core/installation.ts';
import { type KubeObject, keyOf, type ResourceType } from '../core/kube-object.ts';
import { redactObject, redactText } from '../core/redact.ts';
import {
  DAEMON_SETS,
  DEPLOYMENTS,
  EVENTS,
  IPVS_BPF_NODES,
  LEASES,
  NODES,
  PODS,
  POLICIES,
  SERVICE_SLICES,
} from '../core/resource-types.ts';
import type { ClusterAccess } from './main.ts';
import { nodesText } from './preflight-text.ts';
import {
  type AgentPod,
  readAgentPods,
  readClusterObjects,
  readInstalled,
  readKubernetesNodes,
  readNodes,
  readWorkloads,
} from './read-cluster.ts';
import { clusterStatusText } from './status-text.ts';
import { NODE_FACTS } from './sysdump-node-facts.ts';
import { AGENT_CONTAINER } from './top.ts';

/** A file of the archive, or why it is not there. */
export type SysdumpPart =
  | { readonly path: string; readonly text: string }
  | { readonly path: string; readonly error: unknown };

export interface SysdumpScope {
  readonly namespace?: string;
  /** Logs and facts of these nodes; unset: of MAX_NODES nodes, those that are not ready first. */
  readonly node?: readonly string[];
  readonly logLines: number;
  readonly stop: AbortSignal;
}

const MAX_NODES = 20;
/** One command on a node. */
const EXEC_MS = 20_000;

export async function* sysdumpParts(access: ClusterAccess, scope: SysdumpScope): AsyncGenerator<SysdumpPart> {
  // Without an answer to this there is nothing to write.
  const { namespaces } = await whereInstalled(access, scope);
  yield* summaries(access, scope);
  for (const type of [POLICIES, IPVS_BPF_NODES, SERVICE_SLICES, NODES]) {
    yield* objects(`cluster/${type.plural}.json`, () => access.cluster.list(type));
  }
  for (const kind of [POLICIES.kind, IPVS_BPF_NODES.kind]) {
    const fieldSelector = `involvedObject.kind=${kind}`;
    yield* objects(`cluster/events-${kind}.json`, () => access.cluster.list(EVENTS, { fieldSelector }));
  }
  for (const namespace of namespaces) {
    for (const type of [DEPLOYMENTS, DAEMON_SETS, PODS, EVENTS, LEASES]) {
      yield* objects(`${namespace}/${type.plural}.json`, () => listOurs(access, type, namespace));
    }
    yield* operatorLogs(access, namespace, scope);
  }
  yield* nodeParts(access, scope);
}

async function whereInstalled({ cluster }: ClusterAccess, { namespace }: SysdumpScope) {
  const { operators, agents } = await readWorkloads(cluster, namespace);
  const found = [...operators, ...agents].map(({ metadata }) => metadata.namespace ?? '');
  return { namespaces: [...new Set(namespace === undefined ? found : [namespace])] };
}

/** Of pods, those of operator and agents: others in the namespace are not ours to show. */
async function listOurs(
  { cluster }: ClusterAccess,
  type: ResourceType,
  namespace: string,
): Promise<readonly KubeObject[]> {
  if (type === EVENTS || type === LEASES) return cluster.list(type, { namespace });
  const ours = (['operator', 'agent'] as const).map((component) =>
    cluster.list(type, { namespace, labelSelector: selectorOf(component) }),
  );
  return (await Promise.all(ours)).flat();
}

async function* summaries(
  { cluster }: ClusterAccess,
  { namespace }: SysdumpScope,
): AsyncGenerator<SysdumpPart> {
  yield await part('status.txt', async () => {
    const summary = summarizeCluster(await readClusterObjects(cluster, namespace), []);
    return clusterStatusText(summary, { ignoreWarnings: false });
  });
  yield await part('preflight.txt', async () => {
    const { policies, nodes: nodeObjects } = await readInstalled(cluster);
    return nodesText(nodesPreflight({ policies, nodeObjects, nodes: await readKubernetesNodes(cluster) }));
  });
}

async function* objects(
  path: string,
  list: () => Promise<readonly KubeObject[]>,
): AsyncGenerator<SysdumpPart> {
  yield await part(path, async () => `${JSON.stringify(redactObject(await list()), undefined, 1)}\n`);
}

async function* operatorLogs(
  access: ClusterAccess,
  namespace: string,
  scope: SysdumpScope,
): AsyncGenerator<SysdumpPart> {
  let pods: readonly KubeObject[];
  try {
    pods = await access.cluster.list(PODS, { namespace, labelSelector: selectorOf('operator') });
  } catch (error) {
    yield failed(`${namespace}/logs`, error);
    return;
  }
  for (const { metadata } of pods) yield* logs(access, { ...metadata, namespace }, scope);
}

/** The log that is written, and that of the container before it, if there was one. */
async function* logs(
  access: ClusterAccess,
  pod: Pick<AgentPod, 'name' | 'namespace'>,
  scope: SysdumpScope,
): AsyncGenerator<SysdumpPart> {
  const lines = scope.logLines;
  const path = `${pod.namespace}/logs/${pod.name}`;
  yield await part(`${path}.log`, () => access.pods.log(pod, { lines }));
  const before = await part(`${path}.previous.log`, () => access.pods.log(pod, { lines, previous: true }));
  // Most containers never ended: the API server answers 400 then.
  if ('text' in before || !(before.error instanceof ClusterError && before.error.status === 400))
    yield before;
}

async function* nodeParts(access: ClusterAccess, scope: SysdumpScope): AsyncGenerator<SysdumpPart> {
  let agents: readonly AgentPod[];
  try {
    agents = await chosenAgents(access, scope);
  } catch (error) {
    yield failed('nodes', error);
    return;
  }
  for (const agent of agents) {
    yield* logs(access, agent, scope);
    for (const { name, command } of NODE_FACTS) {
      const fact = await part(`nodes/${agent.node}/${name}`, () =>
        output(access, agent, command, scope.stop),
      );
      yield fact;
      // A node that cannot be reached is not asked again: each time would take as long.
      if ('error' in fact && fact.error instanceof ClusterError) break;
    }
  }
}

async function chosenAgents(
  { cluster }: ClusterAccess,
  { namespace, node: nodes = [] }: SysdumpScope,
): Promise<readonly AgentPod[]> {
  const agents = await readAgentPods(cluster, { namespace, nodes });
  if (nodes.length > 0) return agents;
  const ready = new Set(
    (await readNodes(cluster))
      .filter(({ status }) => conditionOf(status?.conditions, 'Ready')?.status === 'True')
      .map(({ metadata }) => metadata.name),
  );
  return agents.toSorted((a, b) => Number(ready.has(a.node)) - Number(ready.has(b.node))).slice(0, MAX_NODES);
}

/** What a command in the agent's pod prints, whatever its status is. */
async function output(
  { pods }: ClusterAccess,
  { name, namespace }: AgentPod,
  command: readonly string[],
  stop: AbortSignal,
): Promise<string> {
  let text = '';
  const { status, stderr } = await pods.exec(
    { name, namespace },
    {
      container: AGENT_CONTAINER,
      command,
      onOutput: (more) => {
        text += more;
      },
      signal: AbortSignal.any([stop, AbortSignal.timeout(EXEC_MS)]),
    },
  );
  if (status !== 0 && text === '') {
    throw new Error(
      `"${command.join(' ')}" on ${keyOf({ name, namespace })}: ${stderr.trim() || `status ${status}`}`,
    );
  }
  return `${text}${stderr}`;
}

/** Everything that goes into the archive goes through here. */
async function part(path: string, read: () => Promise<string>): Promise<SysdumpPart> {
  try {
    return { path, text: redactText(await read()) };
  } catch (error) {
    return failed(path, error);
  }
}

function failed(path: string, error: unknown): SysdumpPart {
  return { path, error };
}
