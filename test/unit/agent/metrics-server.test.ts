// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, it } from 'vitest';
import { metricsServer } from '../../../src/agent/kubernetes-command.ts';
import type { StatusServer } from '../../../src/runtime/server.ts';

describe('the port for metrics of an agent', () => {
  const open: StatusServer[] = [];
  const errors: unknown[] = [];

  afterEach(async () => {
    for (const server of open.splice(0)) await server.close();
    errors.length = 0;
  });

  async function serve(port: number) {
    const config = { IPVS_BPF_METRICS_ADDRESS: '127.0.0.1', IPVS_BPF_METRICS_PORT: port };
    const log = { error: (message: string) => errors.push(message) };
    const answer = await metricsServer(config, { metrics: async () => 'a 1\n', log });
    open.push(...answer.outside);
    return answer;
  }

  /** One that nobody has at the moment. */
  async function freePort(): Promise<number> {
    const { createServer } = await import('node:net');
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    await new Promise((resolve) => server.close(resolve));
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  it('is not there for 0', async () => {
    expect(await serve(0)).toEqual({ outside: [] });
  });

  it('has metrics and nothing else', async () => {
    const { outside, problem } = await serve(await freePort());
    expect(problem).toBeUndefined();
    const at = `http://127.0.0.1:${outside[0]?.port}`;
    expect(await (await fetch(`${at}/metrics`)).text()).toBe('a 1\n');
    expect((await fetch(`${at}/healthz`)).status).toBe(404);
  });

  it('that is taken does not end the agent: it says which and why', async () => {
    const { outside } = await serve(await freePort());
    const taken = outside[0]?.port ?? 0;
    const { outside: none, problem } = await serve(taken);
    expect(none).toEqual([]);
    expect(problem).toMatch(new RegExp(`^cannot serve metrics at 127.0.0.1 port ${taken}: .*EADDRINUSE`));
    expect(errors).toEqual(['metrics are not served']);
  });
});
