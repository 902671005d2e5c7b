// SPDX-License-Identifier: Apache-2.0
/**
 * The choice of a session's SNAT end, which is the program's as far as the port goes: the model says what it may
 * be, looks at what it was, and takes it over.
 */
import type { Counter } from '../datapath.ts';
import {
  type Address,
  type Change,
  interfaceText,
  KEPT,
  type Maps,
  type PoolKey,
  poolText,
  type ReplyKey,
  replyText,
  type Session,
  SNAT_MODE,
  type SnatEnd,
  UNDECIDED,
} from './maps.ts';
import type { Chosen } from './outcome.ts';

type Choice = { readonly changes: readonly Change[]; readonly problem?: string } & (
  | { readonly snat: SnatEnd }
  | { readonly drop: Counter }
);

/** IPVS_SNAT_ADDRS: ids are below. */
const ADDRESSES = 1024;
/** Elements of a map that CPUs may keep to themselves. */
const SLACK = 16;

function isIn(prefix: { readonly length: number; readonly addr: Address }, address: Address): boolean {
  const digits = prefix.length >> 2;
  if (prefix.addr.slice(0, digits) !== address.slice(0, digits)) return false;
  const bits = prefix.length & 3;
  if (bits === 0) return true;
  const digit = (text: Address) => Number.parseInt(text.charAt(digits), 16) >> (4 - bits);
  return digit(prefix.addr) === digit(address);
}

/** A real server would answer itself without a translation; all else is as the agent has decided. */
function isWanted(maps: Maps, { key, daddr, mode }: Session): boolean {
  if (key.caddr === daddr) return true;
  if (mode === SNAT_MODE.external) return !maps.cluster.some((prefix) => isIn(prefix, key.caddr));
  return mode === SNAT_MODE.always;
}

function portsOf(maps: Maps): number {
  return maps.ports.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

function takenIn(maps: Maps, pool: PoolKey): number {
  const wanted = poolText(pool);
  return [...maps.replies.values()].filter(({ key }) => poolText(key) === wanted).length;
}

const refusal = (drop: Counter, changes: readonly Change[] = []): Choice => ({ drop, changes });
const wrong = (problem: string): Choice => ({ drop: 'DROP_NO_PORT', changes: [], problem });

/** No port was taken: was that right? */
function refused(maps: Maps, pool: PoolKey, free: number): Choice {
  const hold = maps.exhausted.get(poolText(pool))?.hold;
  if (free === 0) return refusal('DROP_NO_PORT', hold === 'long' ? [] : [{ kind: 'exhausted', key: pool }]);
  if (hold === 'long' || hold === 'written') return refusal('DROP_NO_PORT');
  if (maps.replies.size >= maps.maxReplies - SLACK) return refusal('DROP_REPLIES_FULL');
  return wrong(`no SNAT end, although ${free} ports are free at ${poolText(pool)}`);
}

function taken(maps: Maps, session: Session, key: ReplyKey, snat: SnatEnd): Choice {
  const problem = (what: string) => wrong(`${what}: ${JSON.stringify(snat)} for ${poolText(key)}`);
  if (snat.cookie !== session.snat.cookie) return problem('another cookie');
  if (snat.addressId !== key.addressId) return problem('another address');
  if (!maps.ports.some(({ first, last }) => snat.port >= first && snat.port <= last))
    return problem('a port outside the ranges');
  if (maps.replies.has(replyText(key))) return problem('a port that is taken');
  if (maps.replies.size >= maps.maxReplies + SLACK) return problem('an entry in a map that is full');
  const changes: Change[] = [
    { kind: 'reserved', key, session: session.key },
    { kind: 'decided', session, snat },
  ];
  return { snat, changes };
}

/** For a session without a decision, whose first packet leaves by this interface. */
export function choose(maps: Maps, session: Session, ifindex: number, chosen: Chosen): Choice {
  const { cookie } = session.snat;
  if (!isWanted(maps, session)) {
    const snat = { cookie, addressId: KEPT, port: 0 };
    return { snat, changes: [{ kind: 'decided', session, snat }] };
  }
  const addressId = maps.interfaces.get(interfaceText(ifindex, session.family))?.id ?? 0;
  if (addressId === 0 || addressId >= ADDRESSES) return refusal('DROP_NO_ADDRESS');
  const { daddr, dport, protocol } = session;
  const pool = { daddr, dport, addressId, protocol };
  const total = portsOf(maps);
  if (total === 0) return refusal('DROP_NO_PORT');
  const snat = chosen();
  if (snat.addressId === UNDECIDED) return refused(maps, pool, total - takenIn(maps, pool));
  return taken(maps, session, { ...pool, port: snat.port }, snat);
}
