// SPDX-License-Identifier: Apache-2.0
/** A cluster of its own with the operator of this checkout, for a demo or a test: what it says comes back as text. */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hashOf, repository } from '../../scripts/cache.ts';
import { run, say } from '../../scripts/exec.ts';
import type { KernelSeries } from '../../scripts/kernels.ts';
import { channelBinary } from './channel.ts';
import { down, runningSettings, up } from './cluster.ts';
import { place } from './control-plane.ts';
import { deploy, namespace } from './deploy.ts';
import { helmBinary, kubernetesBinary } from './go.ts';
import type { IpFamilies } from './ip-families.ts';
import { addresses, type Layout, layoutOf, nodeIdentities, nodeNamed, statePaths } from './layout.ts';
import { machineReport } from './machine-report.ts';
import { insideOf } from './network.ts';
import { machine, PROXY_MODE_FILE } from './nodes.ts';
import { ownImage } from './own-image.ts';
import { stop } from './processes.ts';

const COMMAND_LIMIT_MS = 120_000;

export interface SessionOptions {
  /** Tells it from other clusters of this checkout. */
  readonly name: string;
  readonly nodes: number;
  readonly kernel?: KernelSeries;
  readonly ipFamilies?: IpFamilies;
  /** Archives of images that the nodes have besides that of this checkout. */
  readonly images?: readonly string[];
  /** What has to be there, or to be looked at, before the chart is installed. */
  readonly beforeChart?: (session: ClusterSession) => Promise<void>;
}

export class ClusterSession {
  readonly #layout: Layout;

  private constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Starts the cluster and the operator; what of it runs already is used as it is. */
  static async start(options: SessionOptions): Promise<ClusterSession> {
    const { name, nodes, kernel, ipFamilies, images = [], beforeChart } = options;
    const layout = layoutOf(hashOf(repository), name);
    const session = new ClusterSession(layout);
    try {
      const image = await ownImage();
      const all = [image.archive, ...images];
      await up(layout, {
        nodes,
        images: all,
        ...(kernel === undefined ? {} : { kernel }),
        ...(ipFamilies === undefined ? {} : { ipFamilies }),
      });
      await beforeChart?.(session);
      await deploy(layout, image);
    } catch (error) {
      await session.down();
      throw error;
    }
    return session;
  }

  /** A session that runs already. */
  static attach(name: string): ClusterSession {
    return new ClusterSession(layoutOf(hashOf(repository), name));
  }

