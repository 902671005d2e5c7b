// SPDX-License-Identifier: Apache-2.0
/** Rules that netfilter enforces for a Service's packets, and that accelerated packets would not meet. */
import type { PolicySpec } from '../api/resources.ts';
import type { AddressFamily } from '../ports.ts';
import { addressFamily } from './abi.ts';
import type { ClusterFacts, ClusterNetworkPolicy, ClusterService } from './cluster-facts.ts';
import { maySelect } from './label-selector.ts';
import type { Caveat, RejectReason } from './reasons.ts';
import { remember } from './remember.ts';

export interface FilterIndex {
  /** Namespace → NetworkPolicies for ingress. */
  readonly ingress: ReadonlyMap<string, readonly ClusterNetworkPolicy[]>;
  /** There is at least one NetworkPolicy for egress. */
  readonly egress: boolean;
  /** "namespace/name" of Services that have pods behind them. */
  readonly withPods: ReadonlySet<string>;
}

export interface Finder {
  readonly filters: FilterIndex;
  readonly filtering: PolicySpec['services']['filtering'];
}

export interface FilterFindings {
  readonly rejected?: { readonly reason: RejectReason; readonly message: string };
  readonly caveats: readonly { readonly reason: Caveat; readonly message: string }[];
}

export function indexFilters(facts: Pick<ClusterFacts, 'networkPolicies' | 'endpointSlices'>): FilterIndex {
  const ingress = new Map<string, ClusterNetworkPolicy[]>();
  let egress = false;
  for (const policy of facts.networkPolicies) {
    const types = policy.spec?.policyTypes;
    egress ||= types?.includes('Egress') ?? (policy.spec?.egress?.length ?? 0) > 0;
    if (types !== undefined && !types.includes('Ingress')) continue;
    const namespace = policy.metadata.namespace ?? '';
    const list = ingress.get(namespace);
    if (list === undefined) ingress.set(namespace, [policy]);
    else list.push(policy);
  }
  return { ingress, egress, withPods: servicesWithPods(facts.endpointSlices) };
}

/** An edit of a Service leaves the EndpointSlices as they were. */
const servicesWithPods = remember((slices: ClusterFacts['endpointSlices']): ReadonlySet<string> => {
  const withPods = new Set<string>();
  for (const { metadata, endpoints } of slices) {
    const name = metadata.labels?.['kubernetes.io/service-name'];
    if (name === undefined) continue;
    if (endpoints?.some(({ targetRef }) => targetRef?.kind === 'Pod') === true) {
      withPods.add(`${metadata.namespace ?? ''}/${name}`);
    }
  }
  return withPods;
});

/** What the policy's filtering makes of the rules that there are for this Service. */
export function filterFindings(service: ClusterService, { filters, filtering }: Finder): FilterFindings {
  const ranges = sourceRanges(service);
  const policy = networkPolicyFor(service, filters);
  const remedy = 'services.filtering: Bypass accelerates it without them.';
  if (filtering === 'Respect') {
    if (policy !== undefined) {
      const message = `NetworkPolicy ${policy.metadata.name} may select its pods, and netfilter enforces it. ${remedy}`;
      return { rejected: { reason: 'NetworkPolicy', message }, caveats: [] };
    }
    if (ranges.length > 0) {
      const message = `loadBalancerSourceRanges ${ranges.join(', ')} are enforced by netfilter. ${remedy}`;
      return { rejected: { reason: 'SourceRanges', message }, caveats: [] };
    }
    return { caveats: [] };
  }
  const caveats: { reason: Caveat; message: string }[] = [];
  if (policy !== undefined) {
    const message = `Netfilter does not enforce NetworkPolicy ${policy.metadata.name} for requests to it.`;
    caveats.push({ reason: 'NetworkPolicyBypassed', message });
  }
  if (ranges.length > 0) {
    const message = `Its loadBalancerSourceRanges ${ranges.join(', ')} are not enforced.`;
    caveats.push({ reason: 'SourceRangesBypassed', message });
  }
  return { caveats };
}

const EVERYBODY: Readonly<Record<AddressFamily, string>> = { IPv4: '0.0.0.0/0', IPv6: '::/0' };

/** Ranges that leave somebody out. kube-proxy looks, for each family, at the ranges of that family. */
function sourceRanges({ spec }: ClusterService): readonly string[] {
  if (spec?.type !== 'LoadBalancer') return [];
  const ranges = (spec.loadBalancerSourceRanges ?? []).map((range) => range.trim());
  const open = new Set(
    ranges.filter((range) => range === EVERYBODY[addressFamily(range)]).map(addressFamily),
  );
  const families = new Set((spec.clusterIPs ?? [spec.clusterIP ?? '']).map(addressFamily));
  return ranges.filter((range) => families.has(addressFamily(range)) && !open.has(addressFamily(range)));
}

/** A Service without a selector may have any pod of its namespace behind it. */
function networkPolicyFor(service: ClusterService, filters: FilterIndex): ClusterNetworkPolicy | undefined {
  const namespace = service.metadata.namespace ?? '';
  const policies = filters.ingress.get(namespace);
  if (policies === undefined) return undefined;
  const labels = service.spec?.selector ?? {};
  const own = Object.keys(labels).length > 0;
  if (!own && !filters.withPods.has(`${namespace}/${service.metadata.name}`)) return undefined;
  return policies.find(({ spec }) => maySelect(spec?.podSelector, labels));
}
