// SPDX-License-Identifier: Apache-2.0
/** What `ipvs-bpf status` tells of a cluster: from what is installed, the policies and their nodes. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import type { PolicyStatus } from '../api/resources.ts';
import { API_VERSION } from '../api/schema.ts';
import { conditionOf } from './conditions.ts';
import { isRolledOut, type Workload, workloadOf } from './installation.ts';
import type { KubeObject } from './kube-object.ts';

/** Everything that was read for it. */
export interface ClusterObjects {
  readonly operators: readonly KubeObject[];
  readonly agents: readonly KubeObject[];
  /** Undefined if the API server knows no such kind. */
  readonly policies: readonly IpvsBpfPolicy[] | undefined;
  readonly nodes: readonly IpvsBpfNode[];
}

/** Something that is to be said; `see` is where it is explained. */
export interface Finding {
  /** "Node n1", "Service shop/web" */
  readonly about: string;
  readonly reason: string;
  readonly message: string;
  /** File of this repository with the place in it: "docs/reference.md#problem-nodes". */
  readonly see: string;
}

export interface PolicySummary {
  readonly name: string;
  readonly mode: string;
  /** Condition Ready, of the newest generation. */
  readonly ready: boolean;
  readonly reason: string;
  readonly message: string;
  readonly nodes: NonNullable<PolicyStatus['nodes']>;
  readonly services: NonNullable<PolicyStatus['services']>;
}

/** A version → on how many nodes it is. */
export type Versions = Readonly<Record<string, number>>;

/** As `status -o json` prints it. */
export interface ClusterSummary {
  readonly apiVersion: typeof API_VERSION;
  readonly kind: 'ClusterStatus';
  readonly ready: boolean;
  readonly operator: Workload | null;
  readonly agents: Workload | null;
  readonly policies: readonly PolicySummary[];
  readonly versions: {
    readonly agents: Versions;
    readonly kernels: Versions;
    readonly modules: Versions;
    readonly kubeProxies: Versions;
  };
  /** What keeps it from being ready. */
  readonly errors: readonly Finding[];
  /** What will be done in its turn. */
  readonly waiting: readonly Finding[];
  /** What is to be known. */
  readonly warnings: readonly Finding[];
}

/** Where docs/reference.md explains something. A test follows each link. */
export const SEE = {
  policyConditions: 'docs/reference.md#conditions-of-an-ipvsbpfpolicy',
  proxyMode: 'docs/reference.md#proxymodesupported',
  problems: 'docs/reference.md#problem-nodes',
  waiting: 'docs/reference.md#waiting-nodes',
  rejected: 'docs/reference.md#rejected-services',
  caveats: 'docs/reference.md#caveats-of-services',
  checks: 'docs/reference.md#checks-of-nodes',
  install: 'README.md#use-it-on-a-cluster',
  installation: 'docs/cli.md#status',
} as const;

/** @param named only these policies; all if it is empty */
export function summarizeCluster(objects: ClusterObjects, named: readonly string[]): ClusterSummary {
  const policies = (objects.policies ?? []).filter(
    ({ metadata }) => named.length === 0 || named.includes(metadata.name),
  );
  const names = new Set(policies.map(({ metadata }) => metadata.name));
  const nodes = objects.nodes.filter(({ spec }) => names.has(spec.policyRef.name));
  const operator = first(objects.operators);
  const agents = first(objects.agents);
  const summaries = policies.map(policySummary);
  const errors = [
    ...installationErrors(objects, operator, agents),
    ...missingPolicies(objects, named),
    ...policies.flatMap((policy) => policyErrors(policy)),
  ];
  return {
    apiVersion: API_VERSION,
    kind: 'ClusterStatus',
    ready: errors.length === 0 && summaries.every(({ ready }) => ready),
    operator,
    agents,
    policies: summaries,
    versions: versionsOf(nodes),
    errors,
    waiting: policies.flatMap(waitingNodes),
    warnings: [...policies.flatMap(policyWarnings), ...nodes.flatMap(nodeWarnings)],
  };
}

function first(objects: readonly KubeObject[]): Workload | null {
  const [object] = objects;
  return object === undefined ? null : workloadOf(object);
}

function installationErrors(
  { policies, operators, agents: daemonSets }: ClusterObjects,
  operator: Workload | null,
  agents: Workload | null,
): readonly Finding[] {
  const finding = (about: string, reason: string, message: string, see: string = SEE.install): Finding[] => [
    { about, reason, message, see },
  ];
  if (policies === undefined) {
    return finding('Cluster', 'NotInstalled', 'The API server knows no IpvsBpfPolicy: install the chart.');
  }
  if (operator === null) {
    return finding(
      'Operator',
      'NotInstalled',
      'There is no Deployment of the operator, or not in this namespace.',
    );
  }
  const several = [...operators.slice(1), ...daemonSets.slice(1)].flatMap(({ kind, metadata }) =>
    finding(
      kind,
      'InstalledTwice',
      `There is another one: ${metadata.namespace}/${metadata.name}. Name one with --namespace, and remove the other.`,
    ),
  );
  const agentsMissing =
    agents === null && policies.length > 0
      ? finding(
          'Agents',
          'NotInstalled',
          'There are policies, and no DaemonSet of agents. Look at the log of the operator.',
          SEE.installation,
        )
      : [];
  return [
    ...several,
    ...rolloutErrors('Operator', operator),
    ...agentsMissing,
    ...rolloutErrors('Agents', agents),
  ];
}

