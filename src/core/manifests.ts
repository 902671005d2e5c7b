// SPDX-License-Identifier: Apache-2.0
/** The agent's DaemonSet with its ServiceAccount and rights, as plain data, and what differs from it. */
import { CAPABILITIES } from './capabilities.ts';
import { apiVersionOf, type KubeObject, type ResourceType } from './kube-object.ts';
import {
  API_GROUP,
  CLUSTER_ROLE_BINDINGS,
  CLUSTER_ROLES,
  DAEMON_SETS,
  ROLE_BINDINGS,
  ROLES,
  SERVICE_ACCOUNTS,
} from './resource-types.ts';

/** Name of all of the agent's objects. */
export const AGENT_NAME = 'ipvs-bpf-agent';
/** The agent's sign of life on node n1 is Lease node-n1. */
export const NODE_LEASE_PREFIX = 'node-';
/** On the DaemonSet: hash of all that the operator wants, so that fields it no longer wants are seen too. */
const HASH_ANNOTATION = `${API_GROUP}/desired`;
const MODULE_MOUNT = '/modules';
const SYSCTL_MOUNT = '/host-sysctl';
const HOST_MOUNT = '/host';
const AGENT_PORT = 9841;

export interface AgentConfig {
  /** The namespace of operator and agents. */
  readonly namespace: string;
  /** "registry/repository:tag" or "…@sha256:…" */
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** Names of Secrets in the namespace. */
  readonly imagePullSecrets: readonly string[];
  /** Directory of the nodes that has RELEASE/ip_vs.ko. */
  readonly moduleHostPath: string;
  /** "https://10.0.0.1:6443": where agents reach the API server while IPVS is exchanged; unset: as in the pod. */
  readonly apiServer?: string;
  readonly logLevel: string;
  readonly logFormat: string;
  readonly priorityClassName: string;
  /** Of the agent's container, as in a pod. */
  readonly resources: Readonly<Record<string, unknown>>;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly tolerations: readonly Readonly<Record<string, unknown>>[];
  /** Of the DaemonSet, as in its spec. Unset: a tenth of the pods at a time. */
  readonly updateStrategy?: Readonly<Record<string, unknown>>;
  /** TCP port of the nodes' addresses that answers /metrics; unset: only the node itself can ask. */
  readonly metricsPort?: number;
}

/** A desired object; `ownedBy` says whose deletion takes it along. */
export interface Manifest {
  readonly type: ResourceType;
  readonly object: KubeObject;
}

/** Objects that outlive nothing of the chart: the garbage collector removes what belongs to them. */
export interface Owners {
  /** Of objects in the namespace: the operator's Deployment. */
  readonly namespaced?: KubeObject | undefined;
  /** Of the others: the operator's ClusterRole. */
  readonly cluster?: KubeObject | undefined;
}

const LABELS = {
  'app.kubernetes.io/name': 'ipvs-bpf',
  'app.kubernetes.io/component': 'agent',
  'app.kubernetes.io/managed-by': 'ipvs-bpf-operator',
} as const;
const SELECTOR = {
  'app.kubernetes.io/name': 'ipvs-bpf',
  'app.kubernetes.io/component': 'agent',
} as const;

/** In the order in which they are applied; removed in the opposite order. */
export function agentManifests(config: AgentConfig, owners: Owners = {}): readonly Manifest[] {
  const { namespace } = config;
  const subjects = [{ kind: 'ServiceAccount', name: AGENT_NAME, namespace }];
  const roleRef = (kind: string) => ({ apiGroup: CLUSTER_ROLES.group, kind, name: AGENT_NAME });
  return [
    manifest(SERVICE_ACCOUNTS, namespace, owners, { automountServiceAccountToken: true }),
    manifest(CLUSTER_ROLES, undefined, owners, { rules: CLUSTER_RULES }),
    manifest(CLUSTER_ROLE_BINDINGS, undefined, owners, { roleRef: roleRef('ClusterRole'), subjects }),
    manifest(ROLES, namespace, owners, { rules: NAMESPACE_RULES }),
    manifest(ROLE_BINDINGS, namespace, owners, { roleRef: roleRef('Role'), subjects }),
    manifest(DAEMON_SETS, namespace, owners, { spec: daemonSetSpec(config) }),
  ];
}

const rule = (apiGroups: readonly string[], resources: readonly string[], verbs: readonly string[]) => ({
  apiGroups,
  resources,
  verbs,
});

