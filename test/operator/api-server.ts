// SPDX-License-Identifier: Apache-2.0
/** The real API server that the operator's tests run on, if IPVS_BPF_TEST_KUBECONFIG names its kubeconfig. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { KubernetesCluster } from '../../src/adapters/kubernetes.ts';
import { loadKubeConfig, type PooledKubeConfig } from '../../src/adapters/kubernetes-client.ts';
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import { IPVS_BPF_NODES, POLICIES, SERVICE_SLICES } from '../../src/core/resource-types.ts';

export const KUBECONFIG = process.env.IPVS_BPF_TEST_KUBECONFIG;

const DEFINITIONS: ResourceType = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
};

export function connect(host?: string): {
  readonly cluster: KubernetesCluster;
  readonly config: PooledKubeConfig;
} {
  const config = loadKubeConfig({ file: KUBECONFIG, host });
  return { config, cluster: new KubernetesCluster({ config, component: 'test', instance: 'test' }) };
}

/** Installs the definitions of this checkout and waits until they are served. */
export async function installDefinitions(cluster: KubernetesCluster): Promise<void> {
  const directory = join(import.meta.dirname, '../../crds');
  for (const file of await readdir(directory)) {
    const definition = parse(await readFile(join(directory, file), 'utf8')) as KubeObject;
    await cluster.apply(DEFINITIONS, definition, { manager: 'test', onConflict: 'TakeOver' });
  }
  for (const type of [POLICIES, IPVS_BPF_NODES, SERVICE_SLICES]) await served(cluster, type);
}

async function served(cluster: KubernetesCluster, type: ResourceType): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      await cluster.list(type);
      return;
    } catch (error) {
      if (tries > 100) throw error;
      await sleep(100);
    }
  }
}
