// SPDX-License-Identifier: Apache-2.0
/**
 * traffic-client.ts URL...: requests to each URL until the standard input ends, for 20 minutes at most. Each goes on a
 * connection of its own, and one connection a URL stays open and is used once a second. Prints a report as JSON.
 */
import { Agent, type ClientRequest, get } from 'node:http';
import type { TargetReport } from './traffic.ts';

const INTERVAL_MS = 250;
const OPEN_INTERVAL_MS = 1000;
const REQUEST_LIMIT_MS = 20_000;
const LIFE_LIMIT_MS = 20 * 60_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function request(url: string, agent: Agent | false): Promise<void> {
  return new Promise((resolve, reject) => {
    const options = { agent, timeout: REQUEST_LIMIT_MS };
    const sent = get(url, options, (response) => {
      response.once('error', reject).once('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`status ${response.statusCode}`));
      });
      response.resume();
    });
    sent.once('error', reject);
    sent.once('timeout', () =>
      sent.destroy(new Error(`no answer in ${REQUEST_LIMIT_MS} ms, ${stateOf(sent)}`)),
    );
  });
}

/** What to look for in a capture. */
function stateOf({ socket }: ClientRequest): string {
  if (socket === null) return 'without a socket';
  return `${socket.connecting ? 'not connected' : 'connected'}, from port ${socket.localPort ?? 'unknown'}`;
}

class Target {
  readonly report: Mutable<TargetReport>;
  readonly #kept = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #pending = new Set<Promise<void>>();

  constructor(url: string) {
    this.report = { url, sent: 0, answered: 0, openSent: 0, openAnswered: 0, connections: 0, errors: [] };
    const create = this.#kept.createConnection.bind(this.#kept);
    this.#kept.createConnection = (...args: Parameters<typeof create>) => {
      this.report.connections += 1;
      return create(...args);
    };
  }

  once(): void {
    this.report.sent += 1;
    this.#track('new connection', request(this.report.url, false), () => {
      this.report.answered += 1;
    });
  }

  onOpen(): void {
    this.report.openSent += 1;
    this.#track('open connection', request(this.report.url, this.#kept), () => {
      this.report.openAnswered += 1;
    });
  }

  async end(): Promise<TargetReport> {
    await Promise.all(this.#pending);
    this.#kept.destroy();
    return this.report;
  }

  #track(what: string, work: Promise<void>, answered: () => void): void {
    const at = new Date().toISOString();
    const done = work.then(answered, (error: Error) => {
      this.report.errors = [...this.report.errors, `${at} ${what}: ${error.message}`];
    });
    this.#pending.add(done);
    void done.finally(() => this.#pending.delete(done));
  }
}

const targets = process.argv.slice(2).map((url) => new Target(url));
const timers = [
  setInterval(
    () =>
      targets.forEach((target) => {
        target.once();
      }),
    INTERVAL_MS,
  ),
  setInterval(
    () =>
      targets.forEach((target) => {
        target.onOpen();
      }),
    OPEN_INTERVAL_MS,
  ),
];
await new Promise<void>((resolve) => {
  setTimeout(resolve, LIFE_LIMIT_MS).unref();
  process.stdin.once('end', resolve).once('close', resolve).resume();
});
timers.forEach(clearInterval);
const reports = await Promise.all(targets.map((target) => target.end()));
process.stdout.write(`${JSON.stringify(reports)}\n`);
