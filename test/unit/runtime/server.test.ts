// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it } from 'vitest';
import { type ServerOptions, type StatusServer, serveStatus } from '../../../src/runtime/server.ts';

describe('serveStatus', () => {
  let server: StatusServer | undefined;

  afterEach(async () => {
    await server?.close();
  });

  async function ask(path: string, options: Pick<ServerOptions, 'checks'>): Promise<string> {
    server = await serveStatus({ port: 0, address: '127.0.0.1', metrics: async () => 'a 1\n', ...options });
    const answer = await fetch(`http://127.0.0.1:${server.port}${path}`);
    return `${answer.status} ${await answer.text()}`;
  }

  it('says for each check what is wrong', async () => {
    const checks = { healthy: {}, ready: { looks: () => 'not yet', metrics: () => undefined } };
    expect(await ask('/readyz', { checks })).toBe('503 looks: not yet\nmetrics: ok\n');
  });

  it('serves metrics alone where there are no checks', async () => {
    expect(await ask('/metrics', {})).toBe('200 a 1\n');
    await server?.close();
    expect(await ask('/healthz', {})).toBe('404 known is /metrics\n');
  });
});
