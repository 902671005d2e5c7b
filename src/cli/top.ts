// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf top`: what `ipvs-bpf node top` says in the pods of the agents, summed up. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ClusterError, isForbidden } from '../core/cluster-error.ts';
import { sumOfNodes, type TrafficRates } from '../core/traffic.ts';
import { trafficScreen } from '../core/traffic-text.ts';
import { type ClusterAccess, withCluster } from './main.ts';
import { type ClusterOptions, EXIT, type OutputFormat, UsageError } from './options.ts';
import { type AgentPod, readAgentPods } from './read-cluster.ts';
import { untilStopped } from './stop.ts';

export interface TopOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly node?: readonly string[];
  /** Seconds */
  readonly interval: number;
  readonly lines: number;
  readonly once?: true;
}

/** In the image; see Dockerfile. */
export const COMMAND_IN_IMAGE = '/opt/ipvs-bpf/dist/ipvs-bpf';
/** The container of an agent's pod. */
export const AGENT_CONTAINER = 'agent';
const MAX_NODES = 50;
/** Looks of one command in a pod. It ends then, also if we are gone without a word. */
const TIMES = 30;
const RETRY_MS = 2_000;
/** Beyond the time that the command takes for its looks: to reach the node, and to start there. */
const PATIENCE_MS = 30_000;

/** Node → its last rates; or why there are none. */
interface Seen {
  readonly rates: Map<string, TrafficRates>;
  readonly problems: Map<string, string>;
}

export async function topCommand(options: TopOptions): Promise<number> {
  return withCluster(options, (access) => showTraffic(access, options));
}

/** Answers the exit status. */
export async function showTraffic(access: ClusterAccess, options: TopOptions): Promise<number> {
  const { namespace, node: nodes = [] } = options;
  const agents = await readAgentPods(access.cluster, { namespace, nodes });
  if (agents.length === 0) throw new UsageError('no agent runs: no policy has nodes yet');
  if (agents.length > MAX_NODES) {
    throw new UsageError(`${agents.length} nodes are too many at once (${MAX_NODES}): name some with --node`);
  }
  return options.once === true ? showOnce(access, agents, options) : showLive(access, agents, options);
}

async function showOnce(
  { pods }: ClusterAccess,
  agents: readonly AgentPod[],
  options: TopOptions,
): Promise<number> {
  const seen: Seen = { rates: new Map(), problems: new Map() };
  await untilStopped((stop) =>
    Promise.all(agents.map((agent) => follow(pods, agent, { options, stop, times: 1, seen }))),
  );
  show(seen, options);
  return seen.problems.size === 0 ? EXIT.ok : EXIT.failed;
}

/** Until Ctrl-C. */
async function showLive(
  { pods }: ClusterAccess,
  agents: readonly AgentPod[],
  options: TopOptions,
): Promise<number> {
  const seen: Seen = { rates: new Map(), problems: new Map() };
  const followAll = async (stop: AbortSignal): Promise<void> => {
    const following = agents.map(async (agent) => {
      while (!stop.aborted) {
        await follow(pods, agent, { options, stop, times: TIMES, seen });
        if (seen.problems.has(agent.node)) await sleep(RETRY_MS, undefined, { signal: stop });
      }
    });
    const timer = setInterval(() => show(seen, options), options.interval * 1000);
    try {
      await Promise.all(following);
    } finally {
      clearInterval(timer);
    }
  };
  try {
    await untilStopped(followAll);
  } catch (error) {
    // To be stopped is how it ends.
    if (!(error instanceof Error && error.name === 'Stopped')) throw error;
  }
  return EXIT.ok;
}

interface Following {
  readonly options: TopOptions;
  readonly stop: AbortSignal;
  readonly times: number;
  readonly seen: Seen;
}

/** Reads the lines of one command in the pod. A right that is missing is missing for all: that is thrown. */
async function follow(
  pods: ClusterAccess['pods'],
  { node, name, namespace }: AgentPod,
  { options, stop, times, seen }: Following,
): Promise<void> {
  const { interval } = options;
  const command = [COMMAND_IN_IMAGE, 'node', 'top', '-o', 'json'];
  const lines = new Lines((line) => {
    seen.rates.set(node, JSON.parse(line) as TrafficRates);
    seen.problems.delete(node);
  });
  const fail = (problem: string): void => {
    seen.rates.delete(node);
    seen.problems.set(node, problem);
  };
  try {
    const { status, stderr } = await pods.exec(
      { name, namespace },
      {
        container: AGENT_CONTAINER,
        command: [...command, '--interval', String(interval), '--times', String(times)],
        onOutput: (text) => lines.add(text),
        signal: AbortSignal.any([stop, AbortSignal.timeout(times * interval * 1000 + PATIENCE_MS)]),
      },
    );
    if (status !== 0) fail(stderr.trim() || `ended with status ${status}`);
  } catch (error) {
    if (!(error instanceof ClusterError) || isForbidden(error)) throw error;
    if (!stop.aborted) fail(error.message);
  }
}

function show({ rates, problems }: Seen, { output, lines, once }: TopOptions): void {
  if (rates.size > 0) {
    const sum = sumOfNodes([...rates.values()]);
    process.stdout.write(
      output === 'json'
        ? `${JSON.stringify({ nodes: [...rates.keys()].sort(), ...sum })}\n`
        : trafficScreen(sum, { lines, once: once === true, terminal: process.stdout.isTTY }),
    );
  }
  for (const [node, problem] of problems) process.stderr.write(`${node}: ${problem}\n`);
}

/** Whole lines out of pieces. */
export class Lines {
  readonly #onLine: (line: string) => void;
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  add(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') this.#onLine(line);
  }
}
