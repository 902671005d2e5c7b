// SPDX-License-Identifier: Apache-2.0
/** Boots the director, puts client and real server at both sides of it, and measures round by round. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { repository } from '../scripts/cache.ts';
import { say } from '../scripts/exec.ts';
import type { KernelSeries } from '../scripts/kernels.ts';
import { parseStat } from '../test/cluster/process-stat.ts';
import { lineSplitter } from '../test/vm/lines.ts';
import { runInVm, type VmResult } from '../test/vm/machine.ts';
import { Namespace, nginxArgs, type Tools } from './throughput-net.ts';
import {
  CASES,
  type Case,
  checkErrors,
  checkTracked,
  type Measurement,
  type PathName,
  parseIperf,
  parseWrk,
  type Requests,
} from './throughput-results.ts';

export interface RunPlan {
  readonly kernel: KernelSeries;
  readonly rounds: number;
  readonly seconds: number;
  readonly tools: Tools;
  readonly signal: AbortSignal;
}

const CONNECTIONS = 16;
const WARM_UP_SECONDS = 1;
/** Of Linux' times for programs. */
const MS_A_TICK = 10;

/** Addresses and ports of bench/throughput.sh, which has them from test/net/topology.sh and bench/paths.sh. */
const client = { address: '10.1.0.10/24', gateway: '10.1.0.1' };
const realServer = { address: '10.2.1.10/24', gateway: '10.2.1.1' };
const serverPorts = { requests: Array.from({ length: 16 }, (_, index) => 8080 + index), transfer: 5201 };
const frontends = {
  '': { address: '10.2.1.10', requests: 8080, transfer: 5201 },
  ClusterIP: { address: '10.9.0.1', requests: 80, transfer: 5201 },
  NodePort: { address: '10.1.0.1', requests: 30080, transfer: 30201 },
} as const;

/** The virtual machine: it does what it is asked, and answers with a line. */
class Director {
  readonly #stdin = new PassThrough();
  readonly #ended: Promise<VmResult>;
  #pid = Number.NaN;
  #answer: ((line: string) => void) | undefined;

  constructor({ kernel, signal }: RunPlan, taps: readonly string[], timeoutSeconds: number) {
    const lines = lineSplitter((line) => this.#answer?.(line));
    this.#ended = runInVm({
      kernel,
      script: join(repository, 'bench/throughput.sh'),
      cwd: repository,
      smp: 1,
      taps,
      stdin: this.#stdin,
      onStart: (pid) => {
        this.#pid = pid;
      },
      timeoutSeconds,
      signal,
      onStdout: lines.push,
      onStderr: (chunk) => process.stderr.write(chunk),
    });
  }

  /** @throws Error if the machine ends instead of answering */
  async ask(command: string): Promise<string> {
    const answer = this.answer();
    this.#stdin.write(`${command}\n`);
    return await answer;
  }

  /** The next line. */
  answer(): Promise<string> {
    const line = new Promise<string>((done) => {
      this.#answer = done;
    });
    const early = this.#ended.then((result): never => {
      throw new Error(`the director ended with status ${result.status}\n${problemsOf(result)}`);
    });
    return Promise.race([line, early]);
  }

  /** @throws Error if the script failed, or the kernel complained in its log */
  async end(): Promise<void> {
    this.#stdin.write('end\n');
    const result = await this.#ended;
    if (result.status !== 0) throw new Error(`the director: status ${result.status}\n${problemsOf(result)}`);
  }

  /** What its emulated processor has had of this machine's. */
  async processorMs(): Promise<number> {
    const tasks = `/proc/${this.#pid}/task`;
    for (const task of await readdir(tasks)) {
      if (!(await readFile(join(tasks, task, 'comm'), 'utf8')).endsWith('/TCG\n')) continue;
      return parseStat(await readFile(join(tasks, task, 'stat'), 'utf8')).used * MS_A_TICK;
    }
    throw new Error('QEMU has no thread of an emulated processor');
  }

  get ended(): Promise<VmResult> {
    return this.#ended;
  }
}

function problemsOf({ problems, kernelLog }: VmResult): string {
  return problems.length > 0 ? `${problems.join('\n')}\n${kernelLog}` : '';
}

class ThroughputRun {
  readonly #plan: RunPlan;
  readonly #director: Director;
  readonly #client: Namespace;
  readonly #server: Namespace;

  constructor(plan: RunPlan, director: Director, [client, server]: readonly [Namespace, Namespace]) {
    this.#plan = plan;
    this.#director = director;
    this.#client = client;
    this.#server = server;
  }

