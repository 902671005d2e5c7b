// SPDX-License-Identifier: Apache-2.0
/** Before the chart is uninstalled: without the operator nobody puts nodes back to what they were. */
import type { IpvsBpfNode } from '../api/generated/resource-types.ts';
import type { Cluster } from '../cluster-ports.ts';
import { isMissing } from '../core/cluster-error.ts';
import { conditionOf } from '../core/conditions.ts';
import type { KubeObject, ResourceType } from '../core/kube-object.ts';
import { IPVS_BPF_NODES, POLICIES } from '../core/resource-types.ts';

const NAMES_SHOWN = 10;
const POLL_MS = 2_000;

export interface UninstallOptions {
  readonly cluster: Pick<Cluster, 'list' | 'delete'>;
  /** Deletes the policies and waits until the operator has put every node back. */
  readonly revert: boolean;
  /** For how long. */
  readonly timeoutMs: number;
  /** Milliseconds of a clock that never jumps. */
  readonly now: () => number;
  readonly sleep: (milliseconds: number) => Promise<void>;
  /** For people, a line. */
  readonly say: (line: string) => void;
}

/** The operator is still needed. */
export class UninstallRefused extends Error {
  override readonly name = 'UninstallRefused';
  readonly advice: string;

  constructor(message: string, advice: string) {
    super(message);
    this.advice = advice;
  }
}

interface Remains {
  readonly policies: readonly KubeObject[];
  readonly nodes: readonly KubeObject[];
}

/**
 * Resolves when no IpvsBpfPolicy and no IpvsBpfNode is there.
 * @throws UninstallRefused if some are, with `revert` if some are still there after the timeout
 * @throws ClusterError if the API server does not answer
 */
export async function checkUninstall(options: UninstallOptions): Promise<void> {
  const { cluster, revert, timeoutMs, now, sleep, say } = options;
  const end = now() + timeoutMs;
  let left = await remains(cluster);
  if (revert) await deletePolicies(left, options);
  let told = '';
  while (!isNothing(left)) {
    if (!revert) throw refused(left);
    if (now() > end) throw timedOut(left, timeoutMs);
    const text = `waits for ${textOf(left)}`;
    if (text !== told) say(text);
    told = text;
    await sleep(POLL_MS);
    left = await remains(cluster);
  }
  say('no IpvsBpfPolicy and no IpvsBpfNode is there');
}

async function deletePolicies({ policies }: Remains, { cluster, say }: UninstallOptions): Promise<void> {
  for (const { metadata } of policies) {
    if (metadata.deletionTimestamp !== undefined) continue;
    await cluster.delete(POLICIES, metadata, metadata.uid);
    say(`deleted IpvsBpfPolicy ${metadata.name}`);
  }
}

async function remains(cluster: UninstallOptions['cluster']): Promise<Remains> {
  return { policies: await listOf(POLICIES, cluster), nodes: await listOf(IPVS_BPF_NODES, cluster) };
}

/** None if their definition is not there. */
async function listOf(
  type: ResourceType,
  cluster: UninstallOptions['cluster'],
): Promise<readonly KubeObject[]> {
  try {
    return await cluster.list(type);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isNothing({ policies, nodes }: Remains): boolean {
  return policies.length === 0 && nodes.length === 0;
}

function refused(left: Remains): UninstallRefused {
  return new UninstallRefused(
    `not uninstalled, because there is ${textOf(left)}; without the operator nobody puts nodes back`,
    'Delete the policies first: "kubectl delete ipvsbpfpolicy --all" returns when all nodes are what they were. ' +
      'Then uninstall again. With --no-hooks helm leaves the nodes as they are.',
  );
}

function timedOut(left: Remains, timeoutMs: number): UninstallRefused {
  const nodes = left.nodes as unknown as readonly IpvsBpfNode[];
  const whys = nodes.slice(0, NAMES_SHOWN).map(({ metadata, status }) => {
    const ready = conditionOf(status?.conditions, 'Ready');
    return `${metadata.name}: ${ready?.reason ?? 'NotReported'}: ${ready?.message ?? ''}`;
  });
  return new UninstallRefused(
    [`not uninstalled: after ${timeoutMs / 1000} s there is still ${textOf(left)}`, ...whys].join('\n  '),
    'The operator goes on putting nodes back. Uninstall again later, with a higher uninstall.timeoutSeconds and ' +
      '"helm uninstall --timeout". Deleting the IpvsBpfNode of a node that is gone for good lets its policy go.',
  );
}

function textOf({ policies, nodes }: Remains): string {
  const kinds = [namesOf('IpvsBpfPolicy', policies), namesOf('IpvsBpfNode', nodes)];
  return kinds.filter((text) => text !== '').join(' and ');
}

function namesOf(kind: string, objects: readonly KubeObject[]): string {
  if (objects.length === 0) return '';
  const names = objects.map(({ metadata }) => metadata.name).sort();
  const more = names.length - NAMES_SHOWN;
  return `${kind} ${names.slice(0, NAMES_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
