// SPDX-License-Identifier: Apache-2.0
/** The maps of bpf/abi.h as the reference model sees them. Numbers are numbers, whatever their byte order. */

/** 16 bytes in hexadecimal digits: an IPv6 address, or an IPv4 one as ::ffff:a.b.c.d. */
export type Address = string;
export type Family = 4 | 6;

export const MAPPED = '00000000000000000000ffff';
export const TCP = 6;
export const UDP = 17;
export const SCTP = 132;
/** Ids in the SNAT word that stand for no address. */
export const UNDECIDED = 0;
export const KEPT = 0xffff;
export const SNAT_MODE = { never: 0, external: 1, always: 2 } as const;

export interface SessionKey {
  readonly caddr: Address;
  readonly cport: number;
  readonly serviceId: number;
}

/** The SNAT word. Cookie 0: the session is being removed. */
export interface SnatEnd {
  readonly cookie: number;
  /** UNDECIDED, KEPT, or that of an address. */
  readonly addressId: number;
  readonly port: number;
}

export interface Path {
  /** Both addresses of the Ethernet header: 12 bytes in hexadecimal digits. */
  readonly ethernet: string;
  /** Counted, and not taken over yet. */
  readonly packets: number;
  readonly bytes: number;
  /** Jiffies until its end when the scene begins; not positive: it has ended. */
  readonly left: number;
  readonly inIfindex: number;
  /** 0: no path. */
  readonly outIfindex: number;
  readonly mtu: number;
  readonly toPeer: boolean;
  /** IPVS has to know of each packet. */
  readonly tell: boolean;
}

export interface Session {
  readonly key: SessionKey;
  readonly vaddr: Address;
  readonly vport: number;
  readonly daddr: Address;
  readonly dport: number;
  readonly protocol: number;
  readonly family: Family;
  readonly mode: number;
  readonly snat: SnatEnd;
  /** A program has seen a packet of it. */
  readonly seen: boolean;
  readonly request: Path;
  readonly reply: Path;
}

export interface ServiceKey {
  readonly vaddr: Address;
  readonly vport: number;
  readonly protocol: number;
}

export interface ReplyKey {
  readonly daddr: Address;
  readonly dport: number;
  readonly port: number;
  readonly addressId: number;
  readonly protocol: number;
}

export interface FragmentKey {
  readonly saddr: Address;
  readonly daddr: Address;
  /** The identification as in the header: 2 or 4 bytes in hexadecimal digits. */
  readonly id: string;
  readonly protocol: number;
}

/** A datagram that leaves in fragments. `length`: bytes behind the IP header of all of them. */
export interface Announced {
  readonly key: FragmentKey;
  readonly session: SessionKey;
  readonly length: number;
}

export type PoolKey = Omit<ReplyKey, 'port'>;
/** What ipvs_exhausted says: the hold is over, goes on for long, or was written by a program and lasts a second. */
export type Hold = 'over' | 'long' | 'written';

export interface Prefix {
  /** Bits of the 128. */
  readonly length: number;
  readonly addr: Address;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Everything that a program may read; the maps by the text of their keys. */
export interface Maps {
  readonly services: ReadonlyMap<string, { readonly key: ServiceKey; readonly id: number }>;
  readonly addresses: ReadonlyMap<number, { readonly addr: Address; readonly family: Family }>;
  /** Inverse of `addresses`. */
  readonly addressIds: ReadonlyMap<Address, number>;
  readonly interfaces: ReadonlyMap<string, { readonly ifindex: number; family: Family; id: number }>;
  readonly cluster: readonly Prefix[];
  readonly ports: readonly PortRange[];
  /** Elements that ipvs_replies has room for, give or take what each CPU keeps to itself. */
  readonly maxReplies: number;
  readonly sessions: Map<string, Session>;
  readonly replies: Map<string, { readonly key: ReplyKey; readonly session: SessionKey }>;
  readonly fragments: Map<string, Announced>;
  readonly exhausted: Map<string, { readonly key: PoolKey; readonly hold: Hold }>;
  /** Ports of virtual servers that the programs know of, because a session's request has left. */
  readonly knownPorts: Set<number>;
}

export type Direction = 'request' | 'reply';

/** What a program does to the maps. */
export type Change =
  | { readonly kind: 'seen'; readonly session: Session }
  | { readonly kind: 'counted'; readonly session: Session; readonly direction: Direction; bytes: number }
  | { readonly kind: 'decided'; readonly session: Session; readonly snat: SnatEnd }
  | { readonly kind: 'reserved'; readonly key: ReplyKey; readonly session: SessionKey }
  | { readonly kind: 'exhausted'; readonly key: PoolKey }
  | { readonly kind: 'fragments end'; readonly key: FragmentKey }
  | { readonly kind: 'port known'; readonly port: number };

export const serviceText = (key: ServiceKey) => `${key.vaddr} ${key.vport} ${key.protocol}`;
export const sessionText = (key: SessionKey) => `${key.caddr} ${key.cport} ${key.serviceId}`;
export const poolText = (key: PoolKey) => `${key.daddr} ${key.dport} ${key.addressId} ${key.protocol}`;
export const replyText = (key: ReplyKey) => `${poolText(key)} ${key.port}`;
export const fragmentText = (key: FragmentKey) => `${key.saddr} ${key.daddr} ${key.id} ${key.protocol}`;
export const interfaceText = (ifindex: number, family: Family) => `${ifindex} ${family}`;

/** The session as it is now: earlier changes may have replaced it. */
function current(maps: Maps, session: Session): Session {
  return maps.sessions.get(sessionText(session.key)) ?? session;
}

function replace(maps: Maps, session: Session, fields: Partial<Session>): void {
  maps.sessions.set(sessionText(session.key), { ...current(maps, session), ...fields });
}

function counted(maps: Maps, session: Session, direction: Direction, bytes: number): void {
  const path = current(maps, session)[direction];
  const more = { ...path, packets: path.packets + 1, bytes: path.bytes + bytes };
  replace(maps, session, { [direction]: more });
}

/** Carries out a change on the mirror of the maps. */
export function apply(maps: Maps, change: Change): void {
  switch (change.kind) {
    case 'seen':
      replace(maps, change.session, { seen: true });
      break;
    case 'counted':
      counted(maps, change.session, change.direction, change.bytes);
      break;
    case 'decided':
      replace(maps, change.session, { snat: change.snat });
      break;
    case 'reserved':
      maps.replies.set(replyText(change.key), { key: change.key, session: change.session });
      break;
    case 'exhausted':
      maps.exhausted.set(poolText(change.key), { key: change.key, hold: 'written' });
      break;
    case 'fragments end':
      maps.fragments.delete(fragmentText(change.key));
      break;
    case 'port known':
      maps.knownPorts.add(change.port);
      break;
  }
}
