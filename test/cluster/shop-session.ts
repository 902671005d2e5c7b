// SPDX-License-Identifier: Apache-2.0
/** What demo and tests do with the application of shop.ts on a running cluster. */
import { nodeNamed } from './layout.ts';
import type { ClusterSession } from './session.ts';
import { NAMESPACE, NODE_PORT, POLICY, policy, shop } from './shop.ts';

const START_LIMIT_MS = 240_000;
const ROLLOUT_LIMIT_MS = 600_000;
const AGENTS = 'app.kubernetes.io/component=agent';

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
}

/** As far as demo and tests read it. */
export interface Reported {
  readonly metadata: { readonly name: string; readonly generation?: number };
  readonly status?: { readonly conditions?: readonly Condition[] } & Readonly<Record<string, unknown>>;
}

/** "True Accelerating"; undefined while there is none for the newest generation. */
export function conditionOf(object: Reported | undefined, type: string): string | undefined {
  const found = object?.status?.conditions?.find((condition) => condition.type === type);
  const { generation } = object?.metadata ?? {};
  if (found === undefined || found.observedGeneration !== generation) return undefined;
  return `${found.status} ${found.reason}`;
}

/** Starts the application, and waits until its pods answer and every node's kube-proxy knows both. */
export async function startShop(session: ClusterSession, nodes: readonly string[]): Promise<void> {
  await session.apply(...shop());
  await session.until('the pods of the application', START_LIMIT_MS, async () => {
    const pods = await session.list<Reported>('pods', '-n', NAMESPACE);
    const ready = pods.filter((each) => conditionOf(withoutGeneration(each), 'Ready') === 'True undefined');
    return ready.length === 3 ? true : undefined;
  });
  for (const node of nodes) {
    await session.until(`kube-proxy of ${node} with both pods`, START_LIMIT_MS, async () => {
      const { address } = nodeNamed(node);
      const table = await session.onNode(node, `ipvsadm -Ln -t ${address}:${NODE_PORT} || true`);
      return table.split('\n').filter((line) => line.includes('->')).length === 3 ? true : undefined;
    });
  }
}

/** Pods say nothing of generations, and give no reason for what is right. */
function withoutGeneration({ metadata: { name }, status }: Reported): Reported {
  const conditions = (status?.conditions ?? []).map(({ type, status: is, reason, message }) => ({
    type,
    status: is,
    reason,
    message,
  }));
  return { metadata: { name }, status: { ...status, conditions } };
}

export function thePolicy(session: ClusterSession): Promise<Reported | undefined> {
  return session.get<Reported>('ipvsbpfpolicy', POLICY);
}

export function nodeResource(session: ClusterSession, node: string): Promise<Reported | undefined> {
  return session.get<Reported>('ipvsbpfnode', node);
}

/** Waits for a condition of the policy as it was edited last. */
export async function waitForPolicy(session: ClusterSession, type: string, wanted: string): Promise<void> {
  await session.until(`policy: ${type}=${wanted}`, ROLLOUT_LIMIT_MS, async () =>
    conditionOf(await thePolicy(session), type) === wanted ? true : undefined,
  );
}

export async function applyPolicy(
  session: ClusterSession,
  include: readonly string[],
  spec: object = {},
): Promise<void> {
  await session.apply(policy(include, spec));
}

/** Deletes the policy and waits until the last agent has gone. */
export async function deletePolicy(session: ClusterSession): Promise<void> {
  await session.kubectl(['delete', 'ipvsbpfpolicy', POLICY, '--wait=false', '--ignore-not-found']);
  await waitUntilGone(session);
}

export async function waitUntilGone(session: ClusterSession): Promise<void> {
  await session.until('the policy and its agents to go', ROLLOUT_LIMIT_MS, async () => {
    const objects = await session.list('ipvsbpfpolicy,ipvsbpfnode,ipvsbpfserviceslice');
    const pods = await session.list('pods', '-A', '-l', AGENTS);
    return objects.length + pods.length === 0 ? true : undefined;
  });
}

/** Everything of a node that a policy may change, as text. */
export function nodeListing(session: ClusterSession, node: string): Promise<string> {
  return session.onNode(node, '. bench/listing.sh && listing');
}

export interface Requests {
  /** Answered ones. */
  readonly answered: number;
  readonly milliseconds: readonly number[];
  /** Entries of nf_conntrack on all nodes that the connections of these requests have. */
  readonly tracked: number;
  /** Addresses that the pods saw. */
  readonly clients: ReadonlySet<string>;
}

/** Requests from outside through the node port of a node, each on its own connection. */
export async function requestsFromOutside(
  session: ClusterSession,
  {
    count,
    node,
    nodes,
  }: { readonly count: number; readonly node: string; readonly nodes: readonly string[] },
): Promise<Requests> {
  const url = `http://${nodeNamed(node).address}:${NODE_PORT}/clientip`;
  const out = await session.onClient(
    `for i in $(seq ${count}); do curl -sf -m 10 -w ' %{time_total} %{local_port}\\n' ${url} || true; done`,
  );
  const lines = out.split('\n').flatMap((line) => {
    const [, client, seconds, port] = /^(\S+):\d+ ([\d.]+) (\d+)$/.exec(line) ?? [];
    return client === undefined ? [] : [{ client, seconds: Number(seconds), port: port ?? '' }];
  });
  const ports = new Set(lines.map(({ port }) => port));
  let tracked = 0;
  for (const each of nodes) {
    const table = await session.onNode(each, `grep dport=${NODE_PORT} /proc/net/nf_conntrack || true`);
    tracked += table.split('\n').filter((line) => ports.has(/ sport=(\d+)/.exec(line)?.[1] ?? '')).length;
  }
  return {
    answered: lines.length,
    milliseconds: lines.map(({ seconds }) => seconds * 1000),
    tracked,
    clients: new Set(lines.map(({ client }) => client)),
  };
}

/** Requests of the client pod through a cluster address; the number of answered ones. */
export async function requestsFromAPod(session: ClusterSession, count: number): Promise<number> {
  const script = `for i in $(seq ${count}); do curl -sf -m 10 -o /dev/null -w 'ok\\n' http://web.${NAMESPACE}/ || true; done`;
  const out = await session.kubectl(['exec', '-n', NAMESPACE, 'client', '--', 'sh', '-c', script]);
  return out.split('\n').filter((line) => line === 'ok').length;
}
