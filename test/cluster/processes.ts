// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseStat } from './process-stat.ts';

/** A process that outlives the command that starts it. */
export interface Daemon {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env?: NodeJS.ProcessEnv;
}

export interface Place {
  /** Folder of the pid files. */
  readonly run: string;
  /** Folder of NAME.log. */
  readonly log: string;
}

/** Starts a daemon unless it runs; returns whether it was started. Its output goes to its log. */
export async function ensureRunning(daemon: Daemon, place: Place): Promise<boolean> {
  if ((await runningPid(daemon.name, place)) !== undefined) return false;
  await mkdir(place.run, { recursive: true });
  await mkdir(place.log, { recursive: true });
  const log = openSync(join(place.log, `${daemon.name}.log`), 'a');
  const [program, ...args] = daemon.command;
  try {
    const pid = await started(program, args, log, daemon.env);
    const file = pidFile(daemon.name, place);
    await writeFile(`${file}.new`, `${pid} ${startTime(pid)}\n`);
    await rename(`${file}.new`, file);
  } finally {
    closeSync(log);
  }
  return true;
}

function started(
  program: string,
  args: readonly string[],
  log: number,
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { detached: true, cwd: '/', env, stdio: ['ignore', log, log] });
    child.once('error', (error) =>
      reject(new Error(`cannot run ${program}: ${error.message}`, { cause: error })),
    );
    child.once('spawn', () => {
      child.unref();
      if (child.pid !== undefined) resolve(child.pid);
    });
  });
}

/** Its process id, if it is the very process that was started and is alive. */
export async function runningPid(name: string, place: Place): Promise<number | undefined> {
  const text = await readFile(pidFile(name, place), 'utf8').catch(() => '');
  const [pid, start] = text.trim().split(' ');
  if (pid === undefined || start === undefined || pid === '') return undefined;
  return startTime(Number(pid)) === start ? Number(pid) : undefined;
}

/** Names of all daemons that were started here and not stopped. */
export async function knownDaemons(place: Place): Promise<string[]> {
  const names = await readdir(place.run).catch(() => []);
  return names.flatMap((name) => /^(.+)\.pid$/.exec(name)?.[1] ?? []).sort();
}

/** Ends a daemon, by force after the grace time; nothing happens if it does not run. */
export async function stop(name: string, place: Place, graceMs = 3000): Promise<void> {
  const pid = await runningPid(name, place);
  if (pid !== undefined) await endProcesses([pid], graceMs);
  await rm(pidFile(name, place), { force: true });
}

/** SIGTERM to all, SIGKILL to those that are left after the grace time; returns when they are gone. */
export async function endProcesses(pids: readonly number[], graceMs: number): Promise<void> {
  const identities = pids.map((pid) => ({ pid, start: startTime(pid) }));
  const alive = () =>
    identities
      .filter(({ pid, start }) => start !== undefined && startTime(pid) === start)
      .map(({ pid }) => pid);
  for (const [signal, waitMs] of [
    ['SIGTERM', graceMs],
    ['SIGKILL', 10_000],
  ] as const) {
    for (const pid of alive()) signalProcess(pid, signal);
    const end = Date.now() + waitMs;
    while (alive().length > 0 && Date.now() < end) await new Promise((done) => setTimeout(done, 20));
  }
  if (alive().length > 0) throw new Error(`processes do not end: ${alive().join(', ')}`);
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // it ended by itself meanwhile
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Start time of a live process in clock ticks since boot, which together with the id names it for ever. */
function startTime(pid: number): string | undefined {
  try {
    const { state, start } = parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
    return state === 'Z' || state === 'X' ? undefined : start;
  } catch {
    return undefined;
  }
}

function pidFile(name: string, place: Place): string {
  return join(place.run, `${name}.pid`);
}

/** The last lines of a daemon's log, for an error message. */
export async function logTail(name: string, place: Place, lines = 20): Promise<string> {
  const text = await readFile(join(place.log, `${name}.log`), 'utf8').catch(() => '');
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}
