// SPDX-License-Identifier: Apache-2.0
/** Takes definitions away that the chart keeps people from deleting, and brings them back. */
import { expect } from 'vitest';
import type { KubeObject, ResourceType } from '../../src/core/kube-object.ts';
import { type Connection, DEFINITIONS, eventually, waitForDefinitions } from './api-server.ts';
import { MANAGER, WAIT } from './scene.ts';

const BINDINGS: ResourceType = {
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  plural: 'validatingadmissionpolicybindings',
  kind: 'ValidatingAdmissionPolicyBinding',
  namespaced: false,
};

export const DEFINITION_NAMES = [
  'ipvsbpfpolicies.ipvs-bpf.io',
  'ipvsbpfnodes.ipvs-bpf.io',
  'ipvsbpfserviceslices.ipvs-bpf.io',
] as const;

/**
 * Deletes the definitions while the chart is installed, which refuses that first, and waits until they are gone.
 * @returns what makes everything as it was
 */
export async function withoutDefinitions(
  { cluster }: Connection,
  names: readonly string[],
): Promise<() => Promise<void>> {
  const guard = await cluster.get(BINDINGS, { name: 'ipvs-bpf-crds' });
  if (guard === undefined) throw new Error('the chart guards no definitions');
  const found = await Promise.all(names.map((name) => cluster.get(DEFINITIONS, { name })));
  const definitions = found.map((object, index) => {
    if (object === undefined) throw new Error(`${names[index]} is not installed`);
    return fresh(object);
  });
  const [first = ''] = names;
  await expect(cluster.delete(DEFINITIONS, { name: first })).rejects.toThrow(
    /403 .*uninstall the chart first/,
  );
  await cluster.delete(BINDINGS, { name: guard.metadata.name });
  for (const name of names) await eventually(() => cluster.delete(DEFINITIONS, { name }));
  for (const name of names) {
    await expect.poll(() => cluster.get(DEFINITIONS, { name }), WAIT).toBeUndefined();
  }
  return async () => {
    for (const definition of definitions) await cluster.apply(DEFINITIONS, definition, MANAGER);
    await waitForDefinitions(cluster);
    await cluster.apply(BINDINGS, fresh(guard), MANAGER);
  };
}

/** To be made again: without what the API server has added. */
function fresh({ apiVersion, kind, metadata, spec }: KubeObject): KubeObject {
  const { name, labels = {}, annotations = {} } = metadata;
  return { apiVersion, kind, metadata: { name, labels, annotations }, spec };
}
