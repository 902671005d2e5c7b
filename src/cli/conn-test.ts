// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf conn-test`: a short-lived pod on each node connects to the Services that run accelerated there. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IpvsBpfNode } from '../api/generated/resource-types.ts';
import { API_VERSION } from '../api/schema.ts';
import { ClusterError, isMissing } from '../core/cluster-error.ts';
import {
  CONN_TEST_SELECTOR,
  type ConnectionTarget,
  type ConnectionTestRow,
  connectionRows,
  connectionTargets,
  connectionTestPod,
  MAX_TARGETS,
  parseProbeLog,
} from '../core/connection-test.ts';
import { podTemplateOf } from '../core/installation.ts';
import type { KubeObject } from '../core/kube-object.ts';
import { PODS } from '../core/resource-types.ts';
import { connTestText } from './conn-test-text.ts';
import { type ClusterAccess, withCluster } from './main.ts';
import { type ClusterOptions, EXIT, type OutputFormat, UsageError } from './options.ts';
import { readInstalled, readSlices, readWorkloads } from './read-cluster.ts';
import { untilStopped } from './stop.ts';

export interface ConnTestOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly node?: readonly string[];
  readonly service?: readonly string[];
  readonly image?: string;
  readonly testNamespace?: string;
  /** Milliseconds */
  readonly timeout: number;
}

const LOOK_EVERY_MS = 1_000;
const NODES_AT_ONCE = 20;

interface Task {
  readonly node: IpvsBpfNode;
  readonly targets: readonly ConnectionTarget[];
  readonly pod: KubeObject;
}

export async function connTestCommand(options: ConnTestOptions): Promise<number> {
  return withCluster(options, async (access) => {
    const rows = await untilStopped((stop) => testConnections(access, options, stop));
    process.stdout.write(
      options.output === 'json'
        ? `${JSON.stringify({ apiVersion: API_VERSION, kind: 'ConnectionTest', connections: rows })}\n`
        : connTestText(rows),
    );
    const good = rows.length > 0 && rows.every(({ result }) => result === 'Answered');
    return good ? EXIT.ok : EXIT.failed;
  });
}

/** One row for each node and virtual address. Its pods are gone when it ends, however that is. */
export async function testConnections(
  access: ClusterAccess,
  options: ConnTestOptions,
  stop: AbortSignal,
): Promise<readonly ConnectionTestRow[]> {
  const tasks = await planTasks(access, options, randomBytes(4).toString('hex'));
  for (const { pod } of tasks.slice(0, 1)) await removeLeftovers(access, pod.metadata.namespace ?? '');
  return runAll(access, tasks, { options, stop });
}

async function planTasks(
  { cluster }: ClusterAccess,
  options: ConnTestOptions,
  run: string,
): Promise<readonly Task[]> {
  const { nodes } = await readInstalled(cluster);
  const slices = await readSlices(cluster);
  const [agents] = (await readWorkloads(cluster, options.namespace)).agents;
  if (agents === undefined) throw new UsageError('there is no DaemonSet of agents: no policy has nodes yet');
  const template = podTemplateOf(agents).spec;
  const image = options.image ?? template?.containers?.[0]?.image ?? '';
  const namespace = options.testNamespace ?? agents.metadata.namespace ?? 'default';
  const chosen = chosenNodes(nodes, options.node ?? []);
  return chosen.flatMap((node, index): Task[] => {
    const policy = node.spec.policyRef.name;
    const targets = connectionTargets(slices, { policy, services: options.service ?? [] });
    if (targets.length > MAX_TARGETS) {
      throw new UsageError(
        `${targets.length} virtual servers are too many at once: name some with --service`,
      );
    }
    const imagePullSecrets = template?.imagePullSecrets ?? [];
    const seconds = Math.ceil(options.timeout / 1000);
    const pod = { node: node.metadata.name, namespace, image, imagePullSecrets, targets, run, seconds };
    return targets.length === 0 ? [] : [{ node, targets, pod: connectionTestPod(pod, index) }];
  });
}

function chosenNodes(nodes: readonly IpvsBpfNode[], names: readonly string[]): readonly IpvsBpfNode[] {
  const known = new Set(nodes.map(({ metadata }) => metadata.name));
  for (const name of names) {
    if (!known.has(name)) throw new UsageError(`node ${name} has no IpvsBpfNode: no policy selects it`);
  }
  return nodes.filter(({ metadata }) => names.length === 0 || names.includes(metadata.name));
}

