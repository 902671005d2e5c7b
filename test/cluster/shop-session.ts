// SPDX-License-Identifier: Apache-2.0
/** What demo and tests do with the application of shop.ts on a running cluster. */
import { type IpFamilies, ofFamilies } from './ip-families.ts';
import { nodeNamed } from './layout.ts';
import type { ClusterSession } from './session.ts';
import { HTTP_PORT, NAMESPACE, NODE_PORT, OTHER_NODE_PORT, POLICY, policy, shop } from './shop.ts';

const START_LIMIT_MS = 600_000;
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
  const families = await session.ipFamilies();
  for (const node of nodes) {
    let before = '';
    await session.until(`kube-proxy of ${node} with both pods`, START_LIMIT_MS, async () => {
      const table = await session.onNode(node, 'ipvsadm -Sn');
      const done = knowsTheShop(table, hostsOf(families, node)) && table === before;
      before = table;
      return done ? true : undefined;
    });
  }
}

/** A node's addresses, as URLs have them. */
function hostsOf(families: IpFamilies, node: string): readonly string[] {
  const { address, address6 } = nodeNamed(node);
  return ofFamilies(families, address, `[${address6}]`);
}

/** Whether a listing by `ipvsadm -Sn` has both pods wherever it has one: two ClusterIPs and two node ports a family. */
function knowsTheShop(table: string, hosts: readonly string[]): boolean {
  const pods = new Map<string, number>();
  for (const [, server = ''] of table.matchAll(new RegExp(`^-a -t (\\S+) -r \\S+:${HTTP_PORT} `, 'gm'))) {
    pods.set(server, (pods.get(server) ?? 0) + 1);
  }
  const complete = [...pods.values()].every((count) => count === 2);
  const clusterIPs = [...pods.keys()].filter((server) => server.endsWith(':80'));
  const nodePorts = hosts.flatMap((host) => [NODE_PORT, OTHER_NODE_PORT].map((port) => `${host}:${port}`));
  return complete && clusterIPs.length === nodePorts.length && nodePorts.every((server) => pods.has(server));
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

/** Has each kube-proxy write its table anew, as it does when a Service comes or goes, and else every five minutes. */
export async function syncKubeProxy(session: ClusterSession): Promise<void> {
  const metadata = { name: 'sync', namespace: NAMESPACE };
  const spec = { ipFamilyPolicy: 'PreferDualStack', ports: [{ port: 80 }] };
  await session.apply({ apiVersion: 'v1', kind: 'Service', metadata, spec });
  await session.kubectl(['delete', 'service', metadata.name, '-n', NAMESPACE]);
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

const PORTS = { first: 10_000, count: 20_000 };
const PORTS_A_SECOND = 20;
let portsUsed = Math.floor(Date.now() / 1000) * PORTS_A_SECOND;

/**
 * The first of so many local ports that no connection has had lately, of another test file either: else what
 * nf_conntrack still knows of the one before would count as an entry of the new one.
 */
function freshPorts(count: number): number {
  const first = PORTS.first + (portsUsed % PORTS.count);
  portsUsed += count;
  return first;
}

/** A request from each of so many fresh local ports: to all of these in turn, as curl's words for each. */
function inTurn(count: number, targets: readonly string[], curl: string): string {
  const first = freshPorts(count);
  const line = (_: unknown, i: number) =>
    `${curl} --local-port ${first + i} ${targets[i % targets.length]} || true`;
  return Array.from({ length: count }, line).join('\n');
}

/** Requests from outside through the node port of a node, each on its own connection, by all address families in turn. */
export async function requestsFromOutside(
  session: ClusterSession,
  {
    count,
    node,
    nodes,
    port = NODE_PORT,
  }: {
    readonly count: number;
    readonly node: string;
    readonly nodes: readonly string[];
    readonly port?: number;
  },
): Promise<Requests> {
  const hosts = hostsOf(await session.ipFamilies(), node);
  const urls = hosts.map((host) => `http://${host}:${port}/clientip`);
  const out = await session.onClient(
    inTurn(count, urls, "curl -gsf -m 10 -w ' %{time_total} %{local_port}\\n'"),
  );
  const lines = out.split('\n').flatMap((line) => {
    const [, client, seconds, local = ''] = /^(\S+):\d+ ([\d.]+) (\d+)$/.exec(line) ?? [];
    return client === undefined ? [] : [{ client, seconds: Number(seconds), local }];
  });
  const ports = new Set(lines.map(({ local }) => local));
  return {
    answered: lines.length,
    milliseconds: lines.map(({ seconds }) => seconds * 1000),
    tracked: await trackedEntries(session, { nodes, port, ports }),
    clients: new Set(lines.map(({ client }) => client)),
  };
}

export interface PodRequests {
  readonly answered: number;
  /** Entries of nf_conntrack on all nodes that their connections have. */
  readonly tracked: number;
}

/** Requests of the client pod through the cluster addresses of a Service, by all address families in turn. */
export async function requestsFromAPod(
  session: ClusterSession,
  {
    count,
    service = 'web',
    nodes,
  }: { readonly count: number; readonly service?: string; readonly nodes: readonly string[] },
): Promise<PodRequests> {
  const url = `http://${service}.${NAMESPACE}/`;
  const targets = ofFamilies(await session.ipFamilies(), `-4 ${url}`, `-6 ${url}`);
  const script = inTurn(count, targets, "curl -sf -m 10 -o /dev/null -w 'ok %{local_port}\\n'");
  const out = await session.kubectl(['exec', '-n', NAMESPACE, 'client', '--', 'sh', '-c', script]);
  const ports = new Set([...out.matchAll(/^ok (\d+)$/gm)].map(([, port = '']) => port));
  return { answered: ports.size, tracked: await trackedEntries(session, { nodes, port: 80, ports }) };
}

/** Entries of nf_conntrack on all nodes for this port, and whose first source port is one of these. */
async function trackedEntries(
  session: ClusterSession,
  {
    nodes,
    port,
    ports,
  }: { readonly nodes: readonly string[]; readonly port: number; readonly ports: ReadonlySet<string> },
): Promise<number> {
  let found = 0;
  for (const node of nodes) {
    const table = await session.onNode(node, `grep -F ' dport=${port} ' /proc/net/nf_conntrack || true`);
    found += table.split('\n').filter((line) => ports.has(/ sport=(\d+)/.exec(line)?.[1] ?? '')).length;
  }
  return found;
}
