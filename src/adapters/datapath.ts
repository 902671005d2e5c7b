// SPDX-License-Identifier: Apache-2.0
/** The pinned maps and tc programs, through libbpf-ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BpfMap, TypedMap } from 'libbpf-ts';
import type { SessionEnds } from '../connection-ports.ts';
import {
  COUNTERS,
  canonicalAddress,
  decodePrefix,
  decodeService,
  decodeServiceKey,
  decodeSnatAddress,
  decodeSnatInterface,
  decodeUint32,
  encodePortRanges,
  encodePrefix,
  encodeService,
  encodeServiceKey,
  encodeSnatAddress,
  encodeSnatInterface,
  encodeUint32,
  mappedBytes,
  SNAT_ADDRESSES,
  sessionServiceId,
} from '../core/abi.ts';
import { errnoError, errnoOf, HostError } from '../core/errors.ts';
import { decodeSessions } from '../core/session-abi.ts';
import type {
  Datapath,
  DatapathState,
  ForeignProgram,
  HeldEnd,
  LoadOptions,
  ServiceEntry,
  SnatAddress,
  SnatInterface,
  TcAttachment,
  TcDirection,
} from '../datapath-ports.ts';
import { refusalOf, translated } from './bpf-errors.ts';
import { endHold, holdPackets, NO_MAPS } from './datapath-hold.ts';
import { DatapathPins, generationName, type MapName } from './datapath-pins.ts';
import { DatapathTc } from './datapath-tc.ts';
import { SameBytes } from './same-bytes.ts';
import { type CallingObject, sha256, type TcObject, TcObjects } from './tc-objects.ts';

export interface DatapathOptions {
  /** File ipvs_tc.bpf.o; beside it is ipvs_tc_kfuncs.bpf.o, for a module that offers kfuncs. */
  readonly objectPath: string;
  /** Directory of our pins, in a bpf file system; default /sys/fs/bpf/ipvs-bpf. */
  readonly pinRoot?: string;
  /** Default: TCX where the kernel has it (6.6 and later). */
  readonly attachKind?: 'TCX' | 'Clsact';
  /** Directory of the module's control files; default /proc/sys/net/ipv4/vs. */
  readonly controls?: string;
  /** Told why the kernel has refused the programs that call kfuncs: those that do not are loaded then. */
  readonly onRefusal?: (reason: string) => void;
}

type RawMap = TypedMap<Uint8Array, Uint8Array>;

/** The module's names for the maps that it is given (kernel-module/ip_vs_bpf_control.c). */
const MODULE_MAPS: Readonly<Record<string, MapName>> = {
  services: 'ipvs_services',
  sessions: 'ipvs_sessions',
  replies: 'ipvs_replies',
  frags: 'ipvs_frags',
  snat_addrs: 'ipvs_snat_addrs',
  snat_ids: 'ipvs_snat_ids',
  counters: 'ipvs_counters',
  forwarded: 'ipvs_forwarded',
  peer_ifs: 'ipvs_peer_ifs',
};

export class BpfDatapath implements Datapath {
  readonly #objects: TcObjects;
  readonly #onRefusal: (reason: string) => void;
  readonly #mapsSysctl: string;
  readonly #pins: DatapathPins;
  readonly #tc: DatapathTc;
  readonly #services = new SameBytes<readonly ServiceEntry[]>(decodeServices);

  constructor(options: DatapathOptions) {
    const root = options.pinRoot ?? '/sys/fs/bpf/ipvs-bpf';
    const controls = options.controls ?? '/proc/sys/net/ipv4/vs';
    this.#objects = new TcObjects({ path: options.objectPath, controls });
    this.#onRefusal = options.onRefusal ?? (() => {});
    this.#mapsSysctl = join(controls, 'bpf_maps');
    this.#pins = new DatapathPins(root);
    this.#tc = new DatapathTc(root, options.attachKind);
  }

  async state(): Promise<DatapathState | undefined> {
    return this.#pins.state();
  }

