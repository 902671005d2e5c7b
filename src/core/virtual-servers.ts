// SPDX-License-Identifier: Apache-2.0
/** Which virtual servers run accelerated, and which entries the whitelist map needs for that. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { VirtualServerReason } from '../api/node-status.ts';
import type { HeldEnd, ServiceEntry, SnatMode } from '../datapath-ports.ts';
import type { Protocol, VirtualServer } from '../ports.ts';
import { addressFamily, SERVICE_ID_MAX } from './abi.ts';
import { endText, isLinkLocal, isMapped } from './addresses.ts';
import { remember, rememberLast } from './remember.ts';

const MASQUERADING = 0;
/** IP_VS_SVC_F_ONEPACKET */
const ONE_PACKET = 4;

interface Keyed {
  readonly protocol?: Protocol | undefined;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
  readonly fwmark?: number | undefined;
  readonly family?: string | undefined;
}

/**
 * A virtual server's name among all: protocol, address and port, or firewall mark. Joined, because V8 keeps a template's
 * parts beside the text that it makes of them later, and there are tables of thousands of keys.
 */
export function virtualServerKey(server: Keyed): string {
  if (server.fwmark !== undefined && server.fwmark !== 0)
    return `fwmark ${server.fwmark} ${server.family ?? ''}`;
  return [server.protocol, server.address, server.port].join(' ');
}

const index = remember(
  (servers: readonly Keyed[]): ReadonlyMap<string, Keyed> =>
    new Map(servers.map((server) => [virtualServerKey(server), server])),
);

/** The virtual servers of a list by virtualServerKey(); made once for each list, which nobody may change. */
export function byKey<T extends Keyed>(servers: readonly T[]): ReadonlyMap<string, T> {
  return index(servers) as ReadonlyMap<string, T>;
}

/** The addresses of the virtual servers of a list, made once for each. */
export const addressesOf: (servers: readonly VirtualServer[]) => ReadonlySet<string> = remember(
  (servers) => new Set(servers.flatMap(({ address }) => address ?? [])),
);

/** The ends of virtual servers and of their real servers, each once. Those of a firewall mark or of any port have none. */
export function serverEnds(servers: readonly VirtualServer[]): readonly HeldEnd[] {
  const ends = new Map<string, HeldEnd>();
  for (const { protocol, address, port, realServers } of servers) {
    if (protocol === undefined || address === undefined) continue;
    for (const end of [{ address, port: port ?? 0 }, ...realServers]) {
      const key = `${protocol} ${endText(end.address, end.port)}`;
      if (end.port !== 0) ends.set(key, { protocol, address: end.address, port: end.port });
    }
  }
  return [...ends.values()];
}

/** virtualServerKey() for people: "TCP 10.96.0.10 port 80". */
export function serverText(key: string): string {
  return key.replace(/ (\d+)$/, ' port $1');
}

/** Why this virtual server cannot run accelerated, or undefined if it can. */
export function obstacle(server: VirtualServer): VirtualServerReason | undefined {
  if (server.fwmark !== undefined && server.fwmark !== 0) return 'FirewallMark';
  const ofAddress = server.address === undefined ? undefined : addressObstacle(server.address);
  if (ofAddress !== undefined) return ofAddress;
  if (server.port === undefined || server.port === 0) return 'AnyPort';
  if ((server.flags & ONE_PACKET) !== 0) return 'OnePacketScheduling';
  if (server.persistenceEngine !== undefined && server.persistenceEngine !== '') return 'PersistenceEngine';
  if (server.realServers.some((real) => real.forwardingMethod !== MASQUERADING)) return 'NotMasquerading';
  return undefined;
}

/** The same for one that the config names and IPVS does not have (yet). */
export function namedObstacle({ address }: { readonly address: string }): VirtualServerReason | undefined {
  return addressObstacle(address);
}

