// SPDX-License-Identifier: Apache-2.0
/**
 * Client and real server of the throughput benchmark: network namespaces of this machine. A namespace has no name: it
 * is there as long as the processes in it, and they end with this one, however that ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunOptions, run } from '../scripts/exec.ts';
import { installPackages, unpackedTree } from '../test/cluster/debian.ts';
import { waitFor } from '../test/cluster/wait.ts';

const READY_LIMIT_MS = 10_000;
const BODY = 'x'.repeat(256);

/** A process that ends with this one, even by SIGKILL. */
const bound = ['--pdeathsig', 'KILL', '--'];

export interface Tools {
  readonly nginx: string;
}

/** wrk, and nginx with what it links against: only unpacked, as its package starts a service. */
export async function installTools(): Promise<Tools> {
  await installPackages(['wrk', 'iperf3', 'libcrypt1', 'libpcre2-8-0', 'libssl3', 'zlib1g']);
  const nginx = join(await unpackedTree(['nginx']), 'usr/sbin/nginx');
  for (const program of [nginx, 'iperf3']) await run(program, ['-v']);
  return { nginx };
}

/** A network namespace and the processes that were started in it. */
export class Namespace {
  readonly #holder: Process;
  readonly #processes: Process[] = [];

  private constructor(holder: Process) {
    this.#holder = holder;
  }

  static async make(): Promise<Namespace> {
    const holder = new Process('setpriv', [
      ...bound,
      'unshare',
      '--net',
      '--',
      'sh',
      '-c',
      'echo; exec sleep infinity',
    ]);
    await holder.saidSomething();
    const made = new Namespace(holder);
    // No router solicitations of IPv6 beside what is measured.
    await made.run('sysctl', [
      '-qw',
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
    ]);
    await made.run('ip', ['link', 'set', 'lo', 'up']);
    return made;
  }

  /** Runs a command here and returns what it printed. */
  run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    return run('setpriv', this.#inside(command, args), options);
  }

  /** Moves a device of this machine here, as eth0. */
  async take(device: string, address: string): Promise<void> {
    await run('ip', ['link', 'set', device, 'netns', String(this.#holder.pid), 'name', 'eth0']);
    await this.run('ip', ['addr', 'add', address, 'dev', 'eth0']);
    await this.run('ip', ['link', 'set', 'eth0', 'up']);
  }

  /** Starts a server that listens on these TCP ports when this returns. */
  async serve(command: string, args: readonly string[], ports: readonly number[]): Promise<void> {
    const server = new Process('setpriv', this.#inside(command, args));
    this.#processes.push(server);
    const ask = ports.map((port) => `: </dev/tcp/127.0.0.1/${port}`).join(' && ');
    await waitFor(command, READY_LIMIT_MS, () => {
      server.check(command);
      return this.run('bash', ['-c', ask]).then(
        () => true,
        () => false,
      );
    });
  }

  async end(): Promise<void> {
    for (const process of [...this.#processes, this.#holder]) await process.end();
  }

  #inside(command: string, args: readonly string[]): string[] {
    return [...bound, 'nsenter', `--net=/proc/${this.#holder.pid}/ns/net`, '--', command, ...args];
  }
}

/** One that runs beside. */
class Process {
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #isClosed = false;
  #said = '';

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        // only the end of it is ever shown
        this.#said = `${this.#said}${chunk.toString('utf8')}`.slice(-2000);
      });
    }
    this.#child.on('error', (error) => {
      this.#said += error.message;
    });
    this.#closed = new Promise((done) => {
      this.#child.on('close', () => {
        this.#isClosed = true;
        done();
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? Number.NaN;
  }

  /** @throws Error with its last words if it has ended */
  check(name: string): void {
    if (this.#isClosed) throw new Error(`${name} ended: ${this.#said.trim()}`);
  }

  async saidSomething(): Promise<void> {
    await waitFor(
      'a network namespace',
      READY_LIMIT_MS,
      () => {
        this.check('unshare');
        return Promise.resolve(this.#said !== '');
      },
      10,
    );
  }

  async end(): Promise<void> {
    if (!this.#isClosed) this.#child.kill('SIGKILL');
    await this.#closed;
  }
}

/** Writes the configuration of an nginx that answers on these ports; returns its arguments. One process, to be ended by its id. */
export async function nginxArgs(directory: string, ports: readonly number[]): Promise<string[]> {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (each) => `${each}_temp_path ${each};`,
  );
  const config = `
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  ${paths.join(' ')}
  server {
    ${ports.map((port) => `listen ${port};`).join(' ')}
    location / { return 200 "${BODY}"; }
  }
}
`;
  await mkdir(directory, { recursive: true });
  const file = join(directory, 'nginx.conf');
  await writeFile(file, config);
  return ['-e', 'stderr', '-p', directory, '-c', file];
}
