// SPDX-License-Identifier: Apache-2.0
/** The tc programs in the kernel, with the maps of a scene. */
import { join } from 'node:path';
import {
  BpfError,
  BpfMap,
  type BpfObject,
  type BpfProgram,
  encodeSkBuff,
  type OpenedObject,
  openObject,
  type RunResult,
  type TypedMap,
} from 'libbpf-ts';
import { COUNTERS, HINT_MAGIC, OBJECT_FILE, REROUTED } from '../datapath.ts';
import { frameOf, ipPacket, udpDatagram } from './build.ts';
import {
  agentElements,
  normalHold,
  normalSession,
  type SceneElements,
  SEEN,
  sceneElements,
  sessionBytes,
  sessionKeyBytes,
  snatOf,
} from './encode.ts';
import {
  KEPT,
  MAPPED,
  type Maps,
  type Path,
  type PortRange,
  type Session,
  type SnatEnd,
  UDP,
} from './maps.ts';
import type { Hook, Input } from './outcome.ts';
import { Rewinder } from './rewind.ts';

/** What is fixed when the programs are loaded. */
export interface Variant {
  readonly name: string;
  readonly ports: readonly PortRange[];
  readonly maxReplies: number;
}

/** What a program has made of a packet. */
export interface Ran {
  /** TC_ACT_* */
  readonly verdict: number;
  readonly frame: Buffer;
  readonly context: Buffer;
}

/** The program has left a sum that the packet does not have, in place of the device's. */
export const WRONG_SUM = 'wrong sum';

type Raw = TypedMap<Uint8Array, Uint8Array>;
const SCENE_MAPS = ['ipvs_sessions', 'ipvs_replies', 'ipvs_frags', 'ipvs_exhausted'] as const;
const AGENT_MAPS = ['ipvs_services', 'ipvs_snat_ids', 'ipvs_snat_ifs', 'ipvs_cluster'] as const;
/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE */
const CHECKSUM_COMPLETE = 4;
const EBADMSG = 74;
/** Elements of sessions that the module holds on to. */
const HELD = 'ipvs_sessions';
const ROOM = 64;

const hex = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');

/** Elements as lines in a fixed order. */
export function linesOf(elements: SceneElements): string[] {
  return SCENE_MAPS.flatMap((name) =>
    elements[name].map(([key, value]) => `${name} ${hex(key)} ${hex(value)}`),
  ).sort();
}

/** The maps that are pinned there, with what is in them. */
function reusePinned(opened: OpenedObject, pins: string): void {
  for (const name of opened.mapNames.filter((map) => !map.includes('.'))) {
    using map = BpfMap.openPinned(join(pins, name));
    opened.map(name).reuse(map);
  }
}

export class Kernel implements Disposable {
  readonly #object: BpfObject;
  readonly #rewinder: Rewinder | undefined;
  readonly #programs: Readonly<Record<Hook, BpfProgram>>;
  readonly #maps = new Map<string, Raw>();
  readonly #used = new Map<string, Uint8Array[]>();
  readonly #data: { readonly bytes: Uint8Array; readonly vports: number; readonly seed: number };
  /** Jiffies, low 32 bits, about now: paths live much longer, or have ended long before. */
  readonly #now: number;