  async objectFileHash(): Promise<string> {
    return ((await this.#calling()) ?? (await this.#objects.plain())).hash;
  }

  async load(options: LoadOptions): Promise<DatapathState> {
    await this.#loadPrograms(options);
    this.#tc.prune();
    for (const attached of await this.attachments()) {
      if (!attached.current) await this.attach(attached.ifindex, attached.direction);
    }
    this.#pins.prune();
    const state = this.#pins.state();
    if (state === undefined)
      throw new HostError('the pins were removed while they were made', { code: 'NotFound' });
    return state;
  }

  async unload(): Promise<void> {
    for (const { ifindex, direction } of await this.#tc.attachments())
      await this.#tc.detach(ifindex, direction);
    this.#pins.remove();
  }

  async attachments(): Promise<readonly TcAttachment[]> {
    const ids = this.#pins.programIds();
    return (await this.#tc.attachments()).map((attached) => ({
      ...attached,
      current: attached.programId === ids?.[attached.direction],
    }));
  }

  async foreignPrograms(): Promise<readonly ForeignProgram[]> {
    return this.#tc.foreignPrograms();
  }

  async attach(ifindex: number, direction: TcDirection): Promise<void> {
    using program = this.#pins.openProgram(direction);
    await this.#tc.attach(program, ifindex, direction);
  }

  async detach(ifindex: number, direction: TcDirection): Promise<void> {
    await this.#tc.detach(ifindex, direction);
  }

  async services(): Promise<readonly ServiceEntry[]> {
    return this.#services.of(this.#with('ipvs_services', (map) => [...map.entries()].flat()));
  }

  async putService(entry: ServiceEntry): Promise<void> {
    this.#with('ipvs_services', (map) => map.put(encodeServiceKey(entry), encodeService(entry)));
  }

  async removeService(entry: ServiceEntry): Promise<void> {
    this.#with('ipvs_services', (map) => map.delete(encodeServiceKey(entry)));
    this.#with('ipvs_forwarded', (map) => map.delete(encodeUint32(entry.id)));
  }

  async snatAddresses(): Promise<readonly SnatAddress[]> {
    const entries = this.#with('ipvs_snat_addrs', (map) => [...map.entries()]);
    return entries.flatMap(([key, value]) => {
      const address = decodeSnatAddress(value);
      return address === undefined ? [] : [{ id: decodeUint32(key), address }];
    });
  }

  /** The inverse entry first: a reply to the new address must be known before the first request leaves. */
  async putSnatAddress(entry: SnatAddress): Promise<void> {
    if (!Number.isInteger(entry.id) || entry.id < 1 || entry.id >= SNAT_ADDRESSES) {
      throw new RangeError(`SNAT address id ${entry.id} is not in 1..${SNAT_ADDRESSES - 1}`);
    }
    const id = encodeUint32(entry.id);
    const previous = this.#with('ipvs_snat_addrs', (map) => map.get(id));
    this.#with('ipvs_snat_ids', (map) => map.put(mappedBytes(entry.address), id));
    this.#with('ipvs_snat_addrs', (map) => map.put(id, encodeSnatAddress(entry.address)));
    const address = previous === undefined ? undefined : decodeSnatAddress(previous);
    if (address !== undefined && address !== canonicalAddress(entry.address)) {
      this.#with('ipvs_snat_ids', (map) => map.delete(mappedBytes(address)));
    }
  }

  async snatInterfaces(): Promise<readonly SnatInterface[]> {
    const entries = this.#with('ipvs_snat_ifs', (map) => [...map.entries()]);
    return entries.map(([key, value]) => ({ ...decodeSnatInterface(key), addressId: decodeUint32(value) }));
  }

  async putSnatInterface(entry: SnatInterface): Promise<void> {
    const key = encodeSnatInterface(entry.ifindex, entry.family);
    this.#with('ipvs_snat_ifs', (map) => map.put(key, encodeUint32(entry.addressId)));
  }

  async removeSnatInterface(entry: SnatInterface): Promise<void> {
    this.#with('ipvs_snat_ifs', (map) => map.delete(encodeSnatInterface(entry.ifindex, entry.family)));
  }

  async clusterPrefixes(): Promise<readonly string[]> {
    return this.#with('ipvs_cluster', (map) => [...map.keys()].map(decodePrefix).sort());
  }

  async putClusterPrefix(prefix: string): Promise<void> {
    this.#with('ipvs_cluster', (map) => map.put(encodePrefix(prefix), encodeUint32(1)));
  }

  async removeClusterPrefix(prefix: string): Promise<void> {
    this.#with('ipvs_cluster', (map) => map.delete(encodePrefix(prefix)));
  }

  async peerInterfaces(): Promise<readonly number[]> {
    return this.#with('ipvs_peer_ifs', (map) => [...map.keys()].map(decodeUint32).sort((a, b) => a - b));
  }

  async putPeerInterface(ifindex: number): Promise<void> {
    this.#with('ipvs_peer_ifs', (map) => map.put(encodeUint32(ifindex), encodeUint32(1)));
  }

  async removePeerInterface(ifindex: number): Promise<void> {
    this.#with('ipvs_peer_ifs', (map) => map.delete(encodeUint32(ifindex)));
  }

  async hold(ends: readonly HeldEnd[], milliseconds: number): Promise<void> {
    holdPackets(this.#pins, ends, milliseconds);
  }

  async release(): Promise<void> {
    if (this.#pins.state() !== undefined) endHold(this.#pins, this.#mapsSysctl);
  }

  async sessionCount(): Promise<number> {
    return this.#with('ipvs_sessions', (map) => map.count());
  }

  async sessionEnds(): Promise<readonly SessionEnds[]> {
    const addresses = new Map((await this.snatAddresses()).map(({ id, address }) => [id, address]));
    return this.#with('ipvs_sessions', (map) => decodeSessions(map.entries(), addresses));
  }

  async sessionsByService(): Promise<ReadonlyMap<number, number>> {
    return this.#with('ipvs_sessions', (map) => {
      const counts = new Map<number, number>();
      for (const [key] of map.entries()) {
        const id = sessionServiceId(key);
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      return counts;
    });
  }

  async forwardedByService(): Promise<ReadonlyMap<number, number>> {
    return this.#with(
      'ipvs_forwarded',
      (map) => new Map([...map.entries()].map(([id, packets]) => [decodeUint32(id), sumOf(packets)])),
    );
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return this.#with('ipvs_counters', (map) =>
      Object.fromEntries(COUNTERS.map((name, index) => [name, sumOf(map.get(encodeUint32(index)))])),
    );
  }