  async prepare(taps: readonly [string, string], directory: string): Promise<void> {
    const { nginx } = this.#plan.tools;
    await this.#server.serve(nginx, await nginxArgs(directory, serverPorts.requests), serverPorts.requests);
    await this.#server.serve('iperf3', ['-s', '-p', String(serverPorts.transfer)], [serverPorts.transfer]);
    await this.#director.answer();
    await this.#client.take(taps[0], client.address);
    await this.#server.take(taps[1], realServer.address);
    await this.#client.run('ip', ['route', 'add', 'default', 'via', client.gateway]);
    // One client stands for many: it has their ports. Behind a SNAT address its connections to two virtual servers meet
    // the same TIME_WAIT sockets of the real server, which take a new one only if its timestamp is newer.
    const sysctls = ['net.ipv4.ip_local_port_range=1024 65535', 'net.ipv4.tcp_timestamps=2'];
    await this.#client.run('sysctl', ['-qw', ...sysctls]);
  }

  async round(round: number): Promise<Measurement[]> {
    const measurements: Measurement[] = [];
    for (const path of new Set(CASES.map((each) => each.path))) {
      await this.#up(path);
      for (const each of CASES.filter((one) => one.path === path)) {
        measurements.push(await this.#measure(round, each));
      }
      await this.#down(path);
    }
    return measurements;
  }

  async #up(path: PathName): Promise<void> {
    await this.#director.ask(`up ${path}`);
    if (path === 'routed')
      await this.#server.run('ip', ['route', 'add', 'default', 'via', realServer.gateway]);
  }

  /** Without a route to the client only SNAT brings the real server's answers back. */
  async #down(path: PathName): Promise<void> {
    if (path === 'routed') await this.#server.run('ip', ['route', 'del', 'default']);
    await this.#director.ask(`down ${path}`);
  }

  async #measure(round: number, each: Case): Promise<Measurement> {
    const tracked = await this.#tracked();
    await this.#wrk(each, WARM_UP_SECONDS);
    const requests = await this.#whileBusy(() => this.#wrk(each, this.#plan.seconds));
    checkErrors(each, requests.value);
    checkTracked(each, requests.value, (await this.#tracked()) - tracked);
    const transfer = await this.#whileBusy(() => this.#iperf(each));
    return {
      round,
      case: each,
      requests: requests.value,
      mbitPerSecond: transfer.value,
      busy: { requests: requests.busy, transfer: transfer.busy },
    };
  }

  async #tracked(): Promise<number> {
    return Number(await this.#director.ask('tracked'));
  }

  /** With the share of the time that the director's processor ran. */
  async #whileBusy<T>(work: () => Promise<T>): Promise<{ readonly value: T; readonly busy: number }> {
    const clock = performance.now();
    const before = await this.#director.processorMs();
    const value = await work();
    return { value, busy: ((await this.#director.processorMs()) - before) / (performance.now() - clock) };
  }

  async #wrk({ frontend }: Case, seconds: number): Promise<Requests> {
    const { address, requests } = frontends[frontend];
    const args = ['--threads', '1', '--connections', String(CONNECTIONS), '--duration', `${seconds}s`];
    const header = ['--header', 'Connection: close'];
    return parseWrk(
      await this.#run('wrk', [...args, '--latency', ...header, `http://${address}:${requests}/`]),
    );
  }

  async #iperf({ frontend }: Case): Promise<number> {
    const { address, transfer } = frontends[frontend];
    const time = ['--time', String(this.#plan.seconds), '--omit', String(WARM_UP_SECONDS)];
    const args = [
      '--client',
      address,
      '--port',
      String(transfer),
      ...time,
      '--congestion',
      'cubic',
      '--json',
    ];
    return parseIperf(await this.#run('iperf3', args));
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    const { seconds, signal } = this.#plan;
    return this.#client.run(command, args, { signal, timeoutMs: (seconds + 30) * 1000 });
  }
}

/** Measures everything in each round; a round's measurements are told as soon as they are there. */
export async function measureRounds(
  plan: RunPlan,
  onRound: (measurements: readonly Measurement[]) => void,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-throughput-'));
  const stop = new AbortController();
  const stopping = { ...plan, signal: AbortSignal.any([plan.signal, stop.signal]) };
  const namespaces: Namespace[] = [];
  let director: Director | undefined;
  try {
    const ends = [await Namespace.make(), await Namespace.make()] as const;
    namespaces.push(...ends);
    const taps = [`thr${process.pid}c`, `thr${process.pid}s`] as const;
    director = new Director(stopping, taps, 120 + plan.rounds * (120 + plan.seconds * 15));
    const run = new ThroughputRun(plan, director, ends);
    await run.prepare(taps, directory);
    for (let round = 1; round <= plan.rounds; round += 1) {
      say(`round ${round} of ${plan.rounds}`);
      onRound(await run.round(round));
    }
    await director.end();
  } finally {
    stop.abort();
    await Promise.allSettled([director?.ended]);
    for (const namespace of namespaces) await namespace.end();
    await rm(directory, { recursive: true, force: true });
  }
}
