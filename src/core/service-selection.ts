// SPDX-License-Identifier: Apache-2.0
/** From a policy's whitelist and the cluster's Services to virtual servers; what is left out says why. */
import type { PolicySpec, SliceService } from '../api/resources.ts';
import type { ClusterFacts, ClusterService } from './cluster-facts.ts';
import { keyOf } from './kube-object.ts';
import { selects } from './label-selector.ts';
import type { Caveat, RejectReason } from './reasons.ts';
import { remember } from './remember.ts';
import { type Finder, filterFindings, indexFilters } from './service-filters.ts';
import { type PortSelection, selectedPorts, serviceFrontends } from './service-frontends.ts';

export interface Rejection {
  readonly namespace: string;
  readonly name: string;
  readonly reason: RejectReason;
  readonly message: string;
}

export interface ServiceRemark {
  readonly namespace: string;
  readonly name: string;
  readonly reason: Caveat;
  readonly message: string;
}

export interface Selection {
  /** Sorted by namespace and name. */
  readonly services: readonly SliceService[];
  /** Services that stay on the native path as a whole; one entry a Service. */
  readonly rejected: readonly Rejection[];
  readonly caveats: readonly ServiceRemark[];
  readonly selected: number;
  readonly virtualServers: number;
}

export type SelectionFacts = Pick<
  ClusterFacts,
  'services' | 'namespaces' | 'endpointSlices' | 'networkPolicies'
>;

/** What one Service comes to. */
type Outcome =
  | { readonly rejected: Pick<Rejection, 'reason' | 'message'> }
  | {
      readonly service: SliceService;
      readonly caveats: readonly Pick<ServiceRemark, 'reason' | 'message'>[];
    };

type SelectionSpec = Pick<PolicySpec, 'services'> & { readonly snat: Pick<PolicySpec['snat'], 'mode'> };

interface Selected {
  readonly facts: SelectionFacts;
  readonly selection: Selection;
}

/** By what is wanted: what was selected of these Services last. */
const selectedOf = remember((_: SelectionFacts['services']) => new Map<string, Selected>());
/** Wishes of which the outcome is kept: with more policies, or after more edits, the oldest is forgotten. */
const MAX_SELECTED = 8;

/**
 * The whitelist of a policy. A Service that another one of the list collides with loses to the one before it. As long
 * as the facts are the very same lists nothing is computed: most looks find everything as it was.
 */
export function selectServices(spec: SelectionSpec, facts: SelectionFacts): Selection {
  const selected = selectedOf(facts.services);
  const wish = JSON.stringify([spec.services, spec.snat.mode]);
  const known = selected.get(wish);
  if (known !== undefined && sameLists(known.facts, facts)) return known.selection;
  const { services, namespaces, endpointSlices, networkPolicies } = facts;
  const selection = select(spec, facts);
  selected.delete(wish);
  selected.set(wish, { facts: { services, namespaces, endpointSlices, networkPolicies }, selection });
  for (const oldest of selected.keys()) {
    if (selected.size <= MAX_SELECTED) break;
    selected.delete(oldest);
  }
  return selection;
}

function sameLists(a: SelectionFacts, b: SelectionFacts): boolean {
  return (
    a.services === b.services &&
    a.namespaces === b.namespaces &&
    a.endpointSlices === b.endpointSlices &&
    a.networkPolicies === b.networkPolicies
  );
}

