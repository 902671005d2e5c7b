// SPDX-License-Identifier: Apache-2.0
/** GET /healthz, /readyz and /metrics, or /metrics alone. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Name of a check → what is wrong; undefined if nothing is. */
export type Checks = Readonly<Record<string, () => string | undefined>>;

export interface ServerOptions {
  /** 0 takes any free port. */
  readonly port: number;
  readonly address?: string;
  /** Unset: only /metrics is served. */
  readonly checks?: {
    /** The process itself: when it says no it is started anew. */
    readonly healthy: Checks;
    readonly ready: Checks;
  };
  readonly metrics: () => Promise<string>;
}

export interface StatusServer {
  readonly port: number;
  close(): Promise<void>;
}

/** @throws Error if it cannot listen there */
export async function serveStatus(options: ServerOptions): Promise<StatusServer> {
  const server = createServer((request, response) => {
    answer(request.method ?? '', (request.url ?? '').split('?')[0] ?? '', response, options).catch(
      (error: unknown) => reply(response, 500, `${error instanceof Error ? error.message : error}\n`),
    );
  });
  await listen(server, options);
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function listen(server: Server, { port, address }: ServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function answer(
  method: string,
  path: string,
  response: ServerResponse,
  { checks, metrics }: ServerOptions,
): Promise<void> {
  if (method !== 'GET' && method !== 'HEAD') {
    reply(response, 405, 'only GET\n');
  } else if (path === '/healthz' && checks !== undefined) {
    replyChecks(response, checks.healthy);
  } else if (path === '/readyz' && checks !== undefined) {
    replyChecks(response, checks.ready);
  } else if (path === '/metrics') {
    reply(response, 200, await metrics(), 'text/plain; version=0.0.4; charset=utf-8');
  } else {
    reply(response, 404, `known ${checks === undefined ? 'is' : 'are /healthz, /readyz and'} /metrics\n`);
  }
}

function replyChecks(response: ServerResponse, checks: Checks): void {
  const results = Object.entries(checks).map(([name, check]) => ({ name, problem: check() }));
  const good = results.every(({ problem }) => problem === undefined);
  const lines = results.map(({ name, problem }) => `${name}: ${problem ?? 'ok'}\n`);
  reply(response, good ? 200 : 503, lines.join('') || 'ok\n');
}

function reply(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type }).end(body);
}
