// SPDX-License-Identifier: Apache-2.0
/** What is asked of kube-proxy by HTTP, and what may answer instead of it. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { readHttp } from '../../../src/adapters/http-read.ts';
import { ProcKubeProxy } from '../../../src/adapters/kube-proxy.ts';

let server: Server | undefined;
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
  server = undefined;
});

async function serve(answer: RequestListener): Promise<number> {
  const made = createServer(answer);
  server = made;
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
  return (made.address() as AddressInfo).port;
}

async function versionOf(metrics: string): Promise<string | undefined> {
  const port = await serve(({ url }, answer) => {
    answer.statusCode = url === '/metrics' ? 200 : 404;
    answer.end(metrics);
  });
  return new ProcKubeProxy(port).version();
}

const series = (labels: string) =>
  `# HELP kubernetes_build_info [BETA]\nkubernetes_build_info{${labels}} 1\n`;

describe('the version of kube-proxy', () => {
  it.each([
    ['the release', `go_threads 12\n${series('compiler="gc",git_version="v1.34.4",major="1"')}`, 'v1.34.4'],
    ["a distributor's", series('git_version="v1.35.0-eks-3025e55"'), 'v1.35.0-eks-3025e55'],
    ['unknown without the series', 'go_info{version="go1.24.11"} 1\n', undefined],
    ['unknown without the label', series('go_version="go1.24.11"'), undefined],
    ['unknown if it is none', series('git_version="v0.0.0 <b>"'), undefined],
    ['unknown if it is too long for status', series(`git_version="v1.34.4-${'x'.repeat(64)}"`), undefined],
  ])('is %s', async (_, metrics, version) => {
    expect(await versionOf(metrics)).toBe(version);
  });

  it('is found behind a thousand other series', async () => {
    const others = 'kubeproxy_network_programming_duration_seconds_bucket{le="0.25"} 0\n'.repeat(1_000);
    expect(await versionOf(`${others}${series('git_version="v1.34.4"')}`)).toBe('v1.34.4');
  });

  it('is unknown behind more than 4 MiB', async () => {
    expect(await versionOf(`${'x'.repeat(5 << 20)}\n${series('git_version="v1.34.4"')}`)).toBeUndefined();
  });
});

describe('a question', () => {
  const limits = { path: '/', milliseconds: 300, bytes: 16 };

  it('is answered with the body', async () => {
    const port = await serve((_, answer) => answer.end('ipvs'));
    expect(await readHttp({ port, ...limits })).toBe('ipvs');
  });

  it.each<[string, RequestListener]>([
    ['by another status', (_, answer) => answer.writeHead(500).end('ipvs')],
    ['by too much', (_, answer) => answer.end('x'.repeat(17))],
    ['by something that never ends', (_, answer) => void setInterval(() => answer.write('.'), 50).unref()],
    [
      'by half of it',
      (_, answer) => answer.writeHead(200, { 'content-length': 9 }).write('ip', () => answer.destroy()),
    ],
    ['by nothing', () => {}],
  ])('is not answered %s', async (_, listener) => {
    const port = await serve(listener);
    const begun = Date.now();
    expect(await readHttp({ port, ...limits })).toBeUndefined();
    expect(Date.now() - begun).toBeLessThan(5_000);
  });

  it('is not answered where nobody listens', async () => {
    const port = await serve(() => {});
    await new Promise((resolve) => server?.close(resolve));
    server = undefined;
    expect(await readHttp({ port, ...limits })).toBeUndefined();
  });
});
