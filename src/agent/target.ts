// SPDX-License-Identifier: Apache-2.0
/** What the API server's stores hold about this node. */
import type { IpvsBpfNode, IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import type { Watched } from '../cluster-ports.ts';
import type { NodeTarget } from '../core/node-target.ts';

/** This node's object; undefined if there is none, or it is not known yet. */
export function nodeObject(nodes: Watched, name: string): IpvsBpfNode | undefined {
  return nodes.hasSynced ? (nodes.get({ name }) as unknown as IpvsBpfNode | undefined) : undefined;
}

/** Undefined until the whitelist is known too. */
export function targetOf(object: IpvsBpfNode, slices: Watched): NodeTarget | undefined {
  if (!slices.hasSynced) return undefined;
  const found = slices.list() as unknown as readonly IpvsBpfServiceSlice[];
  return {
    generation: object.metadata.generation ?? 0,
    spec: object.spec,
    services: found
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
      .filter(({ spec }) => spec.policyRef.uid === object.spec.policyRef.uid)
      .flatMap(({ spec }) => spec.services),
  };
}
