// SPDX-License-Identifier: Apache-2.0
/** A whitelist cut into objects of bounded size, so that an edit rewrites one of them. */
import type { IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import type { ServiceSliceSpec, SliceService } from '../api/resources.ts';
import { sameValue } from './canonical.ts';
import type { ClusterStep } from './cluster-steps.ts';
import { keyOf } from './kube-object.ts';

/** Services with up to ten ports that fit into a slice: about 25 KB. */
const CAPACITY = 100;

/** What makes these slices hold these Services. A Service stays in its slice as long as it fits. */
export function planSlices(
  policyRef: ServiceSliceSpec['policyRef'],
  services: readonly SliceService[],
  existing: readonly IpvsBpfServiceSlice[],
): readonly ClusterStep[] {
  const slices = pack(services, existing, policyRef.name);
  const observed = new Map(existing.map((slice) => [slice.metadata.name, slice]));
  const applied = [...slices].flatMap(([name, members]): ClusterStep[] => {
    const spec = { policyRef, services: members };
    return isSame(observed.get(name)?.spec, spec) ? [] : [{ kind: 'applySlice', name, spec }];
  });
  const deleted = existing
    .filter(({ metadata }) => !slices.has(metadata.name))
    .map(({ metadata }): ClusterStep => ({ kind: 'deleteSlice', name: metadata.name }));
  return [...applied, ...deleted];
}

function isSame(observed: ServiceSliceSpec | undefined, wanted: ServiceSliceSpec): boolean {
  return (
    observed !== undefined &&
    sameValue(observed.policyRef, wanted.policyRef) &&
    sameValue(observed.services, wanted.services)
  );
}

function pack(
  services: readonly SliceService[],
  existing: readonly IpvsBpfServiceSlice[],
  prefix: string,
): ReadonlyMap<string, SliceService[]> {
  const home = new Map<string, string>();
  for (const { metadata, spec } of existing) {
    for (const service of spec.services) home.set(keyOf(service), metadata.name);
  }
  const slices = new Map<string, SliceService[]>();
  const weights = new Map<string, number>();
  const put = (name: string, service: SliceService): boolean => {
    const weight = (weights.get(name) ?? 0) + weightOf(service);
    if (weight > CAPACITY) return false;
    weights.set(name, weight);
    const members = slices.get(name);
    if (members === undefined) slices.set(name, [service]);
    else members.push(service);
    return true;
  };
  const moving = services.filter((service) => {
    const name = home.get(keyOf(service));
    return name === undefined || !put(name, service);
  });
  let number = 0;
  for (const service of moving) {
    while (!put(`${prefix}-${number}`, service)) number += 1;
  }
  for (const members of slices.values()) members.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return slices;
}

/** At most CAPACITY: a Service has 1000 ports at most. */
function weightOf({ virtualServers, nodePorts }: SliceService): number {
  const ports = Math.max(nodePorts.length, ...virtualServers.map((group) => group.ports.length));
  return Math.max(1, Math.ceil(ports / 10));
}
