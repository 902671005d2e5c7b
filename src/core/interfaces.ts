// SPDX-License-Identifier: Apache-2.0
/** Which interfaces get the programs, and which of their addresses stands for clients. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { SnatAddress, SnatInterface } from '../datapath-ports.ts';
import type { Link, LinkAddress, Route } from '../ports.ts';
import { SNAT_ADDRESSES } from './abi.ts';

/** Names of the self-check's own interfaces begin with this. */
export const SELF_CHECK_PREFIX = 'ipvsbpf-chk';
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
    rules.autoDetect === 'Enabled' && link.name !== 'lo' && !NOT_DETECTED.has(link.type) && !isPort(link);
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

/** True if packets may leave by an interface that has no IPv4 address of its own. */
export function hasUnaddressed(links: readonly Link[], addresses: readonly LinkAddress[]): boolean {
  const addressed = new Set(addresses.filter(isGlobal).map(({ linkIndex }) => linkIndex));
  const isPort = portOfBundle(links);
  return links
    .filter(({ type, up }) => up && type !== 'loopback' && type !== 'dummy')
    .some((link) => !isPort(link) && !addressed.has(link.index));
}

function isGlobal({ family, scope }: LinkAddress): boolean {
  return family === 'IPv4' && scope === 'global';
}

export interface SnatPlan {
  /** Address ids that are not in the map yet. */
  readonly newAddresses: readonly SnatAddress[];
  readonly interfaces: readonly SnatInterface[];
  /** Interfaces for which there is no address, or no address id is left. */
  readonly withoutAddress: readonly Link[];
}

export interface SnatInput {
  readonly covered: readonly Link[];
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  readonly routes: readonly Route[];
  /** Virtual addresses: clients know them, so they stand for a client only if there is nothing else. */
  readonly virtualAddresses: ReadonlySet<string>;
  readonly existing: readonly SnatAddress[];
}

/**
 * One address an interface: one of its own, else the one that stands for the machine, as MASQUERADE chooses it
 * (inet_select_addr in net/ipv4/devinet.c). Pods of Calico and others are behind interfaces without any. An id is bound
 * to its address for as long as the maps live.
 */
export function planSnat(input: SnatInput): SnatPlan {
  const ids = new Map(input.existing.map(({ id, address }) => [address, id]));
  const used = new Set(ids.values());
  const newAddresses: SnatAddress[] = [];
  const interfaces: SnatInterface[] = [];
  const withoutAddress: Link[] = [];
  const addressOf = snatAddresses(input);
  const fallback = machineAddress(input, addressOf);
  let next = 1;
  for (const link of input.covered) {
    const address = addressOf.get(link.index) ?? fallback;
    if (address !== undefined && !ids.has(address)) {
      while (used.has(next)) next += 1;
      if (next < SNAT_ADDRESSES) {
        newAddresses.push({ id: next, address });
        ids.set(address, next);
        used.add(next);
      }
    }
    const addressId = address === undefined ? undefined : ids.get(address);
    if (addressId === undefined) withoutAddress.push(link);
    else interfaces.push({ ifindex: link.index, family: 'IPv4', addressId });
  }
  return { newAddresses, interfaces, withoutAddress };
}

/** Interface → the best of its addresses; in one pass, as kube-ipvs0 has thousands of them. */
function snatAddresses({ addresses, virtualAddresses }: SnatInput): ReadonlyMap<number, string> {
  const rank = ({ address, secondary }: LinkAddress): number =>
    (virtualAddresses.has(address) ? 2 : 0) + (secondary ? 1 : 0);
  const best = new Map<number, LinkAddress>();
  for (const address of addresses) {
    if (!isGlobal(address)) continue;
    const before = best.get(address.linkIndex);
    if (before === undefined || rank(address) < rank(before)) best.set(address.linkIndex, address);
  }
  return new Map([...best].map(([index, { address }]) => [index, address]));
}

/**
 * The address of the interface with the default route, else of the first that has one. Not of loopback, nor of
 * kube-ipvs0, whose addresses are other machines' too; other dummy interfaces come last.
 */
function machineAddress(
  { links, routes }: SnatInput,
  addressOf: ReadonlyMap<number, string>,
): string | undefined {
  const usable = links
    .filter(({ name, type, up }) => up && type !== 'loopback' && name !== 'lo' && name !== 'kube-ipvs0')
    .filter(({ name }) => !name.startsWith(SELF_CHECK_PREFIX))
    .toSorted((a, b) => Number(a.type === 'dummy') - Number(b.type === 'dummy') || a.index - b.index)
    .map(({ index }) => index);
  const uplinks = routes
    .filter(({ destination }) => destination === '0.0.0.0/0')
    .map(({ linkIndex }) => linkIndex)
    .filter((index) => usable.includes(index));
  return [...uplinks, ...usable].flatMap((index) => addressOf.get(index) ?? [])[0];
}
