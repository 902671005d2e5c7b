// SPDX-License-Identifier: Apache-2.0
/** A small application for demo and tests: Services web and other on two pods, and a pod that is their client. */
import { agnhostImage } from './versions.ts';

export const NAMESPACE = 'shop';
export const NODE_PORT = 30080;
/** Of Service other. */
export const OTHER_NODE_PORT = 30081;
export const POLICY = 'shop';
export const HTTP_PORT = 8080;

const labels = { app: 'web' };
const named = (name: string) => ({ name, namespace: NAMESPACE });

/** @param replicas pods behind the Services, on different nodes where possible */
export function shop(replicas = 2): readonly object[] {
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: named('web'),
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: webPod },
      },
    },
    service('web', { type: 'NodePort', nodePort: NODE_PORT }),
    service('other', { type: 'NodePort', nodePort: OTHER_NODE_PORT }),
    { apiVersion: 'v1', kind: 'Pod', metadata: named('client'), spec: pod('client', ['pause']) },
  ];
}

/** Without a request a pod gets next to nothing while agents or operators start on an emulated processor. */
const resources = { requests: { cpu: '250m' } };

const pod = (name: string, args: readonly string[]) => ({
  terminationGracePeriodSeconds: 1,
  containers: [{ name, image: agnhostImage, args, resources }],
});

const server = pod('web', ['netexec', `--http-port=${HTTP_PORT}`]);

const webPod = {
  ...server,
  containers: server.containers.map((container) => ({
    ...container,
    readinessProbe: { httpGet: { path: '/healthz', port: HTTP_PORT }, periodSeconds: 2, timeoutSeconds: 5 },
  })),
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: 'kubernetes.io/hostname',
      whenUnsatisfiable: 'DoNotSchedule',
      labelSelector: { matchLabels: labels },
    },
  ],
};

function service(
  name: string,
  { type = 'ClusterIP', nodePort }: { readonly type?: string; readonly nodePort?: number },
): object {
  const port = {
    name: 'http',
    port: 80,
    targetPort: HTTP_PORT,
    ...(nodePort === undefined ? {} : { nodePort }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: named(name),
    spec: { type, selector: labels, ipFamilyPolicy: 'PreferDualStack', ports: [port] },
  };
}

/** A policy for all nodes; emulated machines need no soaking. */
export function policy(include: readonly string[], spec: object = {}): object {
  return {
    apiVersion: 'ipvs-bpf.io/v1alpha1',
    kind: 'IpvsBpfPolicy',
    metadata: { name: POLICY },
    spec: {
      mode: 'Enabled',
      nodeSelector: {},
      rollout: { soakSeconds: 0, minReadySeconds: 0 },
      services: { include: include.map(named) },
      ...spec,
    },
  };
}