/** The module leaves packets with link-local addresses alone, and takes an IPv4-mapped one for the IPv4 address. */
function addressObstacle(address: string): VirtualServerReason | undefined {
  if (isLinkLocal(address)) return 'LinkLocalAddress';
  return isMapped(address) ? 'MappedAddress' : undefined;
}

/** Why no virtual server of this one's family runs accelerated on this machine, or undefined if they do. */
export function familyObstacle(
  { address = '' }: { readonly address?: string | undefined },
  ip6Forward: boolean,
): VirtualServerReason | undefined {
  return addressFamily(address) === 'IPv6' && !ip6Forward ? 'IPv6ForwardingOff' : undefined;
}

/** A whitelist entry before it has an id. */
export type DesiredService = Omit<ServiceEntry, 'id'>;

/** The entries that the whitelist should hold. */
export function desiredServices(
  { services, snat, datapath }: NodeConfig,
  table: readonly VirtualServer[],
  { ip6Forward }: { readonly ip6Forward: boolean },
): readonly DesiredService[] {
  const { virtualServers, all } = services;
  return desiredEntries(virtualServers, table, all, snat.mode, datapath.onMapFull === 'Drop', ip6Forward);
}

const desiredEntries = rememberLast(
  (
    named: NodeConfig['services']['virtualServers'],
    table: readonly VirtualServer[],
    all: boolean,
    mode: SnatMode,
    dropOnFull: boolean,
    ip6Forward: boolean,
  ): readonly DesiredService[] => {
    const known = byKey(table);
    const entry = (
      { address, port, protocol }: Pick<ServiceEntry, 'address' | 'port' | 'protocol'>,
      snat: SnatMode,
    ): DesiredService => ({ address, port, protocol, snat, dropOnFull });
    const ofNamed = [...byKey(named)]
      .filter(([key, server]) => {
        const existing = known.get(key);
        const cannot = existing === undefined ? namedObstacle(server) : obstacle(existing);
        return (cannot ?? familyObstacle(server, ip6Forward)) === undefined;
      })
      .map(([, server]) => entry(server, server.snat?.mode ?? mode));
    const ofAll = (all ? table : []).flatMap((server) => {
      const { address, port, protocol } = server;
      const possible = (obstacle(server) ?? familyObstacle(server, ip6Forward)) === undefined;
      if (!possible || address === undefined || port === undefined || protocol === undefined) return [];
      return [entry({ address, port, protocol }, mode)];
    });
    return [...ofNamed, ...ofAll];
  },
);

export interface ServiceDiff {
  readonly put: readonly { readonly entry: ServiceEntry; readonly previous?: ServiceEntry }[];
  readonly remove: readonly ServiceEntry[];
}

/**
 * What is to be put goes by virtualServerKey(). New entries get ids above `lastId`: an id is never given to a second
 * virtual server.
 */
export const diffServices: (
  desired: readonly DesiredService[],
  actual: readonly ServiceEntry[],
  lastId: number,
) => ServiceDiff = rememberLast((desired, actual, lastId) => {
  const existing = byKey(actual);
  const wanted = byKey(desired);
  const changed = [...wanted].filter(([key, { snat, dropOnFull }]) => {
    const previous = existing.get(key);
    return previous?.snat !== snat || previous.dropOnFull !== dropOnFull;
  });
  let next = actual.reduce((highest, { id }) => Math.max(highest, id), lastId) + 1;
  const put: { entry: ServiceEntry; previous?: ServiceEntry }[] = [];
  for (const [key, service] of changed.sort(([a], [b]) => compare(a, b))) {
    const previous = existing.get(key);
    if (previous === undefined) put.push({ entry: { ...service, id: checkedId(next++) } });
    else put.push({ entry: { ...service, id: previous.id }, previous });
  }
  const unwanted = [...existing].filter(([key]) => !wanted.has(key));
  return { put, remove: unwanted.map(([, entry]) => entry) };
});

function checkedId(id: number): number {
  if (id > SERVICE_ID_MAX)
    throw new RangeError('all service ids are used up; "node down" and "up" start anew');
  return id;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