function rolloutErrors(about: string, workload: Workload | null): readonly Finding[] {
  if (workload === null || isRolledOut(workload)) return [];
  const { kind, namespace, name, desired, ready, updated, observed } = workload;
  const numbers = observed
    ? `${ready} of ${desired} pods are ready, ${updated} are of the newest version.`
    : 'Its newest version has not been looked at yet.';
  const where = `${kind} ${namespace}/${name}`;
  return [{ about, reason: 'NotRolledOut', message: `${where}: ${numbers}`, see: SEE.installation }];
}

function missingPolicies({ policies }: ClusterObjects, named: readonly string[]): readonly Finding[] {
  if (policies === undefined) return [];
  const found = new Set(policies.map(({ metadata }) => metadata.name));
  return named
    .filter((name) => !found.has(name))
    .map((name) => ({
      about: `Policy ${name}`,
      reason: 'NotFound',
      message: `There is no IpvsBpfPolicy ${name}.`,
      see: SEE.install,
    }));
}

function policySummary({ metadata, spec, status }: IpvsBpfPolicy): PolicySummary {
  const ready = conditionOf(status?.conditions, 'Ready');
  // What an older generation was does not count.
  const current = ready?.observedGeneration === metadata.generation;
  return {
    name: metadata.name,
    mode: spec.mode,
    ready: current && ready?.status === 'True',
    reason: current ? (ready?.reason ?? '') : 'Reconciling',
    message: current ? (ready?.message ?? '') : 'The operator has not looked at the newest spec yet.',
    nodes: status?.nodes ?? {},
    services: status?.services ?? {},
  };
}

function policyErrors(policy: IpvsBpfPolicy): readonly Finding[] {
  const { ready, name, reason, message } = policySummary(policy);
  if (ready) return [];
  return [{ about: `Policy ${name}`, reason, message, see: SEE.policyConditions }, ...problemNodes(policy)];
}

function problemNodes({ status }: IpvsBpfPolicy): readonly Finding[] {
  return (status?.problemNodes ?? []).map(({ node, reason, message = '' }) => ({
    about: `Node ${node}`,
    reason,
    message,
    see: SEE.problems,
  }));
}

function waitingNodes({ status }: IpvsBpfPolicy): readonly Finding[] {
  return (status?.waitingNodes ?? []).map(({ node, reason, message = '' }) => ({
    about: `Node ${node}`,
    reason,
    message,
    see: SEE.waiting,
  }));
}

/** Problems of the nodes of a policy that is ready all the same are among them. */
function policyWarnings(policy: IpvsBpfPolicy): readonly Finding[] {
  const { status, metadata } = policy;
  const services = (
    entries: readonly { namespace: string; name: string; reason: string; message?: string }[],
    see: string,
  ): Finding[] =>
    entries.map(({ namespace, name, reason, message = '' }) => ({
      about: `Service ${namespace}/${name}`,
      reason,
      message,
      see,
    }));
  const proxy = conditionOf(status?.conditions, 'ProxyModeSupported');
  const ofProxy =
    proxy === undefined || proxy.reason === 'Supported' || proxy.status === 'Unknown'
      ? []
      : [
          {
            about: `Policy ${metadata.name}`,
            reason: proxy.reason,
            message: proxy.message,
            see: SEE.proxyMode,
          },
        ];
  return [
    ...(policySummary(policy).ready ? problemNodes(policy) : []),
    ...ofProxy,
    ...services(status?.rejectedServices ?? [], SEE.rejected),
    ...services(status?.serviceCaveats ?? [], SEE.caveats),
  ];
}

function nodeWarnings({ metadata, status }: IpvsBpfNode): readonly Finding[] {
  return (status?.preflight ?? [])
    .filter(({ result }) => result === 'Warn')
    .map(({ check, message = '' }) => ({
      about: `Node ${metadata.name}`,
      reason: check,
      message,
      see: SEE.checks,
    }));
}

function versionsOf(nodes: readonly IpvsBpfNode[]): ClusterSummary['versions'] {
  const statuses = nodes.map(({ status = {} }) => status);
  const text = (...parts: readonly (string | undefined)[]): string => parts.filter(Boolean).join(' ');
  return {
    agents: counted(statuses.map(({ agentVersion }) => agentVersion ?? '')),
    kernels: counted(statuses.map(({ kernelRelease }) => kernelRelease ?? '')),
    modules: counted(statuses.map(({ module }) => text(module?.origin, module?.srcversion))),
    kubeProxies: counted(statuses.map(({ kubeProxy }) => text(kubeProxy?.mode, kubeProxy?.version))),
  };
}

/** Those that were not reported are left out. */
function counted(values: readonly string[]): Versions {
  const counts: Record<string, number> = {};
  for (const value of values.toSorted()) if (value !== '') counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
