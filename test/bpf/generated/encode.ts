// SPDX-License-Identifier: Apache-2.0
/** The maps of bpf/abi.h as bytes: elements as `KEY VALUE` in hexadecimal digits, and back. */
import type { Address, Maps, Path, PoolKey, ReplyKey, Session, SessionKey } from './maps.ts';

/** A key or a value; its fields are written by their offset in the struct. */
function struct(size: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(size);
  write(bytes);
  return bytes;
}

export function sessionKeyBytes({ caddr, cport, serviceId }: SessionKey): Buffer {
  return struct(24, (bytes) => {
    bytes.write(caddr, 0, 'hex');
    bytes.writeUInt32LE(serviceId, 16);
    bytes.writeUInt16BE(cport, 20);
  });
}

const addressAt = (bytes: Buffer, at: number): Address => bytes.toString('hex', at, at + 16);

export function sessionKeyOf(key: Uint8Array): SessionKey {
  const bytes = Buffer.from(key);
  return { caddr: addressAt(bytes, 0), serviceId: bytes.readUInt32LE(16), cport: bytes.readUInt16BE(20) };
}

function writePath(bytes: Buffer, at: number, path: Path, now: number): void {
  bytes.write(path.ethernet, at, 'hex');
  bytes.writeUInt32LE((now + path.left) >>> 0, at + 12);
  bytes.writeUInt32LE(path.inIfindex, at + 16);
  bytes.writeUInt32LE(path.outIfindex, at + 20);
  bytes.writeUInt16LE(path.mtu, at + 24);
  bytes.writeUInt8(path.toPeer ? 1 : 0, at + 26);
  bytes.writeUInt8(path.tell ? 1 : 0, at + 27);
}

function writeCounted(bytes: Buffer, at: number, path: Path): void {
  bytes.writeUIntLE(path.bytes, at, 5);
  bytes.writeUIntLE(path.packets, at + 5, 3);
}

const SESSION_BYTES = 128;
/** Where the fields of a session begin, for people. */
const SESSION_FIELDS: readonly (readonly [at: number, name: string])[] = [
  [0, 'vaddr'],
  [16, 'daddr'],
  [32, 'vport'],
  [34, 'dport'],
  [36, 'protocol'],
  [37, 'family'],
  [38, 'flags'],
  [40, 'snat'],
  [48, 'seen'],
  [56, 'counted requests'],
  [64, 'counted replies'],
  [72, 'request'],
  [100, 'reply'],
];

/** The fields that two sessions in hexadecimal digits differ in. */
export function differingFields(expected: string, actual: string): string[] {
  return SESSION_FIELDS.flatMap(([at, name], i) => {
    const end = SESSION_FIELDS[i + 1]?.[0] ?? SESSION_BYTES;
    const [should, is] = [expected, actual].map((value) => value.slice(2 * at, 2 * end));
    return should === is ? [] : [`${name}: ${should} is ${is}`];
  });
}

/** All from here on is written in place while packets come; before it is what a session is. */
export const CHANGING = { offset: 48, size: 80 } as const;

/** Where `seen` stands: the only thing in a session that depends on when a program has run. */
export const SEEN = { offset: 48, size: 8 } as const;

/** `now`: jiffies that `left` of its paths counts from. `seen`, once set, is 1. */
export function sessionBytes(session: Session, now: number): Buffer {
  const { vaddr, daddr, vport, dport, protocol, family, mode, snat } = session;
  return struct(SESSION_BYTES, (bytes) => {
    bytes.write(vaddr, 0, 'hex');
    bytes.write(daddr, 16, 'hex');
    bytes.writeUInt16BE(vport, 32);
    bytes.writeUInt16BE(dport, 34);
    bytes.writeUInt8(protocol, 36);
    bytes.writeUInt8(family === 4 ? 2 : 10, 37);
    bytes.writeUInt16LE(mode, 38);
    bytes.writeUInt16BE(snat.port, 40);
    bytes.writeUInt16LE(snat.addressId, 42);
    bytes.writeUInt32LE(snat.cookie, 44);
    bytes.writeUInt8(session.seen ? 1 : 0, SEEN.offset);
    writeCounted(bytes, 56, session.request);
    writeCounted(bytes, 64, session.reply);
    writePath(bytes, 72, session.request, now);
    writePath(bytes, 100, session.reply, now);
  });
}

/** The SNAT word in the bytes of a session. */
export function snatOf(session: Uint8Array): Session['snat'] {
  const bytes = Buffer.from(session.buffer, session.byteOffset, session.length);
  const [port, addressId] = [bytes.readUInt16BE(40), bytes.readUInt16LE(42)];
  return { cookie: bytes.readUInt32LE(44), addressId, port };
}