function select(spec: SelectionSpec, facts: SelectionFacts): Selection {
  const byKey = new Map(facts.services.map((service) => [serviceKey(service), service]));
  const chosen = choose(spec.services, facts, byKey);
  const finder: Finder = { filters: indexFilters(facts), filtering: spec.services.filtering };
  const taken = new Set<string>();
  const services: SliceService[] = [];
  const rejected: Rejection[] = [];
  const caveats: ServiceRemark[] = [];
  for (const key of [...chosen.keys()].sort()) {
    const service = byKey.get(key);
    const outcome =
      service === undefined
        ? reject('NotFound', 'There is no such Service. It is taken as soon as there is.')
        : judge(service, chosen.get(key), spec, finder, taken);
    if ('rejected' in outcome) {
      const [namespace = '', name = ''] = key.split('/');
      rejected.push({ namespace, name, ...outcome.rejected });
      continue;
    }
    services.push(outcome.service);
    const { namespace, name } = outcome.service;
    for (const caveat of outcome.caveats) caveats.push({ namespace, name, ...caveat });
  }
  const virtualServers = services.reduce((sum, service) => sum + countVirtualServers(service), 0);
  return { services, rejected, caveats, selected: chosen.size, virtualServers };
}

/** Addresses times ports; a node port counts once. */
export function countVirtualServers(service: SliceService): number {
  return service.virtualServers.reduce(
    (sum, { addresses, ports }) => sum + addresses.length * ports.length,
    service.nodePorts.length,
  );
}

/** Key → ports; an entry of include says more than the selector does, and exclude wins over both. */
function choose(
  whitelist: PolicySpec['services'],
  facts: SelectionFacts,
  byKey: ReadonlyMap<string, ClusterService>,
): Map<string, PortSelection> {
  const chosen = new Map<string, PortSelection>();
  const { selector } = whitelist;
  if (selector !== undefined) {
    const namespaces = new Set(
      facts.namespaces
        .filter(({ metadata }) => selects(selector.namespaceSelector ?? {}, metadata.labels))
        .map(({ metadata }) => metadata.name),
    );
    for (const [key, { metadata }] of byKey) {
      if (!namespaces.has(metadata.namespace ?? '')) continue;
      if (selects(selector.serviceSelector ?? {}, metadata.labels)) chosen.set(key, undefined);
    }
  }
  for (const entry of whitelist.include) chosen.set(keyOf(entry), entry.ports);
  for (const entry of whitelist.exclude) chosen.delete(keyOf(entry));
  return chosen;
}

function judge(
  service: ClusterService,
  ports: PortSelection,
  spec: Pick<SelectionSpec, 'snat'>,
  finder: Finder,
  taken: Set<string>,
): Outcome {
  const obstacle = kindObstacle(service);
  if (obstacle !== undefined) return { rejected: obstacle };
  const filters = filterFindings(service, finder);
  if (filters.rejected !== undefined) return { rejected: filters.rejected };
  const { frontends, rejected, partly } = frontendsOf(service, { ports, snatMode: spec.snat.mode }, taken);
  if (rejected !== undefined) return { rejected };
  return {
    service: frontends,
    caveats: [...partly, ...filters.caveats, ...sourceCaveats(service, spec, finder)],
  };
}

interface Wish {
  readonly ports: PortSelection;
  readonly snatMode: PolicySpec['snat']['mode'];
}

/** What a Service comes to, whatever the rules of netfilter say. */
interface Draft {
  readonly frontends: SliceService;
  readonly rejected: Pick<Rejection, 'reason' | 'message'> | undefined;
  readonly partly: readonly Pick<ServiceRemark, 'reason' | 'message'>[];
}

/** The draft of a Service that no other one is in the way of, and the addresses and ports that it takes. */
interface KnownDraft {
  readonly wish: string;
  readonly draft: Draft;
  readonly takes: readonly string[];
}

/** By wish: seldom more than one. A list that grows would have room for many. */
const draftsOf = remember((_: ClusterService): { drafts: readonly KnownDraft[] } => ({ drafts: [] }));

/** With many Services an edit concerns one of them: only for that one something is computed. */
function frontendsOf(service: ClusterService, wish: Wish, taken: Set<string>): Draft {
  const kept = draftsOf(service);
  const name = wish.ports === undefined ? wish.snatMode : JSON.stringify([wish.snatMode, wish.ports]);
  let known = kept.drafts.find((draft) => draft.wish === name);
  if (known === undefined) {
    const takes = new Set<string>();
    known = { wish: name, draft: draftOf(service, wish, takes), takes: [...takes] };
    kept.drafts = [...kept.drafts, known];
  }
  if (known.takes.some((each) => taken.has(each))) return draftOf(service, wish, taken);
  for (const each of known.takes) taken.add(each);
  return known.draft;
}

