// SPDX-License-Identifier: Apache-2.0
/**
 * What a pod sees that reaches itself through its own Service. Both ends of such a connection are one address, so
 * tc egress translates the source whatever the Service asks for; see is_snat_wanted() in bpf/lib/snat.h.
 */
import type { NodeResourceStatus } from '../api/resources.ts';
import type { Link, Route, VirtualServer } from '../ports.ts';
import { addressFamily } from './abi.ts';
import type { NodeFacts } from './facts.ts';
import type { Caveat } from './reasons.ts';
import { longestMatch } from './route-table.ts';
import { byKey } from './virtual-servers.ts';

export type SelfAccess = NonNullable<NodeResourceStatus['selfAccess']>[number];

/** A virtual server of the whitelist that runs accelerated. */
export interface AcceleratedServer {
  readonly namespace: string;
  readonly name: string;
  /** virtualServerKey() */
  readonly key: string;
}

export interface SelfAccessInput {
  readonly accelerated: readonly AcceleratedServer[];
  readonly facts: Pick<NodeFacts, 'ipvs' | 'links' | 'addresses' | 'datapath'>;
  readonly routes: readonly Route[];
  /** What was written last: an entry that stays the same keeps its time. */
  readonly previous: readonly SelfAccess[];
  /** ISO 8601, for new entries. */
  readonly time: string;
}

const LIST_LENGTH = 20;
const REASON: Caveat = 'SelfAccessTranslated';
/** What a CNI plugin connects pods with. */
const POD_LINKS: ReadonlySet<string> = new Set(['veth', 'bridge']);

/** The first 20 Services, by namespace and name, that have pods on this node to which they send connections. */
export function selfAccess(input: SelfAccessInput): SelfAccess[] {
  const { accelerated, facts, previous, time } = input;
  const table = byKey(facts.ipvs?.virtualServers ?? []);
  const seenBy = sourceFinder(input);
  // Few of thousands of virtual servers have pods here.
  const seen = accelerated.flatMap(({ namespace, name, key }) =>
    sourcesOf(table.get(key), seenBy).map((sourceAddress) => ({ namespace, name, sourceAddress })),
  );
  const services = [...Map.groupBy(seen, ({ namespace, name }) => `${namespace}/${name}`)];
  return services
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, LIST_LENGTH)
    .flatMap(([, found]) => firstOfEachFamily(found))
    .map((first) => {
      const entry = { ...first, reason: REASON };
      return { ...entry, since: previous.find((before) => isSame(before, entry))?.since ?? time };
    });
}

type Seen = Pick<SelfAccess, 'namespace' | 'name'> & { readonly sourceAddress: string };

/** Pods behind several interfaces may see several addresses of a family: the first as texts stands for them. */
function firstOfEachFamily(found: readonly Seen[]): readonly Seen[] {
  const sorted = found.toSorted((a, b) => (a.sourceAddress < b.sourceAddress ? -1 : 1));
  return (['IPv4', 'IPv6'] as const).flatMap(
    (family) => sorted.find(({ sourceAddress }) => addressFamily(sourceAddress) === family) ?? [],
  );
}

function isSame(a: SelfAccess, b: Omit<SelfAccess, 'since'>): boolean {
  return (
    a.namespace === b.namespace &&
    a.name === b.name &&
    a.reason === b.reason &&
    a.sourceAddress === b.sourceAddress
  );
}

function sourcesOf(
  server: VirtualServer | undefined,
  seenBy: (address: string) => string | undefined,
): string[] {
  // A pod that is about to end has weight 0, and gets no new connections.
  return (server?.realServers ?? []).flatMap(({ address, weight }) =>
    weight === 0 ? [] : (seenBy(address) ?? []),
  );
}

/** Real server → source address that it sees of itself; undefined if it is no pod of this node. */
function sourceFinder({ facts, routes }: SelfAccessInput): (address: string) => string | undefined {
  const snat = snatAddresses(facts);
  const own = new Set(facts.addresses.map(({ address }) => address));
  const pods = podLinks(facts.links, routes);
  const routeTo = longestMatch(routes);
  const known = new Map<string, string | undefined>();
  return (address) => {
    if (known.has(address)) return known.get(address);
    const route = own.has(address) ? undefined : routeTo(address);
    const isPod = route !== undefined && !route.viaGateway && pods.has(route.linkIndex);
    const source = isPod ? snat.get(`${route.linkIndex} ${addressFamily(address)}`) : undefined;
    known.set(address, source);
    return source;
  };
}

/** "INTERFACE FAMILY" → SNAT address of packets that leave there, as the programs have it. */
function snatAddresses({ datapath }: Pick<NodeFacts, 'datapath'>): ReadonlyMap<string, string> {
  const byId = new Map(datapath?.snatAddresses.map(({ id, address }) => [id, address]));
  const out = new Map<string, string>();
  for (const { ifindex, family, addressId } of datapath?.snatInterfaces ?? []) {
    const address = byId.get(addressId);
    if (address !== undefined) out.set(`${ifindex} ${family}`, address);
  }
  return out;
}

/** Behind an interface that leads to a gateway are other machines, also if it is a bridge or a veth. */
function podLinks(links: readonly Link[], routes: readonly Route[]): ReadonlySet<number> {
  const uplinks = new Set(routes.filter(({ viaGateway }) => viaGateway).map(({ linkIndex }) => linkIndex));
  return new Set(
    links.filter(({ index, type }) => POD_LINKS.has(type) && !uplinks.has(index)).map(({ index }) => index),
  );
}
