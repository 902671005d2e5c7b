// SPDX-License-Identifier: Apache-2.0
/** The tc programs and their maps in the kernel, with values as tests want to read them. */
import { fileURLToPath } from 'node:url';
import {
  type BpfObject,
  be16,
  type Codec,
  decodeSkBuff,
  encodeSkBuff,
  openObject,
  type SkBuff,
  type TypedMap,
} from 'libbpf-ts';
import { formatMapped, mappedBytes } from '../../src/core/abi.ts';
import {
  type FragmentKey,
  type Maps,
  NO_PATH,
  type Path,
  type ReplyKey,
  type Session,
  type SessionKey,
} from './maps.ts';
import type { End, Transport } from './packet.ts';
import { ETHERNET, protocolOf } from './packet.ts';

/** IPVS_BPF_TC_OBJECT=ipvs_tc_kfuncs tests the programs that call the module, which is loaded then. */
const OBJECT = process.env.IPVS_BPF_TC_OBJECT ?? 'ipvs_tc';
export const OBJECT_FILE = fileURLToPath(new URL(`../../build/bpf/${OBJECT}.bpf.o`, import.meta.url));

export const AF_INET = 2;
export const AF_INET6 = 10;
/** The device that BPF_PROG_RUN takes unless told otherwise: lo. */
export const DEFAULT_IFINDEX = 1;
export const ADDRESS_ID = { undecided: 0, none: 0xffff } as const;
export const SNAT_MODE = { never: 0, external: 1, always: 2 } as const;
export const HINT_MAGIC = 0xb5000000;
export const REROUTED = 0x10;
/** In the low half of cb[2], where IPv6 has its flags. */
export const REROUTED6 = 0x4;
export const VERDICT = { unspec: -1, shot: 2, redirect: 7 } as const;

/** enum ipvs_counter, in its order. */
export const COUNTERS = [
  'SNAT',
  'SNAT_REVERSED',
  'SNAT_KEPT',
  'ICMP_EGRESS',
  'ICMP_INGRESS',
  'FRAGMENT_EGRESS',
  'SESSION_ADDED',
  'SESSION_REPLACED',
  'SESSION_REMOVED',
  'REPLY_REASSEMBLED',
  'BYPASS_MAP_FULL',
  'BYPASS_UNSUPPORTED',
  'DROP_MAP_FULL',
  'DROP_NO_SESSION',
  'DROP_NO_ADDRESS',
  'DROP_NO_PORT',
  'DROP_REPLIES_FULL',
  'DROP_MALFORMED',
  'DROP_REWRITE',
  'FORWARD_REQUEST',
  'FORWARD_REPLY',
  'BEGUN',
  'TOLD',
  'BYPASS_MULTIHOMED',
  'DROP_HELD',
  'NATIVE_MOVED',
] as const;
export type Counter = (typeof COUNTERS)[number];
export type Counts = Partial<Record<Counter, number>>;

/** The counters that went up, by how much. */
export function difference(after: Counts, before: Counts): Counts {
  const risen = COUNTERS.map((name) => [name, (after[name] ?? 0) - (before[name] ?? 0)] as const);
  return Object.fromEntries(risen.filter(([, packets]) => packets !== 0));
}

/** struct ipvs_addr; of an IPv4 address ::ffff:a.b.c.d. */
const address: Codec<string> = {
  size: 16,
  alignment: 4,
  read: (view, offset) => formatMapped(Uint8Array.from({ length: 16 }, (_, i) => view.getUint8(offset + i))),
  write: (view, offset, value) => {
    for (const [i, byte] of mappedBytes(value).entries()) view.setUint8(offset + i, byte);
  },
};

function familyOf(addr: string): number {
  return addr.includes(':') ? AF_INET6 : AF_INET;
}

/** __be32 outside of addresses: the identification of a datagram in the low bytes of the word. */
const OVERRIDES = { ipvs_addr: address, __be16: be16 };

export type PortRange = { readonly first: number; readonly last: number };

export interface DatapathOptions {
  readonly ports?: readonly PortRange[];
  readonly maxReplies?: number;
}

/** What a program made of a packet. */
export interface Outcome {
  readonly verdict: number;
  readonly frame: Uint8Array;
  readonly context: SkBuff;
  /** Counters that went up, by how much. */
  readonly counted: Counts;
  /** Average of all runs. */
  readonly durationNs: number;
}