  /** `pins`: where the maps are pinned that a module works with; then it is its sessions that scenes are made of. */
  constructor({ ports, maxReplies }: Variant, pins?: string) {
    const opened = openObject(OBJECT_FILE);
    if (pins === undefined) {
      opened.map('ipvs_sessions').setMaxEntries(1024);
      opened.map('ipvs_replies').setMaxEntries(maxReplies);
    } else {
      reusePinned(opened, pins);
    }
    const ranges = Array.from({ length: 4 }, (_, i) => ({ first: 0, last: 0, ...ports[i] }));
    opened.setGlobal('ipvs_port_ranges', ranges);
    this.#object = opened.load();
    this.#rewinder = pins === undefined ? undefined : new Rewinder(this.#object.map(HELD));
    this.#programs = {
      ingress: this.#object.program('ipvs_tc_ingress'),
      egress: this.#object.program('ipvs_tc_egress'),
    };
    this.#data = this.#findData();
    this.#now = this.#readJiffies();
  }

  /** What the agent has written, in the place of what it had before. */
  enterWorld(maps: Maps): void {
    const elements = agentElements(maps);
    const addresses = this.#map('ipvs_snat_addrs');
    for (const key of this.#used.get('ipvs_snat_addrs') ?? []) addresses.put(key, new Uint8Array(20));
    this.#used.set('ipvs_snat_addrs', elements.ipvs_snat_addrs?.map(([key]) => key) ?? []);
    addresses.putBatch(elements.ipvs_snat_addrs ?? []);
    for (const name of AGENT_MAPS) {
      const map = this.#map(name);
      for (const key of this.#used.get(name) ?? []) map.delete(key);
      this.#used.set(name, elements[name]?.map(([key]) => key) ?? []);
      for (const [key, value] of elements[name] ?? []) map.put(key, value);
    }
  }

  /** The maps as a scene begins; what the programs remember besides, too, with `seed` for the choice of ports. */
  enterScene(maps: Maps, seed: number): void {
    const elements = sceneElements(maps, this.#now);
    if (this.#rewinder === undefined) this.#fill(elements);
    else for (const [key, value] of elements[HELD]) this.#rewinder.write(key, value);
    const { bytes, vports, seed: seedAt } = this.#data;
    bytes.fill(0);
    // The bit for a port is that of the number as it stands in the packet.
    for (const port of maps.knownPorts) {
      const swapped = ((port & 0xff) << 8) | (port >> 8);
      const at = vports + (swapped >> 3);
      bytes[at] = (bytes[at] ?? 0) | (1 << (swapped & 7));
    }
    Buffer.from(bytes.buffer).writeUInt32LE(seed || 1, seedAt);
    this.#variables.put(new Uint8Array(4), bytes);
  }

  /** `complete`: as if the device had summed the packet up; then the kernel checks its sum afterwards. */
  run(input: Input, context: Uint8Array, complete: boolean): Ran | typeof WRONG_SUM {
    const flags = complete ? CHECKSUM_COMPLETE : 0;
    let result: RunResult;
    try {
      result = this.#programs[input.hook].run({ data: input.frame, context, flags });
    } catch (error) {
      if (complete && error instanceof BpfError && error.errno === EBADMSG) return WRONG_SUM;
      throw error;
    }
    const { data, context: after } = result;
    return {
      verdict: result.retval,
      frame: Buffer.from(data.buffer, data.byteOffset, data.length),
      context: Buffer.from(after.buffer),
    };
  }

  snatOf(session: Session): SnatEnd {
    const value = this.#map('ipvs_sessions').get(sessionKeyBytes(session.key));
    if (value === undefined) throw new Error('the session is gone, which no program may do');
    return snatOf(value);
  }

  /** The maps of the scene as they are now. */
  lines(): string[] {
    return linesOf({
      ipvs_sessions: this.elements('ipvs_sessions').map(([key, value]) => [key, normalSession(value)]),
      ipvs_replies: this.elements('ipvs_replies'),
      ipvs_frags: this.elements('ipvs_frags'),
      ipvs_exhausted: this.elements('ipvs_exhausted').map(([key, value]) => [key, normalHold(value)]),
    });
  }

  /** What lines() should be. */
  expectedLines(maps: Maps): string[] {
    return linesOf(sceneElements(maps, this.#now));
  }

  /** The ports of virtual servers that the programs know, in ascending order. */
  knownPorts(): number[] {
    const bytes = this.#variables.get(new Uint8Array(4)) ?? new Uint8Array(0);
    const ports: number[] = [];
    for (let i = 0; i < 8192; i += 1) {
      const bits = bytes[this.#data.vports + i] ?? 0;
      for (let bit = 0; bits !== 0 && bit < 8; bit += 1) {
        const swapped = i * 8 + bit;
        if (bits & (1 << bit)) ports.push(((swapped & 0xff) << 8) | (swapped >> 8));
      }
    }
    return ports.sort((a, b) => a - b);
  }

  /** Counters by their number, over all CPUs. */
  counters(): number[] {
    const totals = new Array<number>(COUNTERS.length).fill(0);
    for (const [key, value] of this.elements('ipvs_counters')) {
      const bytes = Buffer.from(value.buffer, value.byteOffset, value.length);
      let sum = 0;
      for (let at = 0; at < bytes.length; at += 8) sum += bytes.readUIntLE(at, 6);
      totals[key[0] ?? 0] = sum;
    }
    return totals;
  }

  /** Elements of a map of the scene or of the agent. */
  elements(name: string): [key: Uint8Array, value: Uint8Array][] {
    return [...this.#map(name).entries(ROOM)];
  }

  [Symbol.dispose](): void {
    this.#rewinder?.[Symbol.dispose]();
    this.#object.close();
  }

  #fill(elements: SceneElements): void {
    for (const name of SCENE_MAPS) {
      const map = this.#map(name);
      map.deleteBatch([...map.entries(ROOM)].map(([key]) => key));
      map.putBatch(elements[name]);
    }
  }

  /** The section; in the map's name the object's, or the beginning of that, stands before. */
  get #variables(): Raw {
    return this.#map(this.#object.mapNames.find((name) => name.endsWith('.bss')) ?? '.bss');
  }

  #map(name: string): Raw {
    const known = this.#maps.get(name);
    if (known !== undefined) return known;
    const map = this.#object.map(name).raw();
    this.#maps.set(name, map);
    return map;
  }

  /** Where the variables are that outlive a packet. */
  #findData(): { bytes: Uint8Array; vports: number; seed: number } {
    const section = this.#object.btf.types.find((type) => type.kind === 'datasec' && type.name === '.bss');
    const offset = (name: string) => {
      if (section?.kind !== 'datasec') throw new Error(`${OBJECT_FILE} has no .bss`);
      const found = section.variables.find(({ type }) => this.#object.btf.type(type).name === name);
      if (found === undefined) throw new Error(`${OBJECT_FILE} has no variable ${name}`);
      return found.offset;
    };
    const bytes = this.#variables.get(new Uint8Array(4)) ?? new Uint8Array(0);
    return { bytes, vports: offset('vports'), seed: offset('snat_seed') };
  }

  /** A program stamps them into a session. */
  #readJiffies(): number {
    const session = firstSession();
    const { key, daddr, dport } = session;
    const sessions = this.#map('ipvs_sessions');
    sessions.put(sessionKeyBytes(key), sessionBytes(session, 0));
    const segment = {
      family: 4,
      from: { address: key.caddr, port: key.cport },
      to: { address: daddr, port: dport },
    } as const;
    const payload = udpDatagram({ ...segment, data: Buffer.alloc(0), flags: 0 });
    const packet = ipPacket({
      family: 4,
      source: key.caddr,
      destination: daddr,
      protocol: UDP,
      payload,
      hops: 9,
      id: 1,
    });
    const context = encodeSkBuff({ cb: [0, 0, 0, REROUTED, (HINT_MAGIC | key.serviceId) >>> 0] });
    this.#programs.egress.run({ data: frameOf('000000000000', 4, packet), context });
    const value = sessions.get(sessionKeyBytes(key));
    sessions.delete(sessionKeyBytes(key));
    if (value === undefined || normalSession(value)[SEEN.offset] !== 1)
      throw new Error('a request of a session was not seen');
    return Buffer.from(value).readUInt32LE(SEEN.offset);
  }
}

const NO_PATH: Path = {
  ethernet: '',
  packets: 0,
  bytes: 0,
  left: 0,
  inIfindex: 0,
  outIfindex: 0,
  mtu: 0,
  toPeer: false,
  tell: false,
};

/** One that needs nothing else to have its packets seen. */
function firstSession(): Session {
  const [client, server] = [`${MAPPED}c6336407`, `${MAPPED}0a000002`];
  return {
    key: { caddr: client, cport: 40000, serviceId: 1 },
    vaddr: server,
    vport: 53,
    daddr: server,
    dport: 53,
    protocol: UDP,
    family: 4,
    mode: 0,
    snat: { cookie: 1, addressId: KEPT, port: 0 },
    seen: false,
    request: NO_PATH,
    reply: NO_PATH,
  };
}