/** A session without what it has counted and seen, and without its paths. */
export function sessionOf(key: Uint8Array, value: Uint8Array): Omit<Session, 'seen' | 'request' | 'reply'> {
  const bytes = Buffer.from(value);
  return {
    key: sessionKeyOf(key),
    vaddr: addressAt(bytes, 0),
    daddr: addressAt(bytes, 16),
    vport: bytes.readUInt16BE(32),
    dport: bytes.readUInt16BE(34),
    protocol: bytes.readUInt8(36),
    family: bytes.readUInt8(37) === 2 ? 4 : 6,
    mode: bytes.readUInt16LE(38),
    snat: snatOf(value),
  };
}

function replyKeyBytes({ daddr, dport, port, addressId, protocol }: ReplyKey): Buffer {
  return struct(24, (bytes) => {
    bytes.write(daddr, 0, 'hex');
    bytes.writeUInt16BE(dport, 16);
    bytes.writeUInt16BE(port, 18);
    bytes.writeUInt16LE(addressId, 20);
    bytes.writeUInt8(protocol, 22);
  });
}

function poolKeyBytes({ daddr, dport, addressId, protocol }: PoolKey): Buffer {
  return struct(24, (bytes) => {
    bytes.write(daddr, 0, 'hex');
    bytes.writeUInt16BE(dport, 16);
    bytes.writeUInt16LE(addressId, 18);
    bytes.writeUInt8(protocol, 20);
  });
}

export type Elements = readonly (readonly [key: Uint8Array, value: Uint8Array])[];

/** Nanoseconds on CLOCK_MONOTONIC that are over, and far away. */
const LONG_AGO = 1n;
const FAR_AWAY = 1n << 60n;

/** What a program writes itself is more than LONG_AGO and less than FAR_AWAY; encoded as 0. */
function holdBytes(hold: 'over' | 'long' | 'written'): Buffer {
  const until = { over: LONG_AGO, long: FAR_AWAY, written: 0n }[hold];
  return struct(8, (bytes) => bytes.writeBigUInt64LE(until));
}

/** As holdBytes would have it. */
export function normalHold(value: Uint8Array): Buffer {
  const until = Buffer.from(value).readBigUInt64LE();
  return until > LONG_AGO && until < FAR_AWAY ? holdBytes('written') : Buffer.from(value);
}

/** As sessionBytes would have it. */
export function normalSession(value: Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  const isSeen = bytes.subarray(SEEN.offset, SEEN.offset + SEEN.size).some((byte) => byte !== 0);
  bytes.fill(0, SEEN.offset, SEEN.offset + SEEN.size).writeUInt8(isSeen ? 1 : 0, SEEN.offset);
  return bytes;
}

/** Maps that a scene begins with and the programs change. */
export interface SceneElements {
  readonly ipvs_sessions: Elements;
  readonly ipvs_replies: Elements;
  readonly ipvs_frags: Elements;
  readonly ipvs_exhausted: Elements;
}

export function sceneElements(maps: Maps, now: number): SceneElements {
  return {
    ipvs_sessions: [...maps.sessions.values()].map((session) => [
      sessionKeyBytes(session.key),
      sessionBytes(session, now),
    ]),
    ipvs_replies: [...maps.replies.values()].map(({ key, session }) => [
      replyKeyBytes(key),
      sessionKeyBytes(session),
    ]),
    ipvs_frags: [...maps.fragments.values()].map(({ key, session, length }) => [
      struct(40, (bytes) => {
        bytes.write(key.saddr + key.daddr + key.id, 0, 'hex');
        bytes.writeUInt8(key.protocol, 36);
      }),
      Buffer.concat([sessionKeyBytes(session), u32(length)]),
    ]),
    ipvs_exhausted: [...maps.exhausted.values()].map(({ key, hold }) => [poolKeyBytes(key), holdBytes(hold)]),
  };
}

const u32 = (...words: number[]) =>
  struct(4 * words.length, (bytes) => {
    for (const [i, word] of words.entries()) bytes.writeUInt32LE(word, 4 * i);
  });
const familyNumber = (family: 4 | 6) => (family === 4 ? 2 : 10);

/** Maps that the agent fills. */
export function agentElements(maps: Maps): Readonly<Record<string, Elements>> {
  const addresses = [...maps.addresses];
  return {
    ipvs_services: [...maps.services.values()].map(({ key, id }) => [
      struct(20, (bytes) => {
        bytes.write(key.vaddr, 0, 'hex');
        bytes.writeUInt16BE(key.vport, 16);
        bytes.writeUInt8(key.protocol, 18);
      }),
      u32(id, 0),
    ]),
    ipvs_snat_addrs: addresses.map(([id, { addr, family }]) => [
      u32(id),
      Buffer.concat([Buffer.from(addr, 'hex'), u32(familyNumber(family))]),
    ]),
    ipvs_snat_ids: [...maps.addressIds].map(([addr, id]) => [Buffer.from(addr, 'hex'), u32(id)]),
    ipvs_snat_ifs: [...maps.interfaces.values()].map(({ ifindex, family, id }) => [
      u32(ifindex, familyNumber(family)),
      u32(id),
    ]),
    ipvs_cluster: maps.cluster.map(({ length, addr }) => [
      Buffer.concat([u32(length), Buffer.from(addr, 'hex')]),
      u32(0),
    ]),
  };
}
