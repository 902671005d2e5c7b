// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf agent`: the agent of a node of a cluster, configured by the environment that its DaemonSet gives it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import manifest from '../../package.json' with { type: 'json' };
import { HostError, isNotFound } from '../core/errors.ts';
import { integer, oneOf, optionalText, readEnvironment, text } from '../runtime/env-config.ts';
import { LineLogger, LOG_FORMATS, LOG_LEVELS } from '../runtime/logger.ts';
import { type StatusServer, serveStatus } from '../runtime/server.ts';
import { every } from '../runtime/ticker.ts';
import { INTERVAL_MS, KubernetesAgent, type KubernetesOptions } from './kubernetes.ts';
import { messageOf } from './ladder.ts';
import type { Log } from './log.ts';
import { createCluster, createNode, type Pause, signalPause } from './main.ts';
import { NodeMeasures } from './measures.ts';
import type { Node } from './reconcile.ts';
import { RENEW_EVERY_MS, SignOfLife } from './sign-of-life.ts';
import { MANAGER } from './status-writer.ts';

/** A look that takes longer than this has got stuck. */
const STUCK_MS = 1_200_000;
const LOCK_PAUSE_MS = 2_000;

type AgentConfig = ReturnType<typeof readAgentConfig>;

/** Throws EnvironmentError with all problems at once. */
export function readAgentConfig(environment: Readonly<Record<string, string | undefined>>, root: string) {
  return readEnvironment(
    environment,
    {
      IPVS_BPF_NODE_NAME: text(),
      IPVS_BPF_NAMESPACE: text('ipvs-bpf'),
      IPVS_BPF_BUILD_DIR: text(`${root}/build`),
      IPVS_BPF_MODULE_DIR: optionalText(),
      IPVS_BPF_STATE_DIR: text('/var/lib/ipvs-bpf'),
      IPVS_BPF_SYSCTL_DIR: text('/proc/sys'),
      IPVS_BPF_HOST_ROOT: text('/'),
      IPVS_BPF_HTTP_PORT: integer({ min: 0, max: 65_535, fallback: 9841 }),
      IPVS_BPF_METRICS_ADDRESS: text('127.0.0.1'),
      IPVS_BPF_METRICS_PORT: integer({ min: 0, max: 65_535, fallback: 0 }),
      IPVS_BPF_API_SERVER: optionalText(),
      IPVS_BPF_LOG_LEVEL: oneOf(LOG_LEVELS, 'info'),
      IPVS_BPF_LOG_FORMAT: oneOf(LOG_FORMATS, 'json'),
    },
    { prefix: 'IPVS_BPF_', alsoKnown: ['IPVS_BPF_KILL_AT'] },
  );
}

/** Runs until SIGTERM or SIGINT; leaves the node as it is. Answers the exit status. */
export async function runAgent(
  environment: Readonly<Record<string, string | undefined>>,
  root: string,
): Promise<number> {
  const config = readAgentConfig(environment, root);
  const log = new LineLogger({ level: config.IPVS_BPF_LOG_LEVEL, format: config.IPVS_BPF_LOG_FORMAT });
  const node = createNode({
    stateDirectory: config.IPVS_BPF_STATE_DIR,
    buildDirectory: config.IPVS_BPF_BUILD_DIR,
    moduleDirectory: config.IPVS_BPF_MODULE_DIR ?? config.IPVS_BPF_BUILD_DIR,
    log,
  });
  const pause = signalPause();
  const unlock = await lock(node, pause);
  try {
    if (unlock !== undefined) await serve(config, node, pause);
  } finally {
    await unlock?.();
    await log.close();
  }
  return 0;
}

/** The agent before this one may still be about to end. Undefined: told to stop first. */
async function lock(node: Node, pause: Pause): Promise<(() => Promise<void>) | undefined> {
  for (;;) {
    try {
      return await node.ports.records.lock();
    } catch (error) {
      if (!(error instanceof HostError) || error.code !== 'Busy') throw error;
      node.log.info('waiting', { reason: error.message });
    }
    if ((await pause(LOCK_PAUSE_MS)) === 'stop') return undefined;
  }
}

