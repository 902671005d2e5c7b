// SPDX-License-Identifier: Apache-2.0
/**
 * What the maps hold before packets come. A world is what an agent has set up; a scene adds connections, with
 * few addresses and ports, so that they come close to each other.
 */
import type { Variant } from './kernel.ts';
import {
  type Address,
  type Family,
  type FragmentKey,
  fragmentText,
  type Hold,
  interfaceText,
  KEPT,
  MAPPED,
  type Maps,
  type Path,
  poolText,
  type ReplyKey,
  replyText,
  SCTP,
  type ServiceKey,
  type Session,
  type SessionKey,
  type SnatEnd,
  serviceText,
  sessionText,
  TCP,
  UDP,
  UNDECIDED,
} from './maps.ts';
import type { Random } from './random.ts';

const mapped = (...bytes: number[]): Address => MAPPED + Buffer.from(bytes).toString('hex');
const six = (prefix: string, last: string): Address => prefix.padEnd(32 - last.length, '0') + last;

export interface Pool {
  readonly clients: readonly Address[];
  readonly virtuals: readonly Address[];
  readonly reals: readonly Address[];
  readonly own: readonly Address[];
  readonly routers: readonly Address[];
}

/** The second real server is a client, too, and each family has a client in the cluster. */
export const POOLS: Readonly<Record<Family, Pool>> = {
  4: {
    clients: [mapped(198, 51, 100, 7), mapped(198, 51, 100, 8), mapped(10, 244, 1, 9), mapped(10, 0, 0, 3)],
    virtuals: [mapped(203, 0, 113, 1), mapped(203, 0, 113, 2)],
    reals: [mapped(10, 0, 0, 2), mapped(10, 0, 0, 3)],
    own: [mapped(10, 0, 0, 1), mapped(10, 0, 9, 1)],
    routers: [mapped(198, 51, 100, 254), mapped(10, 0, 0, 254)],
  },
  6: {
    clients: [six('20010db8000c', '7'), six('20010db8000c', '8'), six('fd000244', '9'), six('fd000002', '3')],
    virtuals: [six('20010db80099', '1'), six('20010db80099', '2')],
    reals: [six('fd000002', '2'), six('fd000002', '3')],
    own: [six('fd000002', '1'), six('fd000009', '1')],
    routers: [six('20010db8000c', 'fe'), six('fd000002', 'fe')],
  },
};

export const VPORTS = [80, 443, 53, 8080];
const DPORTS = [8080, 80, 5353];
const CLIENT_PORTS = [40000, 40001, 1024, 65535];
const PREFIXES = [
  { length: 96 + 16, addr: mapped(10, 244, 0, 0) },
  { length: 96 + 22, addr: mapped(198, 51, 100, 0) },
  { length: 96 + 29, addr: mapped(198, 51, 100, 8) },
  { length: 30, addr: six('fd000244', '0') },
  { length: 125, addr: six('20010db8000c', '8') },
];

/** A device of the namespace that the programs run in. */
export interface Device {
  readonly ifindex: number;
  readonly mac: string;
}

export const DEVICES: readonly Device[] = [
  { ifindex: 1, mac: '000000000000' },
  { ifindex: 101, mac: '020000000065' },
  { ifindex: 102, mac: '020000000066' },
];

const SNAT_PORTS = [
  { first: 20000, last: 20099 },
  { first: 30000, last: 30000 },
  { first: 50000, last: 59999 },
  { first: 65534, last: 65535 },
];

/** More replies than a scene has. */
const ROOMY = 1024;

/** Programs that are loaded: ports that suffice, ports that do not, and a map that does not. */
export const VARIANTS: readonly Variant[] = [
  { name: 'many ports', ports: SNAT_PORTS, maxReplies: ROOMY },
  {
    name: 'few ports',
    ports: [
      { first: 30000, last: 30001 },
      { first: 65535, last: 65535 },
    ],
    maxReplies: ROOMY,
  },
  { name: 'a small map of replies', ports: SNAT_PORTS, maxReplies: 12 },
];