export interface RunContext {
  readonly hint?: number;
  /** Low half of cb[3]: IPCB(skb)->flags. */
  readonly ipFlags?: number;
  /** Low half of cb[2]: IP6CB(skb)->flags. */
  readonly ip6Flags?: number;
  readonly ifindex?: number;
  readonly mark?: number;
  /** BPF_F_TEST_* bits. */
  readonly flags?: number;
  readonly repeat?: number;
}

export interface NewSession {
  readonly client: End;
  readonly real: End;
  readonly transport?: Transport;
  readonly serviceId?: number;
  readonly mode?: number;
  readonly snat?: bigint;
}

/** The SNAT word; the port stands in it as the two bytes that are on the wire. */
export function snatWord(cookie: number, addressId: number, port = 0): bigint {
  const swapped = ((port & 0xff) << 8) | (port >> 8);
  return (BigInt(cookie) << 32n) | BigInt((addressId << 16) >>> 0) | BigInt(swapped);
}

export function sessionKey(client: End, serviceId = 1): SessionKey {
  return { caddr: client.address, service_id: serviceId, cport: client.port, zero: 0 };
}

export function replyKey(real: End, port: number, transport: Transport = 'TCP', addressId = 1): ReplyKey {
  const protocol = protocolOf(transport);
  return {
    daddr: real.address,
    dport: real.port,
    snat_port: port,
    snat_addr_id: addressId,
    protocol,
    zero: 0,
  };
}

function swapped(value: number, size: 2 | 4): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, size === 4 ? value : value << 16);
  return view.getUint32(0, true);
}

/** ipvs_frag_key of a datagram; `id` as in its header. */
export function fragmentKey(from: string, to: string, id: number, transport: Transport = 'UDP'): FragmentKey {
  return {
    saddr: from,
    daddr: to,
    id: swapped(id, familyOf(from) === AF_INET6 ? 4 : 2),
    protocol: protocolOf(transport),
    zero: new Uint8Array(3),
  };
}

export class Datapath implements Disposable {
  readonly object: BpfObject;
  readonly maps: Maps;

  /** Loads both programs with empty maps of their own. */
  constructor({ ports = [{ first: 20000, last: 29999 }], maxReplies = 256 }: DatapathOptions = {}) {
    const opened = openObject(OBJECT_FILE);
    opened.map('ipvs_sessions').setMaxEntries(1024);
    opened.map('ipvs_replies').setMaxEntries(maxReplies);
    opened.setGlobal(
      'ipvs_port_ranges',
      Array.from({ length: 4 }, (_, i) => ports[i] ?? { first: 0, last: 0 }),
    );
    this.object = opened.load();
    const { object } = this;
    const map = <Name extends keyof Maps>(name: Name) => object.map(name).typedByBtf(OVERRIDES) as Maps[Name];
    this.maps = {
      ipvs_services: map('ipvs_services'),
      ipvs_sessions: map('ipvs_sessions'),
      ipvs_replies: map('ipvs_replies'),
      ipvs_frags: map('ipvs_frags'),
      ipvs_snat_addrs: map('ipvs_snat_addrs'),
      ipvs_snat_ids: map('ipvs_snat_ids'),
      ipvs_snat_ifs: map('ipvs_snat_ifs'),
      ipvs_cluster: map('ipvs_cluster'),
      ipvs_exhausted: map('ipvs_exhausted'),
      ipvs_counters: map('ipvs_counters'),
      ipvs_held: map('ipvs_held'),
      ipvs_hold: map('ipvs_hold'),
    };
  }

  /** Empties the maps that tests and programs fill; addresses stay. */
  reset(): void {
    const { ipvs_services, ipvs_sessions, ipvs_replies, ipvs_frags, ipvs_cluster, ipvs_exhausted } =
      this.maps;
    for (const map of [
      ipvs_services,
      ipvs_sessions,
      ipvs_replies,
      ipvs_frags,
      ipvs_cluster,
      ipvs_exhausted,
    ]) {
      const known = map as TypedMap<unknown, unknown>;
      for (const key of [...known.keys()]) known.delete(key);
    }
  }

  /** What the agent does for an interface and its address. */
  addSnatAddress(id: number, addr: string, ifindex = DEFAULT_IFINDEX): void {
    const family = familyOf(addr);
    this.maps.ipvs_snat_addrs.put(id, { addr, family });
    this.maps.ipvs_snat_ids.put(addr, id);
    this.maps.ipvs_snat_ifs.put({ ifindex, family }, id);
  }

