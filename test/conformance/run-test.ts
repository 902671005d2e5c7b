// SPDX-License-Identifier: Apache-2.0
/** One test of the upstream suite in a process of its own, so that one that hangs does not take others along. */
import { spawn } from 'node:child_process';
import { open, readFile, rm } from 'node:fs/promises';
import { insideOf } from '../cluster/network.ts';
import { broken, type Outcome, outcomeOf, runIdIn } from './report.ts';
import { onlyTest } from './selection.ts';

/** What all tests have in common. */
export interface Suite {
  /** The upstream suite, of the cluster's version. */
  readonly program: string;
  readonly kubectl: string;
  /** The administrator's, as it works in `netns`. */
  readonly kubeconfig: string;
  /** Network namespace of a host outside of the cluster, from which the suite reaches API server and nodes. */
  readonly netns: string;
  /** After which a test is told to clean up and end. */
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
}

export interface TestRun {
  readonly outcome: Outcome;
  /** Undefined if the suite ended before it said it. */
  readonly runId: string | undefined;
}

/** Seconds for a test's own cleaning up, after which it is ended by force. */
const graceSeconds = 90;

/** @param base path without extension of the files that the run writes; its log stays there as `${base}.log` */
export async function runTest(suite: Suite, name: string, base: string): Promise<TestRun> {
  const report = `${base}.json`;
  const log = `${base}.log`;
  await rm(report, { force: true });
  const started = Date.now();
  try {
    const end = await runSuite(suite, suiteArgs(suite, name, report), log);
    const seconds = Math.round((Date.now() - started) / 1000);
    const text = await readFile(report, 'utf8').catch(() => undefined);
    const outcome =
      text === undefined ? broken(`${end} without a report, see ${log}`, seconds) : outcomeOf(text, name);
    return { outcome, runId: runIdIn(await readFile(log, 'utf8')) };
  } finally {
    await rm(report, { force: true });
  }
}

function suiteArgs(suite: Suite, name: string, report: string): string[] {
  return [
    `--kubeconfig=${suite.kubeconfig}`,
    `--kubectl-path=${suite.kubectl}`,
    '--provider=skeleton',
    '--dump-logs-on-failure=false',
    '--disable-log-dump=true',
    '--node-schedulable-timeout=2m',
    '--system-pods-startup-timeout=2m',
    `--ginkgo.focus=${onlyTest(name)}`,
    `--ginkgo.timeout=${suite.timeoutSeconds}s`,
    '--ginkgo.grace-period=30s',
    '--ginkgo.no-color',
    '--ginkgo.v',
    `--ginkgo.json-report=${report}`,
  ];
}

/**
 * Runs the suite with its output in a file; at the abort signal it is told to clean up.
 * @returns how it ended, in words
 */
async function runSuite(suite: Suite, args: readonly string[], log: string): Promise<string> {
  await using file = await open(log, 'w');
  // setpriv: when this process dies without a word, the suite is told to clean up all the same.
  const words = ['setpriv', '--pdeathsig', 'INT', suite.program, ...args];
  const [program, ...rest] = insideOf(suite.netns, words);
  return new Promise((resolve, reject) => {
    const child = spawn(program, rest, { stdio: ['ignore', file.fd, file.fd], detached: true });
    const kill = (signal: NodeJS.Signals) => {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
        process.kill(-child.pid, signal);
      }
    };
    const force = () => setTimeout(() => kill('SIGKILL'), graceSeconds * 1000);
    let forced: NodeJS.Timeout | undefined;
    const limit = setTimeout(() => kill('SIGKILL'), (suite.timeoutSeconds + graceSeconds) * 1000);
    const stop = () => {
      kill('SIGINT');
      forced ??= force();
    };
    suite.signal.addEventListener('abort', stop);
    child.once('error', (error) =>
      reject(new Error(`cannot run ${program}: ${error.message}`, { cause: error })),
    );
    child.once('spawn', () => {
      if (suite.signal.aborted) stop();
    });
    child.once('close', (code, signal) => {
      clearTimeout(limit);
      clearTimeout(forced);
      suite.signal.removeEventListener('abort', stop);
      resolve(signal === null ? `ended with status ${code}` : `ended by ${signal}`);
    });
  });
}
