// SPDX-License-Identifier: Apache-2.0
/** Everything that the API server has, in lines: to compare before something was installed and after it was removed. */
import type { ClusterSession } from './session.ts';
import { NAMESPACE } from './shop.ts';

/** Not objects that somebody makes and somebody has to remove. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  events: 'what has happened stays for an hour, and goes by itself',
  'events.events.k8s.io': 'the same once more',
  componentstatuses: 'nothing that is stored: the API server asks its components when it is asked',
};

/** Annotations that say when something was done, not what. */
const TIMES = ['endpoints.kubernetes.io/last-change-trigger-time'];

interface Listed {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
    readonly ownerReferences?: readonly object[];
  };
  readonly spec?: { readonly taints?: readonly object[] };
}

/** Of all API groups, in all namespaces and in none. */
export async function objectListing(session: ClusterSession): Promise<readonly string[]> {
  const resources = await session.kubectl(['api-resources', '--verbs=list', '-o', 'name']);
  const names = resources.split('\n').filter((name) => name !== '' && LEFT_OUT[name] === undefined);
  if (names.length < 30) throw new Error(`the API server has only these kinds: ${names.join(', ')}`);
  return objectLines(await session.list<Listed>(names.join(','), '-A'));
}

/** A line for each object, and for each of its labels, annotations, finalizers and, of a Node, taints. */
export function objectLines(objects: readonly Listed[]): readonly string[] {
  return objects.filter(isLasting).flatMap(linesOf).sort();
}

/** Pods that a controller has made for the application have names by chance, and others after a node was away. */
function isLasting({ kind, metadata }: Listed): boolean {
  return kind !== 'Pod' || metadata.namespace !== NAMESPACE || metadata.ownerReferences === undefined;
}

function linesOf({ apiVersion, kind, metadata, spec }: Listed): readonly string[] {
  const { name, namespace = '', labels = {}, annotations = {}, finalizers = [] } = metadata;
  const object = `${apiVersion} ${kind} ${namespace}/${name}`;
  const pairs = (what: string, found: Readonly<Record<string, string>>) =>
    Object.entries(found).map(([key, value]) => `${object} ${what} ${key}=${value}`);
  const lasting = Object.entries(annotations).filter(([key]) => !TIMES.includes(key));
  return [
    object,
    ...pairs('label', labels),
    ...pairs('annotation', Object.fromEntries(lasting)),
    ...finalizers.map((finalizer) => `${object} finalizer ${finalizer}`),
    ...(kind === 'Node' ? (spec?.taints ?? []) : []).map(
      (taint) => `${object} taint ${JSON.stringify(taint)}`,
    ),
  ];
}
