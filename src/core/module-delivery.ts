// SPDX-License-Identifier: Apache-2.0
/**
 * How a module gets from an image to a node: by a pod of its own on that node, which may write one directory there
 * and has no other right. The agent then checks the files by their manifest.
 */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import { shortHash } from './canonical.ts';
import type { ClusterPod } from './cluster-facts.ts';
import { conditionOf, type Finding, nodeFinding } from './conditions.ts';
import { apiVersionOf, type KubeObject } from './kube-object.ts';
import type { AgentConfig } from './manifests.ts';
import type { NodeReason } from './reasons.ts';
import { IPVS_BPF_NODES, PODS } from './resource-types.ts';

/** On every node: RELEASE/KEY/ip_vs.ko and what belongs to it. The agent removes what is no longer asked for. */
export const DELIVERED_DIRECTORY = '/var/lib/ipvs-bpf/delivered';
/** Value of the label app.kubernetes.io/component of the pods. */
export const DELIVERY_COMPONENT = 'module';
/** The agent sees the files within a few seconds; until then a pod that has ended is no failure. */
const SEEN_WITHIN_MS = 120_000;
/** A pod that was refused or evicted is made again after this. */
const AGAIN_AFTER_MS = 60_000;

/** Where the module of an image lies on a node. An image under another name is another file. */
export function deliveredPath(image: string, kernelRelease: string): string {
  return `${DELIVERED_DIRECTORY}/${kernelRelease}/${shortHash(image)}/ip_vs.ko`;
}

/** A module that is to be brought to a node. */
export interface Delivery {
  readonly object: IpvsBpfNode;
  readonly image: string;
  readonly path: string;
  /** Names of Secrets. */
  readonly pullSecrets: readonly string[];
}

export interface DeliveryPlan {
  readonly create: readonly Delivery[];
  readonly remove: readonly ClusterPod[];
}

/** Which pods are missing, and which have done their work or cannot do it. */
export function planDeliveries(
  nodeObjects: readonly IpvsBpfNode[],
  policies: readonly IpvsBpfPolicy[],
  pods: readonly ClusterPod[],
  now: number,
): DeliveryPlan {
  const left = new Map(pods.map((pod) => [pod.metadata.name, pod]));
  const create: Delivery[] = [];
  const remove: ClusterPod[] = [];
  for (const object of nodeObjects) {
    const { image, path } = object.spec.module;
    if (image === undefined || path === undefined) continue;
    const name = deliveryPodName(object.metadata.name, image, path);
    const pod = left.get(name);
    left.delete(name);
    if (isDelivered(object)) {
      if (pod !== undefined) remove.push(pod);
      continue;
    }
    if (pod === undefined) {
      const policy = policies.find(({ metadata }) => metadata.name === object.spec.policyRef.name);
      const pullSecrets = (policy?.spec.module.imagePullSecrets ?? []).map((secret) => secret.name);
      create.push({ object, image, path, pullSecrets });
    } else if (isToBeMadeAgain(pod, object, now)) remove.push(pod);
  }
  const removable = [...remove, ...left.values()].filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
  return { create, remove: removable };
}

/** True if a module that came from an image lies on the node. */
export function hasDelivery(object: IpvsBpfNode | undefined): boolean {
  const { path = '', state } = object?.status?.module?.file ?? {};
  return path.startsWith(`${DELIVERED_DIRECTORY}/`) && state !== 'Missing';
}

function isDelivered({ spec, status }: IpvsBpfNode): boolean {
  const file = status?.module?.file;
  return file?.path === spec.module.path && file?.state === 'Found';
}

function isToBeMadeAgain({ status }: ClusterPod, object: IpvsBpfNode, now: number): boolean {
  const age = (time: string | undefined): number => (time === undefined ? 0 : now - Date.parse(time));
  if (status?.phase === 'Failed') return age(status.startTime) > AGAIN_AFTER_MS;
  // The files are gone again: somebody has emptied the directory.
  const missing = object.status?.module?.file?.state === 'Missing';
  return status?.phase === 'Succeeded' && missing && age(endOf(status)) > SEEN_WITHIN_MS;
}

function endOf(status: ClusterPod['status']): string | undefined {
  return status?.containerStatuses?.[0]?.state?.terminated?.finishedAt;
}

export function deliveryPodName(node: string, image: string, path: string): string {
  return `ipvs-bpf-module-${shortHash(`${node} ${image} ${path}`)}`;
}

/**
 * $1 is the kernel release, $2 the directory's name. A directory appears whole or not at all; the image may hold
 * nothing but the files, so that each program is busybox's.
 */
const SCRIPT = `b=/tools/busybox
from=/lib/modules/$1 to=/delivered/$1
for file in ip_vs.ko ipvs_bpf_family_id.ko manifest.json; do
  [ -f "$from/$file" ] || { echo "the image has no $from/$file"; exit 1; }
done
$b mkdir -p "$to/.$2"
$b cp "$from/ip_vs.ko" "$from/ipvs_bpf_family_id.ko" "$from/manifest.json" "$to/.$2/"
$b sync
$b rm -rf "$to/$2"
$b mv "$to/.$2" "$to/$2"
`;

type DeliveryConfig = Pick<AgentConfig, 'namespace' | 'image' | 'imagePullPolicy' | 'imagePullSecrets'>;