/** What a run left behind that was killed: its pods have ended by their deadline. */
async function removeLeftovers({ cluster }: ClusterAccess, namespace: string): Promise<void> {
  for (const { metadata, status } of await cluster.list(PODS, {
    namespace,
    labelSelector: CONN_TEST_SELECTOR,
  })) {
    const { phase, reason } = (status ?? {}) as PodStatus;
    if (phase === 'Failed' && reason === 'DeadlineExceeded') await cluster.delete(PODS, metadata);
  }
}

interface Running {
  readonly options: ConnTestOptions;
  readonly stop: AbortSignal;
}

async function runAll(
  access: ClusterAccess,
  tasks: readonly Task[],
  running: Running,
): Promise<readonly ConnectionTestRow[]> {
  const rows: ConnectionTestRow[][] = [];
  const waiting = tasks.entries();
  const worker = async (): Promise<void> => {
    for (const [index, task] of waiting) rows[index] = [...(await runOne(access, task, running))];
  };
  // All of them: each has a pod to remove.
  const ended = await Promise.allSettled(Array.from({ length: NODES_AT_ONCE }, worker));
  for (const worked of ended) if (worked.status === 'rejected') throw worked.reason;
  return rows.flat();
}

/** The pod is removed whatever becomes of it; what can go wrong with one node does not end the others. */
async function runOne(
  access: ClusterAccess,
  { node, targets, pod }: Task,
  running: Running,
): Promise<readonly ConnectionTestRow[]> {
  const { cluster } = access;
  try {
    running.stop.throwIfAborted();
    await cluster.create(PODS, pod);
    try {
      return connectionRows(node, targets, await outcomeOf(access, pod, running));
    } finally {
      await remove(cluster, pod);
    }
  } catch (error) {
    if (!(error instanceof ClusterError)) throw error;
    return connectionRows(node, targets, { problem: error.message });
  }
}

/** A pod that cannot be removed changes nothing of what it found; its deadline ends it. */
async function remove(cluster: ClusterAccess['cluster'], pod: KubeObject): Promise<void> {
  try {
    await cluster.delete(PODS, pod.metadata);
  } catch (error) {
    if (!(error instanceof ClusterError)) throw error;
    process.stderr.write(`${error.message}\n`);
  }
}

type Outcome = Parameters<typeof connectionRows>[2];

async function outcomeOf(
  { cluster, pods }: ClusterAccess,
  pod: KubeObject,
  { options, stop }: Running,
): Promise<Outcome> {
  const end = Date.now() + options.timeout;
  for (;;) {
    const found = await cluster.get(PODS, pod.metadata);
    if (found === undefined) return { problem: 'The pod was deleted by something else.' };
    const { phase, reason, message } = found.status as PodStatus;
    if (phase === 'Succeeded') {
      const probed = parseProbeLog(await pods.log(pod.metadata, { container: 'probe', lines: 10 }));
      return probed === undefined ? { problem: 'The log of the pod is not understood.' } : { probed };
    }
    if (phase === 'Failed') {
      return { problem: `The pod failed: ${message ?? reason ?? (await lastWords(pods, pod))}` };
    }
    if (Date.now() > end)
      return { problem: `The pod did not run in time: ${whyNot(found.status as PodStatus)}` };
    await sleep(LOOK_EVERY_MS, undefined, { signal: stop });
  }
}

interface PodStatus {
  readonly phase?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly conditions?: readonly { readonly status: string; readonly message?: string }[];
  readonly containerStatuses?: readonly {
    readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
  }[];
}

function whyNot({ conditions = [], containerStatuses = [], phase }: PodStatus): string {
  const waiting = containerStatuses[0]?.state?.waiting;
  const unmet = conditions.find(({ status, message }) => status !== 'True' && message !== undefined);
  return (
    [waiting?.reason, waiting?.message ?? unmet?.message].filter(Boolean).join(': ') || (phase ?? 'unknown')
  );
}

async function lastWords(pods: ClusterAccess['pods'], pod: KubeObject): Promise<string> {
  try {
    return (await pods.log(pod.metadata, { container: 'probe', lines: 3 })).trim();
  } catch (error) {
    if (isMissing(error)) return 'it has no log';
    throw error;
  }
}
