// SPDX-License-Identifier: Apache-2.0
/** The operator as its own process, as in its pod: configured by environment variables, with a token of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from './api-server.ts';

/** The sources, without a build. */
const SOURCES = [process.execPath, join(import.meta.dirname, '../../src/cli.ts')] as const;

export interface OperatorProcessOptions {
  /** Whose rights it has; the administrator's if left out. */
  readonly token?: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Program and first arguments of "ipvs-bpf"; default: the sources. */
  readonly command?: readonly [program: string, ...args: string[]];
}

/** Bytes of memory. */
export interface ProcessMemory {
  /** Resident now: VmRSS. */
  readonly now: number;
  /** Of that, what no file has: RssAnon. The rest is the program's own file, which processes share. */
  readonly anonymous: number;
  /** Resident at the most so far: VmHWM. */
  readonly peak: number;
}

export class OperatorProcess {
  /** performance.now() at its start. */
  readonly startedAt: number;
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #ended: Promise<number | null>;
  #output = '';

  private constructor(child: ChildProcess, directory: string, startedAt: number) {
    this.startedAt = startedAt;
    this.#child = child;
    this.#directory = directory;
    this.#ended = new Promise((resolve) => child.once('close', (code) => resolve(code)));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output += chunk.toString('utf8');
      });
    }
  }

  static async start({
    token,
    environment,
    command = SOURCES,
  }: OperatorProcessOptions): Promise<OperatorProcess> {
    const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-operator-'));
    const file = join(directory, 'kubeconfig');
    const { config } = connect(token);
    await writeFile(file, config.exportConfig(), { mode: 0o600 });
    const env = { PATH: process.env.PATH, KUBECONFIG: file, ...environment };
    const [program, ...args] = command;
    const startedAt = performance.now();
    const child = spawn(program, [...args, 'operator'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    return new OperatorProcess(child, directory, startedAt);
  }

  /** Everything that it has logged. */
  get output(): string {
    return this.#output;
  }

  /** Log lines of this level, as they were written. */
  lines(level: 'warn' | 'error'): readonly string[] {
    return this.#output.split('\n').filter((line) => line.includes(`"level":"${level}"`));
  }

  /** Its port, once it has said it. */
  get port(): number | undefined {
    const found = /"port":(\d+)/.exec(this.#output)?.[1];
    return found === undefined ? undefined : Number(found);
  }

  async memory(): Promise<ProcessMemory> {
    const text = await readFile(`/proc/${this.#child.pid}/status`, 'utf8');
    const of = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
    return { now: of('VmRSS'), anonymous: of('RssAnon'), peak: of('VmHWM') };
  }

  async metrics(): Promise<string> {
    return await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
  }

  /** What /readyz answers; undefined while nobody answers. */
  async readiness(): Promise<number | undefined> {
    if (this.port === undefined) return undefined;
    return (await fetch(`http://127.0.0.1:${this.port}/readyz`)).status;
  }

  /** @returns its exit status */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    const status = await this.#ended;
    await rm(this.#directory, { recursive: true, force: true });
    return status;
  }
}
