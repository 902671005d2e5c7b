// SPDX-License-Identifier: Apache-2.0
/** Runs a command to its end: argument vector (never a shell), time limit, captured output. */
import { spawn } from 'node:child_process';
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

  constructor(command: string, ended: { status: number | undefined; signal: string | undefined; stderr: string }) {
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
  const path = process.env['PATH'] ?? '';
  return { ...process.env, LC_ALL: 'C', PATH: `${path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin` };
}

/**
 * Runs `command` with these arguments. Messages are in English whatever the locale.
 * Throws CommandError if it fails, and HostError with code CommandNotFound, CommandTimedOut or CommandAborted.
 */
export function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const line = [command, ...args].join(' ');
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted === true) {
      reject(new HostError(`${line}: not started, aborted`, { code: 'CommandAborted' }));
      return;
    }
    const child = spawn(command, [...args], { env: environment(), stdio: 'pipe' });
    const output = { stdout: '', stderr: '' };
    let stopped: HostError | undefined;
    let killer: NodeJS.Timeout | undefined;
    const stop = (reason: HostError): void => {
      stopped ??= reason;
      child.kill('SIGTERM');
      killer ??= setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
    };
    const onAbort = (): void => stop(new HostError(`${line}: aborted`, { code: 'CommandAborted' }));
    const timer = setTimeout(
      () => stop(new HostError(`${line}: no end after ${timeoutMs} ms`, { code: 'CommandTimedOut', retry: true })),
      timeoutMs,
    );
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      clearTimeout(killer);
      options.signal?.removeEventListener('abort', onAbort);
      act();
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    child.stdout.setEncoding('utf8').on('data', (text: string) => void (output.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => void (output.stderr += text));
    // A command that ends without reading its input closes the pipe: its status tells what matters.
    child.stdin.on('error', (error) => {
      if (errnoOf(error) !== 'EPIPE') stop(new HostError(`${line}: ${error.message}`, { code: 'SystemError', cause: error }));
    });
    child.stdin.end(options.input ?? '');
    child.on('error', (error) => settle(() => reject(startError(line, error))));
    child.on('close', (status, signal) =>
      settle(() => {
        if (stopped !== undefined) reject(stopped);
        else if (status === 0) resolve(output);
        else {
          const ended = { status: status ?? undefined, signal: signal ?? undefined, stderr: output.stderr };
          reject(new CommandError(line, ended));
        }
      }),
    );
  });
}

function startError(line: string, error: Error): HostError {
  const errno = errnoOf(error) ?? 'EIO';
  const code = errno === 'ENOENT' ? 'CommandNotFound' : 'SystemError';
  return new HostError(`${line}: ${error.message}`, { code, errno, cause: error });
}
