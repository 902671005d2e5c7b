// SPDX-License-Identifier: Apache-2.0
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesCluster } from '../../../src/adapters/kubernetes.ts';
import { PooledKubeConfig } from '../../../src/adapters/kubernetes-client.ts';
import type { Watched } from '../../../src/cluster-ports.ts';
import { CONFIG_MAPS } from '../../../src/core/resource-types.ts';

type Answer = (response: ServerResponse, query: URLSearchParams) => void;

const item = (name: string, resourceVersion: string) => ({
  metadata: { name, namespace: 'x', resourceVersion, managedFields: [{}] },
});
const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;

describe('watch over a connection that fails', () => {
  let server: Server;
  let config: PooledKubeConfig;
  let cluster: KubernetesCluster;
  let watched: Watched | undefined;
  let onList: Answer;
  let onWatch: Answer;
  let lists: number;
  let names: string[];
  let connections: number;
  let watches: ServerResponse[];

  const list =
    (...items: readonly object[]): Answer =>
    (response) =>
      void response.end(JSON.stringify({ metadata: { resourceVersion: '10' }, items }));

  beforeEach(async () => {
    lists = 0;
    connections = 0;
    names = [];
    watches = [];
    onList = list(item('a', '1'));
    onWatch = (response) => void response.write('\n');
    server = createServer((request, response) => {
      const { searchParams } = new URL(request.url ?? '', 'http://x');
      if (searchParams.has('watch')) {
        watches.push(response);
        onWatch(response, searchParams);
      } else {
        lists += 1;
        onList(response, searchParams);
      }
    });
    server.on('connection', () => {
      connections += 1;
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    config = new PooledKubeConfig();
    const { port } = server.address() as AddressInfo;
    config.loadFromClusterAndUser(
      { name: 'c', server: `http://127.0.0.1:${port}`, skipTLSVerify: true } as never,
      { name: 'u' },
    );
    cluster = new KubernetesCluster({ config, component: 'test', instance: 'test' });
  });
  afterEach(async () => {
    watched?.stop();
    await config.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const start = (): Watched => {
    watched = cluster.watch(CONFIG_MAPS, {}, { onChange: ({ name }) => names.push(name) });
    return watched;
  };
  const stored = () => watched?.list().map(({ metadata }) => metadata.name);
  const wait = { timeout: 10_000, interval: 20 };

  it('reads a long list in pages, names kinds, and leaves owners of fields out', async () => {
    onList = (response, query) => {
      const second = query.get('continue') === 'next';
      const metadata = second ? { resourceVersion: '10' } : { resourceVersion: '10', continue: 'next' };
      response.end(JSON.stringify({ metadata, items: [second ? item('b', '2') : item('a', '1')] }));
    };
    await start().synced;
    expect(stored()).toEqual(['a', 'b']);
    expect(watched?.list()[0]).toMatchObject({ kind: 'ConfigMap', apiVersion: 'v1' });
    expect(watched?.list()[0]?.metadata).not.toHaveProperty('managedFields');
  });

  it('forgets the fields that are not asked for, and still hears of errors', async () => {
    onList = list({ ...item('a', '1'), data: { k: '1', other: '2' } });
    watched = cluster.watch(CONFIG_MAPS, { fields: { data: { k: true } } }, { onChange: () => undefined });
    await watched.synced;
    const metadata = (name: string, resourceVersion: string) => ({ name, namespace: 'x', resourceVersion });
    const kept = { apiVersion: 'v1', kind: 'ConfigMap', data: { k: '1' } };
    expect(watched.list()).toEqual([{ ...kept, metadata: metadata('a', '1') }]);
    await expect.poll(() => watches.length, wait).toBe(1);
    const added = { ...item('b', '11'), apiVersion: 'v1', kind: 'ConfigMap', data: { k: '1', other: '2' } };
    watches[0]?.write(event('ADDED', added));
    await expect.poll(stored, wait).toEqual(['a', 'b']);
    expect(watched.list()[1]).toEqual({ ...kept, metadata: metadata('b', '11') });
    watches[0]?.write(event('BOOKMARK', { metadata: { resourceVersion: '15' } }));
    watches[0]?.end();
    await expect.poll(() => watches.length, wait).toBe(2);
    onList = list(item('c', '20'));
    watches[1]?.end(event('ERROR', { code: 410, reason: 'Expired' }));
    await expect.poll(stored, wait).toEqual(['c']);
  });

  it('tries the first list again until it comes, and says why it does not', async () => {
    onList = (response) =>
      void response.writeHead(403).end(JSON.stringify({ reason: 'Forbidden', message: 'you may not' }));
    start();
    await expect.poll(() => watched?.problem, wait).toBe('list configmaps: 403 Forbidden: you may not');
    expect(watched?.hasSynced).toBe(false);
    onList = list(item('a', '1'));
    await watched?.synced;
    expect([stored(), watched?.problem]).toEqual([['a'], undefined]);
  });

  it('goes on where it was when the connection is cut', async () => {
    await start().synced;
    await expect.poll(() => watches.length, wait).toBe(1);
    onWatch = (response, query) => {
      if (query.get('resourceVersion') === '10') response.write(event('ADDED', item('b', '11')));
    };
    watches[0]?.destroy();
    await expect.poll(stored, wait).toEqual(['a', 'b']);
    expect([lists, watched?.problem]).toEqual([1, undefined]);
  });

  it('lists anew when its version is too old, and sees what was deleted meanwhile', async () => {
    await start().synced;
    await expect.poll(() => watches.length, wait).toBe(1);
    onList = list(item('c', '20'));
    watches[0]?.end(event('ERROR', { code: 410, reason: 'Expired' }));
    await expect.poll(stored, wait).toEqual(['c']);
    expect(names).toEqual(['a', 'a', 'c']);
  });

  it('recovers from a watch that is refused for a while', async () => {
    onWatch = (response) => void response.writeHead(503).end();
    start();
    await expect.poll(() => watched?.problem, wait).toContain('503');
    onWatch = (response) => void response.write(event('DELETED', item('a', '11')));
    await expect.poll(stored, wait).toEqual([]);
    expect(watched?.problem).toBeUndefined();
  });

  it('shares connections between requests', async () => {
    for (let count = 0; count < 20; count += 1) await cluster.list(CONFIG_MAPS);
    expect(connections).toBeLessThanOrEqual(2);
  });

  it('says that nobody answers', async () => {
    const gone = new PooledKubeConfig();
    gone.loadFromClusterAndUser({ name: 'c', server: 'http://127.0.0.1:9', skipTLSVerify: true } as never, {
      name: 'u',
    });
    const nobody = new KubernetesCluster({ config: gone, component: 'test', instance: 'test' });
    await expect(nobody.list(CONFIG_MAPS)).rejects.toMatchObject({ status: 0, reason: 'Unreachable' });
    await gone.close();
  });
});