export type World = Omit<Maps, 'sessions' | 'replies' | 'fragments' | 'exhausted' | 'knownPorts'>;

function makeAddresses(random: Random): Map<number, { addr: Address; family: Family }> {
  const ids = [1, 2, 3, 1023];
  const all = ([4, 6] as const).flatMap((family) => POOLS[family].own.map((addr) => ({ addr, family })));
  // One in sixteen has been taken away by the agent; sessions and interfaces may still name it.
  return new Map(all.map((own, i) => [ids[i] ?? 0, own] as const).filter(() => !random.oneIn(16)));
}

/** Ids 1, 2 are IPv4's, 3 and 1023 IPv6's. */
export const addressIdsOf = (family: Family): readonly number[] => (family === 4 ? [1, 2] : [3, 1023]);

function makeInterfaces(random: Random): World['interfaces'] {
  const all = DEVICES.flatMap(({ ifindex }) => ([4, 6] as const).map((family) => ({ ifindex, family })));
  const some = all.filter(() => !random.oneIn(16));
  return new Map(
    some.map(({ ifindex, family }) => {
      const id = random.oneIn(40) ? 1024 : random.pick(addressIdsOf(family));
      return [interfaceText(ifindex, family), { ifindex, family, id }];
    }),
  );
}

export function makeWorld(random: Random, { ports, maxReplies }: Variant): World {
  const addresses = makeAddresses(random);
  const services = new Map<string, { key: ServiceKey; id: number }>();
  for (let i = random.between(3, 8); i > 0; i -= 1) {
    const pool = POOLS[random.pick([4, 6] as const)];
    const vaddr = random.pick(pool.virtuals);
    const key = { vaddr, vport: random.pick(VPORTS), protocol: random.pick([TCP, UDP, SCTP]) };
    services.set(serviceText(key), { key, id: random.oneIn(4) ? random.between(1, 0xffffff) : i });
  }
  return {
    services,
    addresses,
    addressIds: new Map([...addresses].map(([id, { addr }]) => [addr, id])),
    interfaces: makeInterfaces(random),
    cluster: PREFIXES.filter(() => random.oneIn(2)),
    ports,
    maxReplies,
  };
}

export function randomPort(random: Random, { ports }: Pick<Maps, 'ports'>): number {
  const { first, last } = random.pick(ports);
  return random.between(first, last);
}

/** From and to DEVICES; over, or none, now and then. */
export function makePath(random: Random): Path {
  const left = random.oneIn(10) ? -random.below(2 ** 30) : random.between(2 ** 29, 2 ** 30);
  return {
    ethernet: random.bytes(12).toString('hex'),
    packets: random.below(1000),
    bytes: random.below(2 ** 36),
    left,
    inIfindex: random.pick(DEVICES).ifindex,
    outIfindex: random.oneIn(8) ? 0 : random.pick(DEVICES).ifindex,
    mtu: random.weighted([
      [8, 1500],
      [2, random.between(28, 120)],
      [1, 65535],
    ]),
    toPeer: random.oneIn(3),
    tell: random.oneIn(16),
  };
}

function makeSnatEnd(random: Random, world: World, family: Family): SnatEnd {
  const cookie = random.word() || 1;
  const id = random.pick(addressIdsOf(family));
  return random.weighted<() => SnatEnd>([
    [8, () => ({ cookie, addressId: UNDECIDED, port: 0 })],
    [3, () => ({ cookie, addressId: KEPT, port: 0 })],
    [14, () => ({ cookie, addressId: id, port: randomPort(random, world) })],
    [1, () => ({ cookie: 0, addressId: 0, port: 0 })],
    [1, () => ({ cookie, addressId: 500, port: randomPort(random, world) })],
  ])();
}

