// SPDX-License-Identifier: Apache-2.0
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KubernetesClient, loadKubeConfig } from '../../src/adapters/kubernetes-client.ts';

/** More than the HTTP library keeps an idle connection if it is not told otherwise, as much as between two renewals of a Lease. */
const PAUSE_MS = 6_000;

describe('requests to the API server', () => {
  const client = new KubernetesClient(loadKubeConfig({ file: process.env.IPVS_BPF_TEST_KUBECONFIG }));
  let connections: number;
  const count = () => {
    connections += 1;
  };

  beforeEach(() => {
    connections = 0;
    subscribe('undici:client:connected', count);
  });

  afterEach(async () => {
    unsubscribe('undici:client:connected', count);
    await client.config.close();
  });

  it('share a connection, also when there are seconds between them', async () => {
    const version = () => client.request('GET', '/version', { action: 'read the version' });
    await version();
    await sleep(PAUSE_MS);
    await version();
    expect(connections).toBe(1);
  });
});