/** The pod; it owns nothing and is owned by the IpvsBpfNode, so that it goes with it. */
export function deliveryPod(delivery: Delivery, config: DeliveryConfig): KubeObject {
  const { object, image, path } = delivery;
  const { name: node, uid = '' } = object.metadata;
  const owner = { apiVersion: apiVersionOf(IPVS_BPF_NODES), kind: IPVS_BPF_NODES.kind, name: node, uid };
  return {
    apiVersion: apiVersionOf(PODS),
    kind: PODS.kind,
    metadata: {
      name: deliveryPodName(node, image, path),
      namespace: config.namespace,
      labels: {
        'app.kubernetes.io/name': 'ipvs-bpf',
        'app.kubernetes.io/component': DELIVERY_COMPONENT,
        'app.kubernetes.io/managed-by': 'ipvs-bpf-operator',
      },
      ownerReferences: [owner],
    },
    spec: podSpec(delivery, config),
  };
}

function podSpec({ object, image, path, pullSecrets }: Delivery, config: DeliveryConfig) {
  const secrets = [...new Set([...pullSecrets, ...config.imagePullSecrets])].map((name) => ({ name }));
  return {
    nodeName: object.metadata.name,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    restartPolicy: 'OnFailure',
    terminationGracePeriodSeconds: 1,
    // As the agent: whatever the node's taints.
    tolerations: [{ operator: 'Exists' }],
    ...(secrets.length === 0 ? {} : { imagePullSecrets: secrets }),
    initContainers: [lendingContainer(config)],
    containers: [copyingContainer(image, path)],
    volumes: [
      { name: 'tools', emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
      { name: 'delivered', hostPath: { path: DELIVERED_DIRECTORY, type: 'DirectoryOrCreate' } },
    ],
  };
}

/** Lends busybox to an image that has no programs. */
function lendingContainer({ image, imagePullPolicy }: DeliveryConfig) {
  return {
    ...CONTAINER,
    name: 'tools',
    image,
    imagePullPolicy,
    command: ['/bin/busybox', 'cp', '/bin/busybox', '/tools/busybox'],
    volumeMounts: [{ name: 'tools', mountPath: '/tools' }],
  };
}

function copyingContainer(image: string, path: string) {
  const [release = '', key = ''] = path.split('/').slice(-3);
  return {
    ...CONTAINER,
    name: 'module',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/tools/busybox', 'sh', '-ec', SCRIPT, 'deliver', release, key],
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: 'tools', mountPath: '/tools', readOnly: true },
      { name: 'delivered', mountPath: '/delivered' },
    ],
  };
}

/** Root, for the directory is root's, without any of root's capabilities. */
const CONTAINER = {
  securityContext: {
    runAsUser: 0,
    runAsGroup: 0,
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  },
  resources: { requests: { cpu: '10m', memory: '16Mi' } },
} as const;

/** The operator's condition about the module's way to a node. */
export function deliveryFinding(object: IpvsBpfNode, pods: readonly ClusterPod[]): Finding {
  const said = (reason: NodeReason<'ModuleDelivered'>, message: string): Finding =>
    nodeFinding('ModuleDelivered', reason, message);
  const { image, path } = object.spec.module;
  if (image === undefined || path === undefined) {
    return said('NotRequested', 'No image is asked for: the module file comes to the node by other ways.');
  }
  if (isDelivered(object)) return said('Delivered', `The module of ${image} is on the node.`);
  const name = deliveryPodName(object.metadata.name, image, path);
  const pod = pods.find(({ metadata }) => metadata.name === name);
  const { state, path: seen } = object.status?.module?.file ?? {};
  if (pod?.status?.phase === 'Succeeded' && seen === path && state === 'Unreadable') {
    return said('DeliveryFailed', `What ${image} has is not what its manifest says, or no module.`);
  }
  return (
    troubleOf(pod, image, object) ?? said('Delivering', `A pod copies the module of ${image} to the node.`)
  );
}

function troubleOf(pod: ClusterPod | undefined, image: string, object: IpvsBpfNode): Finding | undefined {
  const { phase, message, reason, containerStatuses = [], initContainerStatuses = [] } = pod?.status ?? {};
  for (const { state, lastState } of [...initContainerStatuses, ...containerStatuses]) {
    const { waiting } = state ?? {};
    if (waiting?.reason !== undefined && PULL_FAILURES.test(waiting.reason)) {
      // Between two tries the kubelet tells only that it waits; the error was the message before.
      const before = conditionOf(object.status?.conditions, 'ModuleDelivered');
      const known = before?.reason === 'ImagePullFailed' && before.message.startsWith(`${image}: `);
      const text =
        known && waiting.reason.endsWith('BackOff') ? before.message : `${image}: ${waiting.message}`;
      return nodeFinding('ModuleDelivered', 'ImagePullFailed', text);
    }
    const ended = state?.terminated ?? lastState?.terminated;
    if (ended !== undefined && ended.exitCode !== 0) {
      const text = `${image}: ${ended.message?.trim() || ended.reason || 'the copy failed'}`;
      return nodeFinding('ModuleDelivered', 'DeliveryFailed', text);
    }
  }
  if (phase !== 'Failed') return undefined;
  return nodeFinding(
    'ModuleDelivered',
    'DeliveryFailed',
    `The pod failed: ${message ?? reason ?? 'no reason'}`,
  );
}

/** The kubelet's reasons for an image that it does not get. */
const PULL_FAILURES =
  /^(ErrImage|ImagePull|ImageInspect|InvalidImage|RegistryUnavailable|SignatureValidation)/;
