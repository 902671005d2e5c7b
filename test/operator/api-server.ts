// SPDX-License-Identifier: Apache-2.0
/** The real API server that the operator's tests run on: IPVS_BPF_TEST_KUBECONFIG names its kubeconfig. */
import { setTimeout as sleep } from 'node:timers/promises';
import { KubernetesCluster } from '../../src/adapters/kubernetes.ts';
import {
  KubernetesClient,
  loadKubeConfig,
  type PooledKubeConfig,
} from '../../src/adapters/kubernetes-client.ts';
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import { IPVS_BPF_NODES, NODES, PODS, POLICIES, SERVICE_SLICES } from '../../src/core/resource-types.ts';

export const kubeconfigFile = (): string | undefined => process.env.IPVS_BPF_TEST_KUBECONFIG;
/** Of the chart's release. */
export const NAMESPACE = 'ipvs-bpf-system';

export const DEFINITIONS: ResourceType = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
};

export interface Connection {
  readonly cluster: KubernetesCluster;
  readonly config: PooledKubeConfig;
}

/** @param token whose rights it has; the administrator's if left out */
export function connect(token?: string): Connection {
  const config = loadKubeConfig({ file: kubeconfigFile() });
  if (token !== undefined) config.users = config.users.map(({ name }) => ({ name, token }));
  return { config, cluster: new KubernetesCluster({ config, component: 'test', instance: 'test' }) };
}

/** Waits until the kinds of this product are served. */
export async function waitForDefinitions(cluster: KubernetesCluster): Promise<void> {
  for (const type of [POLICIES, IPVS_BPF_NODES, SERVICE_SLICES]) {
    await eventually(() => cluster.list(type));
  }
}

/** The first answer that comes without an error. */
export async function eventually<T>(ask: () => Promise<T>, timeoutMs = 30_000): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(100);
    }
  }
}

/** A token as a pod gets one: of a ServiceAccount, and if so wished of a pod, whose node it then names. */
export async function tokenOf(admin: Connection, account: string, pod?: KubeObject): Promise<string> {
  const bound =
    pod === undefined
      ? {}
      : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod.metadata.name, uid: pod.metadata.uid } };
  const answer = (await new KubernetesClient(admin.config).request(
    'POST',
    `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${account}/token`,
    {
      action: `make a token of ${account}`,
      body: {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 3600, ...bound },
      },
    },
  )) as { readonly status: { readonly token: string } };
  return answer.status.token;
}

/** A Node that is Ready, without a machine behind it. */
export async function makeNode(
  { cluster }: Connection,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name, labels } };
  await cluster.apply(NODES, { ...node, spec: { unschedulable: true } }, MANAGER);
  const time = new Date().toISOString();
  const ready = {
    type: 'Ready',
    status: 'True',
    reason: 'Test',
    lastHeartbeatTime: time,
    lastTransitionTime: time,
  };
  await cluster.applyStatus(NODES, { ...node, status: { conditions: [ready] } }, MANAGER);
}

const MANAGER = { manager: 'test', onConflict: 'TakeOver' } as const;

/** The pod of an agent as the API server knows it: no kubelet runs it. */
export function makeAgentPod({ cluster }: Connection, node: string): Promise<KubeObject> {
  return cluster.apply(
    PODS,
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `test-agent-${node}`, namespace: NAMESPACE },
      spec: {
        serviceAccountName: 'ipvs-bpf-agent',
        nodeName: node,
        tolerations: [{ operator: 'Exists' }],
        containers: [{ name: 'agent', image: 'localhost/none' }],
      },
    },
    MANAGER,
  );
}