  /** What the module does for a new connection; by default no packet has left yet. */
  addSession({ client, real, transport = 'TCP', serviceId = 1, mode, snat }: NewSession): SessionKey {
    const key = sessionKey(client, serviceId);
    this.maps.ipvs_sessions.put(key, {
      vaddr: familyOf(client.address) === AF_INET6 ? '2001:db8:99::1' : '203.0.113.1',
      daddr: real.address,
      vport: 80,
      dport: real.port,
      protocol: protocolOf(transport),
      family: familyOf(client.address),
      flags: mode ?? SNAT_MODE.always,
      snat: snat ?? snatWord(7, ADDRESS_ID.undecided),
      seen: 0n,
      counted_requests: 0n,
      counted_replies: 0n,
      request: NO_PATH,
      reply: NO_PATH,
    });
    return key;
  }

  /** A session with a chosen SNAT end, and the reply entry that goes with it. */
  addTranslatedSession(
    session: NewSession & { readonly port: number; readonly addressId?: number },
  ): SessionKey {
    const { port, addressId = 1, real, transport = 'TCP' } = session;
    const key = this.addSession({ ...session, snat: snatWord(7, addressId, port) });
    this.maps.ipvs_replies.put(replyKey(real, port, transport, addressId), key);
    return key;
  }

  session(key: SessionKey): Session {
    const session = this.maps.ipvs_sessions.get(key);
    if (session === undefined) throw new Error(`no session ${JSON.stringify(key)}`);
    return session;
  }

  /** Address id and port of a session's SNAT end. */
  snatEnd(key: SessionKey): { readonly addressId: number; readonly port: number; readonly cookie: number } {
    const { snat } = this.session(key);
    const low = Number(snat & 0xffffn);
    return {
      addressId: Number((snat >> 16n) & 0xffffn),
      port: ((low & 0xff) << 8) | (low >> 8),
      cookie: Number(snat >> 32n),
    };
  }

  /** What the module does when it has routed a packet of this direction: a path that ends in some seconds. */
  offerPath(key: SessionKey, direction: 'request' | 'reply', path: Partial<Path> = {}): void {
    const session = this.session(key);
    const until = Number(BigInt.asUintN(32, session.seen)) + 1000;
    const offered = {
      ethernet: ETHERNET,
      until: until >>> 0,
      in_ifindex: DEFAULT_IFINDEX,
      out_ifindex: DEFAULT_IFINDEX,
      mtu: 1500,
      ...path,
    };
    this.maps.ipvs_sessions.put(key, { ...session, [direction]: { ...session[direction], ...offered } });
  }

  /** A packet that ip_vs sends to a real server; without `hint` only one of the IP layer. */
  egress(frame: Uint8Array, context: RunContext = {}): Outcome {
    return this.#run('ipvs_tc_egress', frame, { ipFlags: REROUTED, hint: HINT_MAGIC | 1, ...context });
  }

  /** A packet that comes in. */
  ingress(frame: Uint8Array, context: RunContext = {}): Outcome {
    return this.#run('ipvs_tc_ingress', frame, context);
  }

  #run(name: string, data: Uint8Array, run: RunContext): Outcome {
    const { hint = 0, ipFlags = 0, ip6Flags = 0, ifindex = 0, mark = 0, flags = 0, repeat = 1 } = run;
    const before = this.counted();
    const context = encodeSkBuff({ cb: [0, 0, ip6Flags, ipFlags, hint >>> 0], ifindex, mark });
    const result = this.object.program(name).run({ data, context, flags, repeat });
    return {
      verdict: result.retval,
      frame: result.data,
      context: decodeSkBuff(result.context),
      counted: difference(this.counted(), before),
      durationNs: result.durationNs,
    };
  }

  /** The counters that are not zero, since the maps were made. */
  counted(): Counts {
    const totals = [...this.maps.ipvs_counters].map(([index, perCpu]) => {
      const name = COUNTERS[index];
      if (name === undefined) throw new RangeError(`counter ${index} has no name`);
      return [name, Number(perCpu.reduce((sum, packets) => sum + packets, 0n))] as const;
    });
    return Object.fromEntries(totals.filter(([, packets]) => packets !== 0));
  }

  [Symbol.dispose](): void {
    this.object.close();
  }
}
