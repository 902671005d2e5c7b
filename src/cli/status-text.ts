// SPDX-License-Identifier: Apache-2.0
/** The summary of a cluster, for people. */
import type { ClusterSummary, Finding, PolicySummary, Versions } from '../core/cluster-summary.ts';
import type { Workload } from '../core/installation.ts';
import { table } from '../core/text-table.ts';

/** Of each kind of findings; the rest is counted. */
const SHOWN = 20;

export interface StatusTextOptions {
  readonly ignoreWarnings: boolean;
}

export function clusterStatusText(summary: ClusterSummary, options: StatusTextOptions): string {
  const { policies, versions } = summary;
  return [
    ...table([workloadRow('Operator', summary.operator), workloadRow('Agents', summary.agents)]),
    ...section('Policies', policies.length === 0 ? [] : policyRows(policies)),
    ...section('Versions (nodes)', [
      ...versionRow('agents', versions.agents),
      ...versionRow('kernels', versions.kernels),
      ...versionRow('ip_vs', versions.modules),
      ...versionRow('kube-proxy', versions.kubeProxies),
    ]),
    ...findings('Errors', summary.errors),
    ...findings('Waiting', summary.waiting),
    ...(options.ignoreWarnings ? [] : findings('Warnings', summary.warnings)),
    '',
    verdict(summary),
    '',
  ].join('\n');
}

/** One sentence. */
export function verdict({ ready, policies, errors }: ClusterSummary): string {
  if (ready && policies.length === 0) return 'Ready. There is no policy, so no node is changed.';
  if (ready) return 'Ready.';
  const [first] = errors;
  return first === undefined ? 'Not ready.' : `Not ready: ${first.about}: ${first.reason}`;
}

function workloadRow(title: string, workload: Workload | null): string[] {
  if (workload === null) return [title, 'not there', '', ''];
  const { namespace, name, ready, desired, image } = workload;
  return [title, `${namespace}/${name}`, `${ready} of ${desired} ready`, image];
}

function policyRows(policies: readonly PolicySummary[]): string[][] {
  const titles = [
    'NAME',
    'MODE',
    'READY',
    'REASON',
    'NODES',
    'DONE',
    'WAITING',
    'FAILED',
    'SERVICES',
    'REJECTED',
  ];
  const number = (value: number | undefined): string => String(value ?? 0);
  return [
    titles,
    ...policies.map(({ name, mode, ready, reason, nodes, services }) => [
      name,
      mode,
      ready ? 'yes' : 'no',
      reason,
      number(nodes.selected),
      number(nodes.ready),
      number(nodes.waiting),
      number(nodes.failed),
      number(services.accelerated),
      number(services.rejected),
    ]),
  ];
}

function versionRow(title: string, versions: Versions): string[][] {
  const parts = Object.entries(versions).map(([version, nodes]) => `${version} (${nodes})`);
  return parts.length === 0 ? [] : [[title, parts.join(', ')]];
}

function findings(title: string, list: readonly Finding[]): readonly string[] {
  if (list.length === 0) return [];
  const lines = list
    .slice(0, SHOWN)
    .map(({ about, reason, message }) => `  ${about}: ${reason}${message === '' ? '' : `: ${message}`}`);
  const more = list.length - lines.length;
  const see = [...new Set(list.map((finding) => finding.see))];
  return [
    '',
    title,
    ...lines,
    ...(more > 0 ? [`  and ${more} more; -o json has all that the status of the policies lists`] : []),
    `  What to do: ${see.join(', ')}`,
  ];
}

function section(title: string, rows: readonly string[][]): readonly string[] {
  return rows.length === 0 ? [] : ['', title, ...table(rows).map((line) => `  ${line}`)];
}
