// SPDX-License-Identifier: Apache-2.0
/** Which interfaces get the programs, and which of their addresses stands for clients. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { SnatAddress, SnatInterface } from '../datapath-ports.ts';
import type { AddressFamily, Link, LinkAddress, Route } from '../ports.ts';
import { SNAT_ADDRESSES } from './abi.ts';

/** Names of the self-check's own interfaces begin with this. */
export const SELF_CHECK_PREFIX = 'ipvsbpf-chk';
export const LOOPBACK = 'lo';
/** The end here of the pair that its client is at. */
export const SELF_CHECK_CLIENT_SIDE = `${SELF_CHECK_PREFIX}0`;

/** Masters whose ports carry frames of the master: the program belongs on the master. */
const BUNDLES: ReadonlySet<string> = new Set(['bridge', 'bond', 'team', 'openvswitch']);
/** No packet of a client or real server leaves here, or none that begins with an Ethernet header. */
const NOT_DETECTED: ReadonlySet<string> = new Set([
  'loopback',
  'dummy',
  'ifb',
  'nlmon',
  'vcan',
  'can',
  'ipip',
  'sit',
  'gre',
  'ip6gre',
  'ip6tnl',
  'vti',
  'vti6',
  'xfrm',
  'tun',
  'wireguard',
  'ppp',
  'none',
]);

type InterfaceRules = NodeConfig['datapath']['interfaces'];

/** The interfaces that get the programs, in the order of their index. */
export function coveredLinks(rules: InterfaceRules, links: readonly Link[]): readonly Link[] {
  const isPort = portOfBundle(links);
  const detected = (link: Link): boolean =>
    rules.autoDetect === 'Enabled' && link.name !== LOOPBACK && !NOT_DETECTED.has(link.type) && !isPort(link);
  return links
    .filter((link) => link.up && !link.name.startsWith(SELF_CHECK_PREFIX))
    .filter((link) => !rules.exclude.some((pattern) => matchesPattern(link.name, pattern)))
    .filter((link) => detected(link) || rules.include.some((pattern) => matchesPattern(link.name, pattern)))
    .toSorted((a, b) => a.index - b.index);
}

function portOfBundle(links: readonly Link[]): (link: Link) => boolean {
  const types = new Map(links.map(({ index, type }) => [index, type]));
  return ({ masterIndex }) => BUNDLES.has(masterIndex === undefined ? '' : (types.get(masterIndex) ?? ''));
}

