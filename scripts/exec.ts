// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Standard input of the command; none when left out. */
  readonly input?: string | Uint8Array;
  /** Ends the command by SIGKILL after so many milliseconds. */
  readonly timeoutMs?: number;
  /** Ends the command by SIGTERM. */
  readonly signal?: AbortSignal;
}

/**
 * Run a command and return what it printed on standard output.
 * @throws Error that holds the command and all it printed, when it fails or does not start.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: 'SIGKILL' }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const out: Buffer[] = [];
    const both: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => {
      out.push(chunk);
      both.push(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => both.push(chunk));
    child.on('error', (error) => {
      const what = options.signal?.aborted ? 'interrupted' : 'cannot run';
      reject(new Error(`${what} ${command}: ${error.message}`, { cause: error }));
    });
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(Buffer.concat(out).toString('utf8'));
      const words = [command, ...args].join(' ');
      reject(
        new Error(`${words}: ${signal ?? `exit status ${code}`}\n${Buffer.concat(both).toString('utf8')}`),
      );
    });
    // A command that ends before it has read all of its input closes the pipe: its exit status tells.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input);
  });
}

/** Run a command on this process's own input and outputs; returns its exit status. */
export function inherit(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: 'inherit' });
    child.on('error', (error) =>
      reject(new Error(`cannot run ${command}: ${error.message}`, { cause: error })),
    );
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** One line of progress, on standard error so that results on standard output stay alone there. */
export function say(text: string): void {
  process.stderr.write(`==> ${text}\n`);
}

/** Runs a script's work; an error is told without the stack, which VM_VERBOSE shows, and gives status 1. */
export async function main(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const text = error instanceof Error ? (process.env.VM_VERBOSE && error.stack) || error.message : error;
    process.stderr.write(`error: ${text}\n`);
    process.exitCode = 1;
  }
}
