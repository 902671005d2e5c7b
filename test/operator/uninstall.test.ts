// SPDX-License-Identifier: Apache-2.0
/** The uninstall hook with the rights that the chart gives it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../scripts/exec.ts';
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import {
  CLUSTER_ROLE_BINDINGS,
  CLUSTER_ROLES,
  DEPLOYMENTS,
  IPVS_BPF_NODES,
  POLICIES,
  SERVICE_ACCOUNTS,
} from '../../src/core/resource-types.ts';
import { checkUninstall, UninstallRefused } from '../../src/operator/uninstall.ts';
import { RELEASE, type Rendered, render } from '../chart/helm.ts';
import { type Connection, connect, eventually, kubeconfigFile, NAMESPACE, tokenOf } from './api-server.ts';

const MANAGER = { manager: 'test', onConflict: 'TakeOver' } as const;
const NAME = 'uninstall-test';
const HOOK = { name: 'ipvs-bpf-uninstall', namespace: NAMESPACE };
const JOBS: ResourceType = { group: 'batch', version: 'v1', plural: 'jobs', kind: 'Job', namespaced: true };

const POLICY: KubeObject = {
  apiVersion: 'ipvs-bpf.io/v1alpha1',
  kind: 'IpvsBpfPolicy',
  metadata: { name: NAME },
  spec: {
    nodeSelector: { matchLabels: { role: NAME } },
    services: { include: [{ namespace: 'default', name: 'web' }] },
  },
} as KubeObject;

describe('the uninstall hook', () => {
  const admin = connect();
  const { cluster } = admin;
  const helm = process.env.IPVS_BPF_TEST_HELM ?? 'helm';

  async function withRightsOf(hook: 'Guard' | 'Revert'): Promise<Connection> {
    const types = new Map(
      [SERVICE_ACCOUNTS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS].map((type) => [type.kind, type]),
    );
    const objects = await render(helm, '--set', `uninstall.hook=${hook}`);
    for (const object of objects.filter(({ metadata }) => metadata.name === HOOK.name)) {
      const type = types.get(object.kind);
      if (type !== undefined) await cluster.apply(type, withoutHook(object), MANAGER);
    }
    const connection = connect(await tokenOf(admin, HOOK.name));
    // The API server's authorizer follows a moment later.
    await eventually(() => connection.cluster.list(POLICIES));
    if (hook === 'Revert') await eventually(() => connection.cluster.delete(POLICIES, { name: 'none' }));
    return connection;
  }

  const check = ({ cluster: asHook }: Connection, revert: boolean): Promise<void> =>
    checkUninstall({
      cluster: asHook,
      revert,
      timeoutMs: 20_000,
      now: () => performance.now(),
      sleep: async (milliseconds) => void (await sleep(milliseconds)),
      say: () => undefined,
    });

  beforeAll(async () => {
    for (const type of [POLICIES, IPVS_BPF_NODES]) {
      for (const object of await cluster.list(type)) {
        await cluster.setFinalizers(type, object, []);
        await cluster.delete(type, object.metadata);
      }
    }
  });

  afterAll(async () => {
    await admin.config.close();
  });

  afterEach(async () => {
    await cluster.delete(POLICIES, { name: NAME });
  });

  it('refuses while there is a policy, and may not take it away', async () => {
    const hook = await withRightsOf('Guard');
    await check(hook, false);
    await cluster.apply(POLICIES, POLICY, MANAGER);
    await expect(check(hook, false)).rejects.toThrow(UninstallRefused);
    await expect(hook.cluster.delete(POLICIES, { name: NAME })).rejects.toThrow(/403 Forbidden/);
    await hook.config.close();
  });

  it('takes policies away, and waits for the last', async () => {
    const hook = await withRightsOf('Revert');
    await cluster.apply(POLICIES, POLICY, MANAGER);
    await check(hook, true);
    expect(await cluster.get(POLICIES, { name: NAME })).toBeUndefined();
    await hook.config.close();
  });

  it('keeps the release where it does not end well', async () => {
    // No node of this API server runs its pod.
    const where = ['--kubeconfig', kubeconfigFile() ?? '', '--namespace', NAMESPACE];
    const uninstall = run(helm, ['uninstall', RELEASE, '--timeout', '5s', ...where]);
    await expect(uninstall).rejects.toThrow(/timed out waiting/);
    expect(await cluster.get(JOBS, HOOK)).toBeDefined();
    expect(await cluster.get(DEPLOYMENTS, { name: 'ipvs-bpf-operator', namespace: NAMESPACE })).toBeDefined();
    await cluster.delete(JOBS, HOOK);
    // helm has written down that it began; the release is there all the same, and goes on as the README says.
    await run(helm, ['rollback', RELEASE, '1', ...where]);
    expect(await run(helm, ['status', RELEASE, ...where])).toContain('STATUS: deployed');
  });
});

function withoutHook(object: Rendered): KubeObject {
  const { annotations: _, ...metadata } = object.metadata;
  return { ...object, metadata } as unknown as KubeObject;
}