/** That the status, the Lease and the Node are the agent's own is seen to by the chart's admission policy. */
const CLUSTER_RULES = [
  rule([API_GROUP], ['ipvsbpfnodes', 'ipvsbpfserviceslices'], ['get', 'list', 'watch']),
  rule([API_GROUP], ['ipvsbpfnodes/status'], ['patch']),
  rule([''], ['nodes'], ['get']),
  rule([''], ['events'], ['create']),
];
const NAMESPACE_RULES = [rule(['coordination.k8s.io'], ['leases'], ['get', 'create', 'patch', 'update'])];

function manifest(
  type: ResourceType,
  namespace: string | undefined,
  owners: Owners,
  content: Readonly<Record<string, unknown>>,
): Manifest {
  const owner = namespace === undefined ? owners.cluster : owners.namespaced;
  return {
    type,
    object: {
      apiVersion: apiVersionOf(type),
      kind: type.kind,
      metadata: {
        name: AGENT_NAME,
        ...(namespace === undefined ? {} : { namespace }),
        labels: LABELS,
        annotations: { [HASH_ANNOTATION]: hash(JSON.stringify(content)) },
        ...(owner === undefined ? {} : { ownerReferences: [ownerReference(owner)] }),
      },
      ...content,
    },
  };
}

function ownerReference({ apiVersion, kind, metadata: { name, uid } }: KubeObject) {
  return { apiVersion, kind, name, uid: uid ?? '' };
}

/** A pod that is exchanged changes nothing on its node, so several at a time do no harm. */
const UPDATE_STRATEGY = { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } };

function daemonSetSpec(config: AgentConfig): Readonly<Record<string, unknown>> {
  const { imagePullSecrets, nodeSelector, tolerations, priorityClassName } = config;
  return {
    selector: { matchLabels: SELECTOR },
    updateStrategy: config.updateStrategy ?? UPDATE_STRATEGY,
    template: {
      metadata: { labels: LABELS },
      spec: {
        serviceAccountName: AGENT_NAME,
        hostNetwork: true,
        // It stops and continues kube-proxy while the module is exchanged, and has the host's /etc below /proc/1/root.
        hostPID: true,
        dnsPolicy: 'Default',
        terminationGracePeriodSeconds: 30,
        ...(priorityClassName === '' ? {} : { priorityClassName }),
        ...(imagePullSecrets.length > 0 ? { imagePullSecrets: imagePullSecrets.map(named) } : {}),
        ...(Object.keys(nodeSelector).length > 0 ? { nodeSelector } : {}),
        ...(tolerations.length > 0 ? { tolerations } : {}),
        containers: [container(config)],
        volumes: MOUNTS.map((mount) => volume(mount, config)),
      },
    },
  };
}

const named = (name: string) => ({ name });

/** Beside what the agent itself needs: the kernel's log, for `kubectl ipvs-bpf sysdump`. */
export const AGENT_CAPABILITIES: readonly string[] = [...Object.keys(CAPABILITIES), 'SYSLOG'];

const SECURITY_CONTEXT = {
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'], add: AGENT_CAPABILITIES },
  seccompProfile: { type: 'RuntimeDefault' },
  // The usual profile forbids mounts, which network namespaces are, and to write sysctls.
  appArmorProfile: { type: 'Unconfined' },
  // What SELinux calls a container that may reach the machine itself; ignored elsewhere.
  seLinuxOptions: { type: 'spc_t' },
} as const;

function container(config: AgentConfig): Readonly<Record<string, unknown>> {
  const { image, imagePullPolicy, resources, metricsPort } = config;
  const probe = { host: '127.0.0.1', port: AGENT_PORT };
  return {
    name: 'agent',
    image,
    imagePullPolicy,
    args: ['agent'],
    env: environment(config),
    ...(metricsPort === undefined ? {} : { ports: [{ name: 'metrics', containerPort: metricsPort }] }),
    securityContext: SECURITY_CONTEXT,
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
    startupProbe: {
      httpGet: { ...probe, path: '/healthz' },
      periodSeconds: 2,
      timeoutSeconds: 5,
      failureThreshold: 90,
    },
    // The programs are loaded by one call to the kernel, during which nothing is answered: more than a minute on a busy
    // node with a slow processor. Ended then, the agent begins it anew; and the node goes on without an agent that hangs.
    livenessProbe: {
      httpGet: { ...probe, path: '/healthz' },
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 30,
    },
    readinessProbe: { httpGet: { ...probe, path: '/readyz' }, periodSeconds: 3, timeoutSeconds: 5 },
    volumeMounts: MOUNTS.map(({ name, path, readOnly, propagation }) => ({
      name,
      mountPath: path,
      ...(readOnly ? { readOnly } : {}),
      ...(propagation === undefined ? {} : { mountPropagation: propagation }),
    })),
  };
}