  /** For what talks to the API server itself. */
  get kubeconfig(): string {
    return statePaths(this.#layout.stateDir).kubeconfig;
  }

  get layout(): Layout {
    return this.#layout;
  }

  /** Of Services and pods. */
  async ipFamilies(): Promise<IpFamilies> {
    return (await runningSettings(this.#layout)).ipFamilies;
  }

  down(): Promise<void> {
    return down(this.#layout);
  }

  /** Ends a process of the control plane, as a crash would: `kube-apiserver`, `etcd` and so on. */
  stopDaemon(daemon: string): Promise<void> {
    return stop(daemon, place(this.#layout), 0);
  }

  /** Takes a node's power away. */
  powerOff(node: string): Promise<void> {
    return this.stopDaemon(machine(nodeNamed(node)));
  }

  /** Starts again what was stopped, and waits until the nodes are ready. */
  async restore(): Promise<void> {
    await up(this.#layout, { nodes: (await runningSettings(this.#layout)).nodes });
  }

  /** Takes a node's power away, and lets it boot another kernel. */
  async reboot(node: string, kernel: KernelSeries): Promise<void> {
    await this.powerOff(node);
    const { nodes } = await runningSettings(this.#layout);
    await up(this.#layout, { nodes, nodeKernels: { [node]: kernel } });
  }

  /** Adds nodes to the cluster, or takes the last ones away. */
  async scaleNodes(nodes: number): Promise<void> {
    await up(this.#layout, { nodes });
  }

  /** Path on this machine of what a node has as /var/lib/ipvs-bpf, over reboots. */
  nodeStateDir(node: string): string {
    return join(statePaths(this.#layout.stateDir).node(node), 'guest/kept');
  }

  /** Starts a node's kube-proxy anew in another mode. */
  async setProxyMode(node: string, mode: 'ipvs' | 'iptables'): Promise<void> {
    await writeFile(join(statePaths(this.#layout.stateDir).node(node), 'guest', PROXY_MODE_FILE), mode);
    await this.onNode(node, 'kill "$(pgrep -x kube-proxy)"');
  }

  /** @throws Error with all that kubectl said, if it fails */
  async kubectl(args: readonly string[], input?: string): Promise<string> {
    const { kubernetes } = await runningSettings(this.#layout);
    const program = await kubernetesBinary('kubectl', kubernetes);
    const options = { timeoutMs: COMMAND_LIMIT_MS, ...(input === undefined ? {} : { input }) };
    return run(program, ['--kubeconfig', this.kubeconfig, ...args], options);
  }

  /** @throws Error with all that helm said, if it fails */
  async helm(args: readonly string[], input?: string): Promise<string> {
    const where = ['--kubeconfig', this.kubeconfig, '--namespace', namespace];
    const options = { timeoutMs: COMMAND_LIMIT_MS, ...(input === undefined ? {} : { input }) };
    return run(await helmBinary(), [...args, ...where], options);
  }

  /**
   * Runs a bash script in this checkout as an administrator of the cluster has it on a computer: with kubectl, helm,
   * and the command line of this checkout in PATH.
   * @throws Error with all that it said, if a command of it fails
   */
  async onComputer(script: string, timeoutMs = COMMAND_LIMIT_MS): Promise<string> {
    const { kubernetes } = await runningSettings(this.#layout);
    const programs = [await kubernetesBinary('kubectl', kubernetes), await helmBinary()].map(dirname);
    const path = [...programs, join(repository, 'dist'), process.env.PATH].join(':');
    const env = { ...process.env, PATH: path, KUBECONFIG: this.kubeconfig };
    return run('bash', ['-euo', 'pipefail', '-c', script], { cwd: repository, env, timeoutMs });
  }

  async apply(...objects: readonly object[]): Promise<void> {
    const list = { apiVersion: 'v1', kind: 'List', items: objects };
    await this.kubectl(['apply', '-f', '-'], JSON.stringify(list));
  }

  /** Undefined if there is none. */
  async get<T>(kind: string, name: string, namespace = 'default'): Promise<T | undefined> {
    const words = ['get', kind, name, '-n', namespace, '--ignore-not-found', '-o', 'json'];
    const text = await this.kubectl(words);
    return text === '' ? undefined : (JSON.parse(text) as T);
  }

  async list<T>(kind: string, ...words: readonly string[]): Promise<readonly T[]> {
    const { items } = JSON.parse(await this.kubectl(['get', kind, '-o', 'json', ...words])) as {
      readonly items: readonly T[];
    };
    return items;
  }

  /** Runs a bash script on a node as root, in this checkout's folder. */
  async onNode(name: string, script: string): Promise<string> {
    const node = nodeNamed(name);
    const command = ['bash', '-c', `cd ${repository} && ${script}`];
    const channel = [await channelBinary(), 'run', node.address, String(addresses.commandPort), ...command];
    const [program, ...args] = insideOf(this.#layout.netns, channel);
    return run(program, args, { timeoutMs: COMMAND_LIMIT_MS });
  }

  /** Runs a bash script on the host outside of the cluster. */
  async onClient(script: string): Promise<string> {
    const [program, ...args] = insideOf(this.#layout.clientNetns, ['bash', '-c', script]);
    return run(program, args, { timeoutMs: COMMAND_LIMIT_MS });
  }

  /**
   * Asks until the answer is something. A question that fails is asked again: a busy API server refuses one at times.
   * @throws Error that says what was waited for, why the last question failed, and the state of all that is ours
   */
  async until<T>(what: string, limitMs: number, ask: () => Promise<T | undefined>): Promise<T> {
    const end = Date.now() + limitMs;
    for (;;) {
      let problem = '';
      const answer = await ask().catch((error: unknown) => {
        problem = `${error}\n`;
        return undefined;
      });
      if (answer !== undefined) return answer;
      if (Date.now() > end) {
        throw new Error(
          `${what}: not after ${Math.round(limitMs / 1000)} s\n${problem}${await this.state()}`,
        );
      }
      await new Promise((done) => setTimeout(done, 500));
    }
  }

  /** For the message of a failure. */
  async state(): Promise<string> {
    const ready = '{range .status.conditions[?(@.type=="Ready")]}{.status} {.reason}: {.message}{end}';
    const line = `{range .items[*]}{.metadata.name} {.spec.action}{.spec.mode} ${ready}{"\\n"}{end}`;
    const asked = [
      ['ipvsbpfpolicy,ipvsbpfnode', '-o', `jsonpath=${line}`],
      ['ipvsbpfpolicy,ipvsbpfnode,pods', '-A', '-o', 'wide'],
    ];
    const answers = asked.map((words) => this.kubectl(['get', ...words]).catch(String));
    return [
      ...(await Promise.all(answers)),
      ...(await this.#machines().catch((error: unknown) => [String(error)])),
    ].join('\n');
  }

  /** Of those that do not answer, what they are found doing. */
  async #machines(): Promise<readonly string[]> {
    const { nodes } = await runningSettings(this.#layout);
    const reports = nodeIdentities(nodes).map(async (node) => {
      const problem = await this.onNode(node.name, 'true').then(() => '', String);
      return problem === '' ? '' : `${problem}\n${await machineReport(this.#layout, node)}`;
    });
    return (await Promise.all(reports)).filter(Boolean);
  }
}

/** Takes a session down on every way out of the work, also on signals. */
export async function withSession(
  options: SessionOptions,
  work: (session: ClusterSession) => Promise<void>,
): Promise<void> {
  const session = await ClusterSession.start(options);
  const end = () => {
    say('taking the cluster down');
    void session.down().finally(() => process.exit(130));
  };
  process.once('SIGINT', end).once('SIGTERM', end);
  try {
    await work(session);
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end);
    await session.down();
  }
}