  /** Does nothing if the module has these maps already. Throws HostError Busy while it uses others. */
  async giveMapsToModule(): Promise<void> {
    const maps = Object.entries(MODULE_MAPS).map(([name, map]) => ({ name, map: this.#pins.openMap(map) }));
    try {
      const has = this.#readMapsSysctl();
      if (has === maps.map(({ name, map }) => `${name}=${map.id}`).join(' ')) return;
      if (has !== NO_MAPS) this.#writeMapsSysctl(NO_MAPS);
      this.#writeMapsSysctl(maps.map(({ name, map }) => `${name}=${map.fd}`).join(' '));
    } finally {
      for (const { map } of maps) map.close();
    }
  }

  /** Closes the sockets; the pins stay. */
  async close(): Promise<void> {
    await this.#tc.close();
  }

  #with<T>(name: MapName, act: (map: RawMap) => T): T {
    using map: BpfMap = this.#pins.openMap(name);
    return translated(`map ${name}`, () => act(map.raw()));
  }

  /** Where the kernel refuses those that call the module, the others run for as long as it is that module. */
  async #loadPrograms(options: LoadOptions): Promise<void> {
    const calling = options.withoutModule === true ? undefined : await this.#calling();
    const plain = await this.#objects.plain();
    if (calling === undefined) return this.#loadObject(plain, options);
    const refusal = refusalOf(() => this.#loadObject(calling, options));
    if (refusal === undefined) return;
    // If these fail as well, it was not the module.
    this.#loadObject(plain, options);
    this.#pins.rememberRefusal(calling.pair);
    this.#onRefusal(refusal);
  }

  /** The object that calls the module, if there is something to call and the kernel has not refused it. */
  async #calling(): Promise<CallingObject | undefined> {
    const object = await this.#objects.calling();
    return object === undefined || this.#pins.isRefused(object.pair) ? undefined : object;
  }

  #loadObject({ path, hash, usesModule }: TcObject, options: LoadOptions): void {
    const generation = generationName({
      objectHash: hash,
      constantsHash: sha256(encodePortRanges(options.constants.portRanges)),
      usesModule,
    });
    this.#pins.load({ ...options, objectPath: path, generation });
  }

  #readMapsSysctl(): string {
    try {
      return readFileSync(this.#mapsSysctl, 'utf8').trim();
    } catch (error) {
      throw this.#sysctlError('read', error);
    }
  }

  #writeMapsSysctl(value: string): void {
    try {
      writeFileSync(this.#mapsSysctl, value, { flag: 'r+' });
    } catch (error) {
      throw this.#sysctlError(`write "${value}" to`, error);
    }
  }

  #sysctlError(action: string, error: unknown): HostError {
    return errnoError(`${action} ${this.#mapsSysctl}`, errnoOf(error) ?? 'EIO', error);
  }
}

/** Of words of 8 bytes: a number, or a slot a CPU. */
function sumOf(slots: Uint8Array = new Uint8Array(0)): number {
  const view = new DataView(slots.buffer, slots.byteOffset, slots.byteLength);
  let sum = 0n;
  for (let at = 0; at < slots.length; at += 8) sum += view.getBigUint64(at, true);
  return Number(sum);
}

/** @param parts a key and its value, and so on */
function decodeServices(parts: readonly Uint8Array[]): readonly ServiceEntry[] {
  const none = new Uint8Array(0);
  return Array.from({ length: parts.length / 2 }, (_, i) => ({
    ...decodeServiceKey(parts[2 * i] ?? none),
    ...decodeService(parts[2 * i + 1] ?? none),
  }));
}
