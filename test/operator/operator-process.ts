// SPDX-License-Identifier: Apache-2.0
/** The operator as its own process, as in its pod: configured by environment variables, with a token of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from './api-server.ts';

const COMMAND = join(import.meta.dirname, '../../src/cli.ts');

export interface OperatorProcessOptions {
  /** Whose rights it has; the administrator's if left out. */
  readonly token?: string;
  readonly environment: Readonly<Record<string, string>>;
}

export class OperatorProcess {
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #ended: Promise<number | null>;
  #output = '';

  private constructor(child: ChildProcess, directory: string) {
    this.#child = child;
    this.#directory = directory;
    this.#ended = new Promise((resolve) => child.once('close', (code) => resolve(code)));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output += chunk.toString('utf8');
      });
    }
  }

  static async start({ token, environment }: OperatorProcessOptions): Promise<OperatorProcess> {
    const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-operator-'));
    const file = join(directory, 'kubeconfig');
    const { config } = connect(token);
    await writeFile(file, config.exportConfig(), { mode: 0o600 });
    const env = { PATH: process.env.PATH, KUBECONFIG: file, ...environment };
    const child = spawn(process.execPath, [COMMAND, 'operator'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    return new OperatorProcess(child, directory);
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

  /** Memory in use now, and at the most so far, in bytes. */
  async memory(): Promise<{ readonly now: number; readonly peak: number }> {
    const text = await readFile(`/proc/${this.#child.pid}/status`, 'utf8');
    const of = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
    return { now: of('VmRSS'), peak: of('VmHWM') };
  }

  async metrics(): Promise<string> {
    return await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
  }

  /** @returns its exit status */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    const status = await this.#ended;
    await rm(this.#directory, { recursive: true, force: true });
    return status;
  }
}