function environment({ namespace, apiServer, logLevel, logFormat, metricsPort }: AgentConfig) {
  return [
    { name: 'IPVS_BPF_NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    { name: 'IPVS_BPF_NAMESPACE', value: namespace },
    { name: 'IPVS_BPF_MODULE_DIR', value: MODULE_MOUNT },
    { name: 'IPVS_BPF_SYSCTL_DIR', value: SYSCTL_MOUNT },
    { name: 'IPVS_BPF_HOST_ROOT', value: HOST_MOUNT },
    { name: 'IPVS_BPF_HTTP_PORT', value: String(AGENT_PORT) },
    { name: 'IPVS_BPF_LOG_LEVEL', value: logLevel },
    { name: 'IPVS_BPF_LOG_FORMAT', value: logFormat },
    ...(metricsPort === undefined
      ? []
      : [
          { name: 'IPVS_BPF_METRICS_ADDRESS', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
          { name: 'IPVS_BPF_METRICS_PORT', value: String(metricsPort) },
        ]),
    ...(apiServer === undefined ? [] : [{ name: 'IPVS_BPF_API_SERVER', value: apiServer }]),
  ];
}

interface Mount {
  readonly name: string;
  readonly path: string;
  /** Where it is on the node, if not at the same path. */
  readonly hostPath?: string;
  readonly readOnly?: true;
  /** HostToContainer sees later mounts of the node. */
  readonly propagation?: 'HostToContainer';
  readonly create?: true;
}

const MOUNTS: readonly Mount[] = [
  { name: 'state', path: '/var/lib/ipvs-bpf', create: true },
  { name: 'modules', path: MODULE_MOUNT, readOnly: true, create: true },
  { name: 'lib-modules', path: '/lib/modules', readOnly: true },
  { name: 'bpf', path: '/sys/fs/bpf', propagation: 'HostToContainer' },
  // /proc/sys itself is read-only in a container.
  { name: 'sysctl', path: `${SYSCTL_MOUNT}/net`, hostPath: '/proc/sys/net' },
  { name: 'modprobe', path: '/run/modprobe.d', create: true },
  { name: 'netns', path: '/run/netns', propagation: 'HostToContainer', create: true },
  { name: 'host', path: HOST_MOUNT, hostPath: '/', readOnly: true, propagation: 'HostToContainer' },
];

function volume({ name, path, hostPath = path, create }: Mount, config: AgentConfig) {
  return {
    name,
    hostPath: {
      path: name === 'modules' ? config.moduleHostPath : hostPath,
      type: create ? 'DirectoryOrCreate' : 'Directory',
    },
  };
}

/** FNV-1a, 64 bits. */
function hash(text: string): string {
  let value = 0xcbf29ce484222325n;
  for (let at = 0; at < text.length; at += 1) {
    value = BigInt.asUintN(64, (value ^ BigInt(text.charCodeAt(at))) * 0x100000001b3n);
  }
  return value.toString(16).padStart(16, '0');
}

/**
 * The paths ("spec.template.spec.hostPID") at which `found` has not what `desired` says, at most 5. Fields that
 * only `found` has are defaults or somebody else's. Resources of containers are not compared.
 */
export function differences(desired: unknown, found: unknown, path = ''): readonly string[] {
  if (Array.isArray(desired)) {
    if (!Array.isArray(found) || found.length !== desired.length) return [path];
    return desired.flatMap((item, index) => differences(item, found[index], `${path}[${index}]`)).slice(0, 5);
  }
  if (typeof desired !== 'object' || desired === null) return Object.is(desired, found) ? [] : [path];
  if (typeof found !== 'object' || found === null) return [path];
  return Object.entries(desired)
    .flatMap(([name, value]) =>
      // The API server writes quantities its own way ("1000m" as "1").
      value === undefined || name === 'resources'
        ? []
        : differences(
            value,
            (found as Readonly<Record<string, unknown>>)[name],
            path === '' ? name : `${path}.${name}`,
          ),
    )
    .slice(0, 5);
}