/** Of a service that is on the whitelist, or was. */
function makeSession(random: Random, world: World, isCrowded: boolean): Session {
  const service = random.pick([...world.services.values()]);
  const family: Family = service.key.vaddr.startsWith(MAPPED) ? 4 : 6;
  const pool = POOLS[family];
  const isOld = random.oneIn(8);
  return {
    key: {
      caddr: random.pick(pool.clients),
      cport: random.oneIn(4) ? randomPort(random, world) : random.pick(CLIENT_PORTS),
      serviceId: isOld ? 0xabcdef : service.id,
    },
    vaddr: service.key.vaddr,
    vport: service.key.vport,
    daddr: isCrowded ? (pool.reals[0] as Address) : random.pick(pool.reals),
    dport: isCrowded ? (DPORTS[0] as number) : random.pick(DPORTS),
    protocol: service.key.protocol,
    family,
    mode: random.pick([0, 1, 1, 2, 2]),
    snat: makeSnatEnd(random, world, family),
    seen: false,
    request: makePath(random),
    reply: makePath(random),
  };
}

/** The entry that a session's SNAT end was reserved with. */
export function replyKeyOf({ daddr, dport, protocol, snat }: Session): ReplyKey {
  return { daddr, dport, protocol, port: snat.port, addressId: snat.addressId };
}

function addReplies(random: Random, maps: Maps): void {
  const add = (key: ReplyKey, session: SessionKey) => {
    if (maps.replies.size < maps.maxReplies) maps.replies.set(replyText(key), { key, session });
  };
  for (const session of maps.sessions.values()) {
    const { addressId } = session.snat;
    if (addressId === UNDECIDED || addressId === KEPT || random.oneIn(12)) continue;
    add(replyKeyOf(session), session.key);
  }
  // Of sessions that are gone or have another end by now, and of others' pools.
  const sessions = [...maps.sessions.values()];
  for (let i = random.below(6); i > 0; i -= 1) {
    const session = random.pick(sessions);
    const addressId = random.pick(addressIdsOf(session.family));
    const key = { ...replyKeyOf(session), port: randomPort(random, maps), addressId };
    if (maps.replies.has(replyText(key))) continue;
    add(key, random.oneIn(2) ? session.key : { ...session.key, cport: 9 });
  }
}

function addFragments(random: Random, maps: Maps): void {
  for (const session of maps.sessions.values()) {
    if (!random.oneIn(3)) continue;
    const id = random.bytes(session.family === 4 ? 2 : 4).toString('hex');
    const key: FragmentKey = {
      saddr: session.key.caddr,
      daddr: session.daddr,
      id,
      protocol: session.protocol,
    };
    const length = random.between(20, random.oneIn(4) ? 65_535 : 3000);
    maps.fragments.set(fragmentText(key), { key, session: session.key, length });
  }
}

/** Not where the map of replies may be full: there would be two reasons to refuse a session, and no telling which. */
function addHolds(random: Random, maps: Maps): void {
  if (maps.maxReplies < ROOMY) return;
  for (const { daddr, dport, protocol, family } of maps.sessions.values()) {
    if (!random.oneIn(6)) continue;
    const key = { daddr, dport, protocol, addressId: random.pick(addressIdsOf(family)) };
    const hold: Hold = random.oneIn(2) ? 'long' : 'over';
    maps.exhausted.set(poolText(key), { key, hold });
  }
}

/** Maps of their own: the programs change them. */
export function makeScene(random: Random, world: World): Maps {
  const maps: Maps = {
    ...world,
    sessions: new Map(),
    replies: new Map(),
    fragments: new Map(),
    exhausted: new Map(),
    knownPorts: new Set(),
  };
  // Many of one real server: with few ports they do not suffice.
  const isCrowded = random.oneIn(3);
  for (let i = isCrowded ? 16 : random.between(6, 12); i > 0; i -= 1) {
    const session = makeSession(random, world, isCrowded);
    maps.sessions.set(sessionText(session.key), session);
  }
  addReplies(random, maps);
  addFragments(random, maps);
  addHolds(random, maps);
  for (const { vport } of maps.sessions.values()) if (!random.oneIn(5)) maps.knownPorts.add(vport);
  return maps;
}