async function serve(config: AgentConfig, node: ReturnType<typeof createNode>, pause: Pause): Promise<void> {
  const nodeName = config.IPVS_BPF_NODE_NAME;
  const { cluster, close } = await createCluster({
    component: MANAGER,
    instance: nodeName,
    host: config.IPVS_BPF_API_SERVER,
  });
  const { agent, measures } = measuredAgent(node, {
    cluster,
    nodeName,
    agentVersion: manifest.version,
    osImage: await osImage(config.IPVS_BPF_HOST_ROOT),
    memories: node.memories,
    now: Date.now,
    wake: pause.wake,
  });
  const life = new SignOfLife({
    cluster,
    namespace: config.IPVS_BPF_NAMESPACE,
    nodeName,
    manager: MANAGER,
    now: Date.now,
    log: node.log,
  });
  const servers = await startServers(config, { node, agent, measures });
  await agent.start();
  await life.renew();
  const stopRenewing = every(RENEW_EVERY_MS, () => void life.renew(), Math.random);
  node.log.info('started', { node: nodeName, port: servers[0]?.port, version: manifest.version });
  try {
    await lookAgainAndAgain(agent, { log: node.log, measures, pause });
  } finally {
    stopRenewing();
    agent.stop();
    for (const server of servers) await server.close();
    await close();
    node.log.info('ended');
  }
}

function measuredAgent(node: Node, options: KubernetesOptions) {
  const measures = new NodeMeasures({
    version: options.agentVersion,
    now: node.ports.clock.now,
    date: options.now,
    apiProblem: () => agent.problem,
  });
  const measured = { ...node, onStep: measures.stepped.bind(measures) };
  const agent: KubernetesAgent = new KubernetesAgent(measured, { ...options, measures });
  return { agent, measures };
}

async function lookAgainAndAgain(
  agent: KubernetesAgent,
  { log, measures, pause }: { readonly log: Log; readonly measures: NodeMeasures; readonly pause: Pause },
): Promise<void> {
  for (;;) {
    try {
      await agent.look();
      measures.looked('done');
    } catch (error) {
      measures.looked('failed');
      log.error('could not look after the node', { reason: messageOf(error) });
    }
    if ((await pause(INTERVAL_MS)) === 'stop') return;
  }
}

interface Served {
  readonly node: Node;
  readonly agent: KubernetesAgent;
  readonly measures: NodeMeasures;
}

/** On loopback for the kubelet, and if so wished the metrics where Prometheus reaches them. */
async function startServers(
  config: AgentConfig,
  { node, agent, measures }: Served,
): Promise<readonly StatusServer[]> {
  const begun = node.ports.clock.now();
  const stuck = (): string | undefined => {
    const since = node.ports.clock.now() - (agent.lookedAt ?? begun);
    return since > STUCK_MS ? `no look at the node for ${Math.round(since / 1000)} s` : undefined;
  };
  const metrics = () => measures.text();
  const { outside, problem } = await metricsServer(config, { metrics, log: node.log });
  const looks = () => (agent.lookedAt === undefined ? 'the node was not looked at yet' : stuck());
  const status = await serveStatus({
    port: config.IPVS_BPF_HTTP_PORT,
    address: '127.0.0.1',
    checks: { healthy: { looks: stuck }, ready: { looks, metrics: () => problem } },
    metrics,
  });
  return [status, ...outside];
}

/** The node needs its agent more than the agent its metrics: a port that is taken only makes it not ready. */
export async function metricsServer(
  {
    IPVS_BPF_METRICS_ADDRESS: address,
    IPVS_BPF_METRICS_PORT: port,
  }: Pick<AgentConfig, 'IPVS_BPF_METRICS_ADDRESS' | 'IPVS_BPF_METRICS_PORT'>,
  { metrics, log }: { readonly metrics: () => Promise<string>; readonly log: Pick<Log, 'error'> },
): Promise<{ readonly outside: readonly StatusServer[]; readonly problem?: string }> {
  if (port === 0) return { outside: [] };
  try {
    return { outside: [await serveStatus({ port, address, metrics })] };
  } catch (error) {
    const problem = `cannot serve metrics at ${address} port ${port}: ${messageOf(error)}`;
    log.error('metrics are not served', { reason: problem });
    return { outside: [], problem };
  }
}

/** PRETTY_NAME of the host's os-release. */
async function osImage(hostRoot: string): Promise<string> {
  try {
    const text = await readFile(join(hostRoot, 'etc/os-release'), 'utf8');
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? '';
  } catch (error) {
    if (isNotFound(error)) return '';
    throw error;
  }
}
