// SPDX-License-Identifier: Apache-2.0
/** `conn-test-probe`: TCP connections to all targets, some at a time, and what became of each. */
import { connect } from 'node:net';
import type { ProbedTarget, ProbeResult } from '../core/connection-test.ts';
import { EXIT, UsageError } from './options.ts';

/** With time for one SYN that is lost: the kernel sends it again after a second. */
const CONNECT_MS = 3_000;
const AT_ONCE = 50;

/** Prints a JSON array; the status is 0 whatever became of the connections. */
export async function probeCommand(targets: readonly string[]): Promise<number> {
  process.stdout.write(`${JSON.stringify(await probeAll(targets.map(parseTarget)))}\n`);
  return EXIT.ok;
}

interface Target {
  readonly target: string;
  readonly host: string;
  readonly port: number;
}

function parseTarget(target: string): Target {
  const [, host, port] = /^\[?([0-9a-fA-F.:]+)\]?:(\d{1,5})$/.exec(target) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new UsageError(`"${target}" is no target: it must be ADDRESS:PORT`);
  }
  return { target, host, port: Number(port) };
}

async function probeAll(targets: readonly Target[]): Promise<readonly ProbedTarget[]> {
  const results: ProbedTarget[] = [];
  const waiting = targets.entries();
  const worker = async (): Promise<void> => {
    for (const [index, target] of waiting) results[index] = await probe(target);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

function probe({ target, host, port }: Target): Promise<ProbedTarget> {
  const begin = performance.now();
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (result: ProbeResult): void => {
      socket.destroy();
      resolve({ target, result, milliseconds: Math.round(performance.now() - begin) });
    };
    socket.setTimeout(CONNECT_MS, () => end('Timeout'));
    socket.on('connect', () => end('Answered'));
    socket.on('error', (error: NodeJS.ErrnoException) => end(resultOf(error.code)));
  });
}

function resultOf(code: string | undefined): ProbeResult {
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'Refused';
  return code === 'ETIMEDOUT' ? 'Timeout' : 'Unreachable';
}