function draftOf(service: ClusterService, { ports, snatMode }: Wish, taken: Set<string>): Draft {
  const selection = selectedPorts(service, ports);
  const many = selection.ports.length > MAX_PORTS;
  const { virtualServers, nodePorts, ...rest } = serviceFrontends(
    service,
    many ? [] : selection.ports,
    snatMode,
    taken,
  );
  const { name, namespace = '' } = service.metadata;
  const frontends = { namespace, name, virtualServers: [...virtualServers], nodePorts: [...nodePorts] };
  const dropped = [...(selection.problem === undefined ? [] : [selection.problem]), ...rest.dropped];
  const tooMany = `It has ${selection.ports.length} ports, more than ${MAX_PORTS}.`;
  const rejected = many
    ? ({ reason: 'TooManyPorts', message: tooMany } as const)
    : countVirtualServers(frontends) === 0
      ? (dropped[0] ?? noPorts)
      : undefined;
  const partly = dropped.map(({ reason, message }) => ({
    reason: 'PartlyAccelerated' as const,
    message: `${reason}: ${message}`,
  }));
  return { frontends, rejected, partly };
}

const MAX_PORTS = 1000;
const noPorts = { reason: 'PortNotFound', message: 'It has no ports.' } as const;

function reject(reason: RejectReason, message: string): Outcome {
  return { rejected: { reason, message } };
}

/** Services that kube-proxy makes no virtual servers for. */
function kindObstacle(service: ClusterService): Pick<Rejection, 'reason' | 'message'> | undefined {
  const { metadata, spec } = service;
  const labels = metadata.labels ?? {};
  if (spec?.type === 'ExternalName') {
    return { reason: 'ExternalName', message: 'It is an alias in DNS: there are no packets to it.' };
  }
  if (spec?.clusterIP === 'None' || 'service.kubernetes.io/headless' in labels) {
    return { reason: 'Headless', message: 'It has no virtual address: clients reach its pods directly.' };
  }
  const proxy = labels['service.kubernetes.io/service-proxy-name'];
  if (proxy !== undefined) {
    return { reason: 'OtherProxy', message: `Label service-proxy-name gives it to the proxy "${proxy}".` };
  }
  if (clusterAddresses(service).length === 0) {
    return { reason: 'NoAddress', message: 'It has no cluster address yet.' };
  }
  return undefined;
}

function clusterAddresses({ spec }: ClusterService): readonly string[] {
  return (spec?.clusterIPs ?? [spec?.clusterIP ?? '']).filter((address) => address !== '');
}

/** What the Service's pods see as the source of requests. */
function sourceCaveats(
  service: ClusterService,
  spec: Pick<SelectionSpec, 'snat'>,
  { filters }: Finder,
): Pick<ServiceRemark, 'reason' | 'message'>[] {
  const caveats: Pick<ServiceRemark, 'reason' | 'message'>[] = [];
  if (filters.withPods.has(serviceKey(service))) {
    caveats.push({
      reason: 'SelfAccessTranslated',
      message:
        'A pod that reaches itself through this Service sees an address of its node as the source, ' +
        "not its own. IpvsBpfNode's status.selfAccess says which.",
    });
  }
  if (spec.snat.mode === 'Always') {
    caveats.push({
      reason: 'ClientSourceTranslated',
      message:
        'snat.mode Always: its pods see an address of a node, not of the client pod, as the source of ' +
        'requests to its cluster address.',
    });
  }
  if (filters.egress) {
    caveats.push({
      reason: 'EgressPoliciesBypassed',
      message:
        'There are NetworkPolicies for egress: netfilter does not enforce them for requests to this Service.',
    });
  }
  return caveats;
}

const serviceKey = remember(({ metadata }: ClusterService) => `${metadata.namespace ?? ''}/${metadata.name}`);