/** True if the name fits: * stands for any characters, ? for one. */
export function matchesPattern(name: string, pattern: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`).test(name);
}

/**
 * True if routes tell which address stands for clients: packets may leave by an interface that has none of its own of
 * this family or, with IPv6, has several.
 */
export function needsRoutes(
  links: readonly Link[],
  addresses: readonly LinkAddress[],
  family: AddressFamily,
): boolean {
  const counts = new Map<number, number>();
  for (const address of addresses) {
    if (isUsable(address, family)) counts.set(address.linkIndex, (counts.get(address.linkIndex) ?? 0) + 1);
  }
  const isPort = portOfBundle(links);
  return links
    .filter((link) => link.up && link.type !== 'loopback' && link.type !== 'dummy' && !isPort(link))
    .map(({ index }) => counts.get(index) ?? 0)
    .some((count) => count === 0 || (family === 'IPv6' && count > 1));
}

/** An IPv6 address that will not last, or that the kernel would not take for a new connection, stands for nobody. */
function isUsable(address: LinkAddress, family: AddressFamily): boolean {
  if (address.family !== family || address.scope !== 'global') return false;
  const { secondary: temporary, tentative = false, deprecated = false } = address;
  return family === 'IPv4' || !(temporary || tentative || deprecated);
}

export interface SnatPlan {
  /** Address ids that are not in the map yet. */
  readonly newAddresses: readonly SnatAddress[];
  readonly interfaces: readonly SnatInterface[];
  /** Interfaces for which there is no address of a family, or no address id is left. */
  readonly withoutAddress: readonly { readonly link: Link; readonly family: AddressFamily }[];
}

export interface SnatInput {
  /** Those that interfaces get an address of. */
  readonly families: readonly AddressFamily[];
  readonly covered: readonly Link[];
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  readonly routes: readonly Route[];
  /** Virtual addresses: clients know them, so they stand for a client only if there is nothing else. */
  readonly virtualAddresses: ReadonlySet<string>;
  readonly existing: readonly SnatAddress[];
}

/**
 * One address an interface and family: one of its own, else the one that stands for the machine, as MASQUERADE chooses
 * it (inet_select_addr in net/ipv4/devinet.c; RFC 6724). Pods of Calico and others are behind interfaces without any. An
 * id is bound to its address for as long as the maps live.
 */
export function planSnat(input: SnatInput): SnatPlan {
  const ids = new Map(input.existing.map(({ id, address }) => [address, id]));
  const used = new Set(ids.values());
  const newAddresses: SnatAddress[] = [];
  const interfaces: SnatInterface[] = [];
  const withoutAddress: { link: Link; family: AddressFamily }[] = [];
  let next = 1;
  const idOf = (address: string): number | undefined => {
    if (ids.has(address)) return ids.get(address);
    while (used.has(next)) next += 1;
    if (next >= SNAT_ADDRESSES) return undefined;
    newAddresses.push({ id: next, address });
    ids.set(address, next);
    used.add(next);
    return next;
  };
  for (const family of input.families) {
    const addressOf = snatAddresses(input, family);
    const fallback = machineAddress(input, addressOf, family);
    for (const link of input.covered) {
      const address = addressOf.get(link.index) ?? fallback;
      const addressId = address === undefined ? undefined : idOf(address);
      if (addressId === undefined) withoutAddress.push({ link, family });
      else interfaces.push({ ifindex: link.index, family, addressId });
    }
  }
  return { newAddresses, interfaces, withoutAddress };
}

/** Interface → the best of its addresses; in one pass, as kube-ipvs0 has thousands of them. */
function snatAddresses(input: SnatInput, family: AddressFamily): ReadonlyMap<number, string> {
  const { addresses, virtualAddresses } = input;
  const rank = ({ address, secondary }: LinkAddress): number =>
    (virtualAddresses.has(address) ? 2 : 0) + (secondary ? 1 : 0);
  const best = new Map<number, LinkAddress>();
  for (const address of addresses) {
    if (!isUsable(address, family)) continue;
    const before = best.get(address.linkIndex);
    if (before === undefined || rank(address) < rank(before)) best.set(address.linkIndex, address);
  }
  const own = [...best].map(([index, { address }]) => [index, address] as const);
  return new Map([...own, ...(family === 'IPv6' ? routeSources(input) : [])]);
}

/**
 * Interface → the IPv6 address that the routes by it name as the source, the default route's before that of others: who
 * has several addresses says so which one it is. IPv4's MASQUERADE does not go by that.
 */
function routeSources({ links, addresses, routes }: SnatInput): ReadonlyMap<number, string> {
  const virtual = new Set(links.filter(({ name }) => name === VIRTUAL_LINK).map(({ index }) => index));
  const usable = new Set(
    addresses
      .filter((address) => isUsable(address, 'IPv6') && !virtual.has(address.linkIndex))
      .map(({ address }) => address),
  );
  const sources = new Map<number, string>();
  const isDefault = ({ destination }: Route): boolean => destination === DEFAULT_ROUTES.IPv6;
  for (const { linkIndex, source } of [...routes.filter(isDefault), ...routes]) {
    if (source !== undefined && usable.has(source) && !sources.has(linkIndex)) {
      sources.set(linkIndex, source);
    }
  }
  return sources;
}

const DEFAULT_ROUTES: Readonly<Record<AddressFamily, string>> = { IPv4: '0.0.0.0/0', IPv6: '::/0' };
/** kube-proxy's, with addresses that other machines have too. */
const VIRTUAL_LINK = 'kube-ipvs0';

/**
 * The address of the interface with the default route, else of the first that has one. Not of loopback, nor of
 * kube-ipvs0, whose addresses are other machines' too; other dummy interfaces come last.
 */
function machineAddress(
  { links, routes }: SnatInput,
  addressOf: ReadonlyMap<number, string>,
  family: AddressFamily,
): string | undefined {
  const usable = links
    .filter(({ name, type, up }) => up && type !== 'loopback' && name !== LOOPBACK && name !== VIRTUAL_LINK)
    .filter(({ name }) => !name.startsWith(SELF_CHECK_PREFIX))
    .toSorted((a, b) => Number(a.type === 'dummy') - Number(b.type === 'dummy') || a.index - b.index)
    .map(({ index }) => index);
  const uplinks = routes
    .filter(({ destination }) => destination === DEFAULT_ROUTES[family])
    .map(({ linkIndex }) => linkIndex)
    .filter((index) => usable.includes(index));
  return [...uplinks, ...usable].flatMap((index) => addressOf.get(index) ?? [])[0];
}
