// SPDX-License-Identifier: Apache-2.0
/** Runs a command to its end: argument vector (never a shell), time limit, captured output. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { errnoOf, HostError } from '../core/errors.ts';

export interface ExecOptions {
  /** Default 30,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Written to its standard input, which is empty otherwise. */
  readonly input?: string;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that ended with another status than 0, or by a signal. */
export class CommandError extends HostError {
  readonly command: string;
  readonly status: number | undefined;
  readonly stderr: string;

  constructor(
    command: string,
    ended: { status: number | undefined; signal: string | undefined; stderr: string },
  ) {
    const how = ended.signal === undefined ? `status ${ended.status}` : `signal ${ended.signal}`;
    super(`${command}: ${ended.stderr.trim() || how}`, { code: 'CommandFailed' });
    this.command = command;
    this.status = ended.status;
    this.stderr = ended.stderr;
  }
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** A stuck command that ignores SIGTERM is killed this much later. */
const KILL_AFTER_MS = 2_000;

function environment(): NodeJS.ProcessEnv {
  const { PATH: path = '' } = process.env;
  return { ...process.env, LC_ALL: 'C', PATH: `${path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin` };
}

/**
 * Runs `command` with these arguments. Messages are in English whatever the locale.
 * Throws CommandError if it fails, and HostError with code CommandNotFound, CommandTimedOut or CommandAborted.
 */
export async function exec(
  command: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const line = [command, ...args].join(' ');
  if (options.signal?.aborted === true) {
    throw new HostError(`${line}: not started, aborted`, { code: 'CommandAborted' });
  }
  const child = spawn(command, [...args], { env: environment(), stdio: 'pipe' });
  const guard = new Guard(child, line, options);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  // A command that ends without reading its input closes the pipe: its status tells what matters.
  child.stdin.on('error', (error) => {
    if (errnoOf(error) !== 'EPIPE') {
      guard.stop(new HostError(`${line}: ${error.message}`, { code: 'SystemError', cause: error }));
    }
  });
  child.stdin.end(options.input ?? '');
  const [status, signal] = await ended(child, line).finally(() => guard.end());
  if (guard.reason !== undefined) throw guard.reason;
  if (status === 0) return { stdout: stdout(), stderr: stderr() };
  throw new CommandError(line, { status, signal, stderr: stderr() });
}

/** Stops a command that takes too long or is no longer wanted. */
class Guard {
  /** Why the command was stopped. */
  reason: HostError | undefined;
  readonly #child: ChildProcess;
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #killer: NodeJS.Timeout | undefined;

  constructor(child: ChildProcess, line: string, options: ExecOptions) {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const tooLong = new HostError(`${line}: no end after ${timeoutMs} ms`, {
      code: 'CommandTimedOut',
      retry: true,
    });
    this.#child = child;
    this.#timer = setTimeout(() => this.stop(tooLong), timeoutMs);
    this.#onAbort = () => this.stop(new HostError(`${line}: aborted`, { code: 'CommandAborted' }));
    this.#signal = options.signal;
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  stop(reason: HostError): void {
    this.reason ??= reason;
    this.#child.kill('SIGTERM');
    this.#killer ??= setTimeout(() => this.#child.kill('SIGKILL'), KILL_AFTER_MS);
  }

  end(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#killer);
    this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

function collect(stream: Readable): () => string {
  const parts: string[] = [];
  stream.setEncoding('utf8').on('data', (text: string) => parts.push(text));
  return () => parts.join('');
}

function ended(child: ChildProcess, line: string): Promise<[number | undefined, string | undefined]> {
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(startError(line, error)));
    child.on('close', (status, signal) => resolve([status ?? undefined, signal ?? undefined]));
  });
}

function startError(line: string, error: Error): HostError {
  const errno = errnoOf(error) ?? 'EIO';
  const code = errno === 'ENOENT' ? 'CommandNotFound' : 'SystemError';
  return new HostError(`${line}: ${error.message}`, { code, errno, cause: error });
}
