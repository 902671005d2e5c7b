// SPDX-License-Identifier: Apache-2.0
import type { SessionEnds } from '../../src/connection-ports.ts';
import {
  COUNTERS,
  canonicalAddress,
  canonicalPrefix,
  encodePortRanges,
  encodeService,
  protocolNumber,
  SNAT_ADDRESSES,
} from '../../src/core/abi.ts';
import { errnoError, HostError } from '../../src/core/errors.ts';
import type {
  Datapath,
  DatapathConstants,
  DatapathState,
  ForeignProgram,
  HeldEnd,
  LoadOptions,
  ServiceEntry,
  SnatAddress,
  SnatInterface,
  TcAttachment,
  TcDirection,
} from '../../src/datapath-ports.ts';
import type { Calls } from './calls.ts';
import type { FakeHost } from './fake-host.ts';
import type { FakeLinks } from './fake-links.ts';

const MAPS = [
  'ipvs_cluster',
  'ipvs_counters',
  'ipvs_exhausted',
  'ipvs_forwarded',
  'ipvs_frags',
  'ipvs_peer_ifs',
  'ipvs_replies',
  'ipvs_services',
  'ipvs_sessions',
  'ipvs_snat_addrs',
  'ipvs_snat_ids',
  'ipvs_snat_ifs',
] as const;

const MAPS_SYSCTL = 'net/ipv4/vs/bpf_maps';
const KFUNCS_SYSCTL = 'net/ipv4/vs/bpf_kfuncs';
const MODULE_MAPS = [
  'services',
  'sessions',
  'replies',
  'frags',
  'snat_addrs',
  'snat_ids',
  'counters',
  'forwarded',
  'peer_ifs',
] as const;

interface Maps {
  readonly ids: Readonly<Record<string, number>>;
  readonly sessionMapMaxEntries: number;
  readonly services: Map<string, ServiceEntry>;
  readonly addresses: Map<number, string>;
  readonly interfaces: Map<string, SnatInterface>;
  readonly prefixes: Set<string>;
  readonly peers: Set<number>;
  readonly counters: Map<string, number>;
}

interface Programs {
  readonly ingress: number;
  readonly egress: number;
  readonly constants: DatapathConstants;
  readonly objectHash: string;
  readonly usesModule: boolean;
}

/** Pinned maps and programs; attachments survive unload() as in the kernel only if they are not detached. */
export class FakeDatapath implements Datapath {
  /** What the object file on disk hashes to; set it to another value for "a new version is installed". */
  objectHash = 'a'.repeat(64);
  kind: 'TCX' | 'Clsact' = 'TCX';
  /** Entries in ipvs_sessions. */
  sessions = 0;
  /** The same by the id of their whitelist entry, where a test wants to know. */
  sessionsById: ReadonlyMap<number, number> = new Map();
  /** Packets past the IP stack by the id of their whitelist entry. */
  forwardedById = new Map<number, number>();
  foreign: ForeignProgram[] = [];
  /** The kernel takes no programs that call the module. */
  refusesKfuncs = false;
  /** What it said of those that it has refused. */
  readonly refusals: string[] = [];
  /** What sessions say, and what packets are held back. */
  ends: readonly SessionEnds[] = [];
  held: readonly HeldEnd[] = [];
  readonly #attached = new Map<string, { ifindex: number; direction: TcDirection; programId: number }>();
  #maps: Maps | undefined;
  #programs: Programs | undefined;
  #refused = false;
  #nextId = 100;
  readonly #calls: Calls;
  readonly #host: FakeHost;
  readonly #links: FakeLinks;

  constructor(calls: Calls, host: FakeHost, links: FakeLinks) {
    this.#calls = calls;
    this.#host = host;
    this.#links = links;
    links.onRemoved.push((ifindex) => {
      this.#attached.delete(`${ifindex} Ingress`);
      this.#attached.delete(`${ifindex} Egress`);
    });
  }

  /** Counts a packet, as the programs and the module do. */
  count(name: (typeof COUNTERS)[number], packets = 1): void {
    const { counters } = this.#pinned();
    counters.set(name, (counters.get(name) ?? 0) + packets);
  }

  /** Somebody else removes our program: `tc qdisc delete dev DEV clsact`. */
  strip(ifindex: number): void {
    this.#attached.delete(`${ifindex} Ingress`);
    this.#attached.delete(`${ifindex} Egress`);
  }

  /** What is pinned, and what is attached, ends with the kernel. */
  reboot(): void {
    this.#maps = undefined;
    this.#refused = false;
    this.#programs = undefined;
    this.#attached.clear();
  }

  async state(): Promise<DatapathState | undefined> {
    return this.#calls.read('datapath.state', () => this.#state());
  }

  async objectFileHash(): Promise<string> {
    return this.#calls.read('datapath.objectFileHash', () => this.#hashOf(this.#offersKfuncs()));
  }

  /** True while ip_vs cannot be removed because of programs. */
  get usesModule(): boolean {
    return this.#programs?.usesModule === true;
  }

  async load(options: LoadOptions): Promise<DatapathState> {
    return this.#calls.change('datapath.load', options.withoutModule === true ? 'withoutModule' : '', () => {
      const usesModule = options.withoutModule !== true && this.#takesKfuncs();
      encodePortRanges(options.constants.portRanges);
      if (this.#maps !== undefined && this.#maps.sessionMapMaxEntries !== options.sessionMapMaxEntries) {
        const fresh = this.#newMaps(options.sessionMapMaxEntries).ids;
        const { ipvs_sessions = 0, ipvs_replies = 0 } = fresh;
        const ids = { ...this.#maps.ids, ipvs_sessions, ipvs_replies };
        this.#maps = { ...this.#maps, ids, sessionMapMaxEntries: options.sessionMapMaxEntries };
        this.#programs = undefined;
      }
      this.#maps ??= this.#newMaps(options.sessionMapMaxEntries);
      const same =
        this.#programs?.objectHash === this.#hashOf(usesModule) &&
        JSON.stringify(this.#programs.constants) === JSON.stringify(options.constants);
      if (!same) this.#loadPrograms(options.constants, usesModule);
      return this.#state() as DatapathState;
    });
  }

  async unload(): Promise<void> {
    this.#calls.change('datapath.unload', '', () => {
      this.held = [];
      this.#maps = undefined;
      this.#refused = false;
      this.#programs = undefined;
      this.#attached.clear();
    });
  }

  async attachments(): Promise<readonly TcAttachment[]> {
    return this.#calls.read('datapath.attachments', () =>
      [...this.#attached.values()].map(({ ifindex, direction, programId }) => ({
        ifindex,
        direction,
        kind: this.kind,
        programId,
        current: programId === (direction === 'Ingress' ? this.#programs?.ingress : this.#programs?.egress),
      })),
    );
  }

  async foreignPrograms(): Promise<readonly ForeignProgram[]> {
    return this.#calls.read('datapath.foreignPrograms', () => [...this.foreign]);
  }

  async attach(ifindex: number, direction: TcDirection): Promise<void> {
    this.#calls.change('datapath.attach', `${ifindex} ${direction}`, () => {
      this.#pinned();
      if (this.#links.byIndex(ifindex) === undefined) {
        throw new HostError(`attach to interface ${ifindex}: ENODEV`, { code: 'NotFound', errno: 'ENODEV' });
      }
      const programs = this.#programs as Programs;
      const programId = direction === 'Ingress' ? programs.ingress : programs.egress;
      this.#attached.set(`${ifindex} ${direction}`, { ifindex, direction, programId });
    });
  }

  async detach(ifindex: number, direction: TcDirection): Promise<void> {
    this.#calls.change('datapath.detach', `${ifindex} ${direction}`, () => {
      this.#attached.delete(`${ifindex} ${direction}`);
    });
  }

  async services(): Promise<readonly ServiceEntry[]> {
    return this.#calls.read('datapath.services', () => [...this.#pinned().services.values()]);
  }

  async putService(entry: ServiceEntry): Promise<void> {
    this.#calls.change('datapath.putService', serviceKey(entry), () => {
      encodeService(entry);
      const address = canonicalAddress(entry.address);
      this.#pinned().services.set(serviceKey(entry), { ...entry, address });
    });
  }

  async removeService(entry: ServiceEntry): Promise<void> {
    this.#calls.change('datapath.removeService', serviceKey(entry), () => {
      this.#pinned().services.delete(serviceKey(entry));
      this.forwardedById.delete(entry.id);
    });
  }

  async snatAddresses(): Promise<readonly SnatAddress[]> {
    return this.#calls.read('datapath.snatAddresses', () =>
      [...this.#pinned().addresses].map(([id, address]) => ({ id, address })).sort((a, b) => a.id - b.id),
    );
  }

  async putSnatAddress(entry: SnatAddress): Promise<void> {
    this.#calls.change('datapath.putSnatAddress', `${entry.id} ${entry.address}`, () => {
      if (entry.id < 1 || entry.id >= SNAT_ADDRESSES) {
        throw new RangeError(`SNAT address id ${entry.id} is not in 1..${SNAT_ADDRESSES - 1}`);
      }
      this.#pinned().addresses.set(entry.id, canonicalAddress(entry.address));
    });
  }

  async snatInterfaces(): Promise<readonly SnatInterface[]> {
    return this.#calls.read('datapath.snatInterfaces', () => [...this.#pinned().interfaces.values()]);
  }

  async putSnatInterface(entry: SnatInterface): Promise<void> {
    this.#calls.change(
      'datapath.putSnatInterface',
      `${entry.ifindex} ${entry.family} ${entry.addressId}`,
      () => {
        this.#pinned().interfaces.set(`${entry.ifindex} ${entry.family}`, entry);
      },
    );
  }

  async removeSnatInterface(entry: SnatInterface): Promise<void> {
    this.#calls.change('datapath.removeSnatInterface', `${entry.ifindex} ${entry.family}`, () => {
      this.#pinned().interfaces.delete(`${entry.ifindex} ${entry.family}`);
    });
  }

  async clusterPrefixes(): Promise<readonly string[]> {
    return this.#calls.read('datapath.clusterPrefixes', () => [...this.#pinned().prefixes].sort());
  }

  async putClusterPrefix(prefix: string): Promise<void> {
    this.#calls.change('datapath.putClusterPrefix', prefix, () => {
      this.#pinned().prefixes.add(canonicalPrefix(prefix));
    });
  }

  async removeClusterPrefix(prefix: string): Promise<void> {
    this.#calls.change('datapath.removeClusterPrefix', prefix, () => {
      this.#pinned().prefixes.delete(canonicalPrefix(prefix));
    });
  }

  async peerInterfaces(): Promise<readonly number[]> {
    return this.#calls.read('datapath.peerInterfaces', () => [...this.#pinned().peers].sort((a, b) => a - b));
  }

  async putPeerInterface(ifindex: number): Promise<void> {
    this.#calls.change('datapath.putPeerInterface', String(ifindex), () => {
      this.#pinned().peers.add(ifindex);
    });
  }

  async removePeerInterface(ifindex: number): Promise<void> {
    this.#calls.change('datapath.removePeerInterface', String(ifindex), () => {
      this.#pinned().peers.delete(ifindex);
    });
  }

  async hold(ends: readonly HeldEnd[]): Promise<void> {
    this.#calls.change('datapath.hold', String(ends.length), () => {
      this.#pinned();
      this.held = ends;
    });
  }

  async release(): Promise<void> {
    this.#calls.change('datapath.release', '', () => {
      this.held = [];
      const maps = this.#host.mapsOfModule;
      if (maps === undefined || maps === 'none') this.sessions = 0;
    });
  }

  async sessionEnds(): Promise<readonly SessionEnds[]> {
    return this.#calls.read('datapath.sessionEnds', () => {
      this.#pinned();
      return this.ends;
    });
  }

  async sessionCount(): Promise<number> {
    return this.#calls.read('datapath.sessionCount', () => {
      this.#pinned();
      return this.sessions;
    });
  }

  async sessionsByService(): Promise<ReadonlyMap<number, number>> {
    return this.#calls.read('datapath.sessionsByService', () => {
      this.#pinned();
      return this.sessionsById;
    });
  }

  async forwardedByService(): Promise<ReadonlyMap<number, number>> {
    return this.#calls.read('datapath.forwardedByService', () => {
      this.#pinned();
      return new Map(this.forwardedById);
    });
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return this.#calls.read('datapath.counters', () => {
      const { counters } = this.#pinned();
      return Object.fromEntries(COUNTERS.map((name) => [name, counters.get(name) ?? 0]));
    });
  }

  async giveMapsToModule(): Promise<void> {
    this.#calls.change('datapath.giveMapsToModule', '', () => {
      const { ids } = this.#pinned();
      const has = this.#host.mapsOfModule;
      if (has === undefined) throw errnoError(`read ${MAPS_SYSCTL}`, 'ENOENT');
      const wanted = MODULE_MAPS.map((name) => `${name}=${ids[`ipvs_${name}`]}`).join(' ');
      if (has === wanted) return;
      if (has !== 'none') this.#host.control(MAPS_SYSCTL, 'none');
      this.#host.control(MAPS_SYSCTL, wanted);
    });
  }

  #pinned(): Maps {
    if (this.#maps === undefined) {
      throw new HostError('no maps are pinned', { code: 'NotFound', errno: 'ENOENT' });
    }
    return this.#maps;
  }

  #state(): DatapathState | undefined {
    if (this.#maps === undefined || this.#programs === undefined) return undefined;
    const { ids, sessionMapMaxEntries } = this.#maps;
    const { ingress, egress, ...loaded } = this.#programs;
    return { mapIds: ids, sessionMapMaxEntries, programIds: { ingress, egress }, ...loaded };
  }

  #newMaps(sessionMapMaxEntries: number): Maps {
    this.sessions = 0;
    return {
      ids: Object.fromEntries(MAPS.map((name) => [name, this.#nextId++])),
      sessionMapMaxEntries,
      services: new Map(),
      addresses: new Map(),
      interfaces: new Map(),
      prefixes: new Set(),
      peers: new Set(),
      counters: new Map(),
    };
  }

  #offersKfuncs(): boolean {
    return this.#host.sysctls.get(KFUNCS_SYSCTL) === '1' && !this.#refused;
  }

  /** True if programs that call the module can be loaded. That they cannot is found out once. */
  #takesKfuncs(): boolean {
    if (!this.#offersKfuncs()) return false;
    if (this.refusesKfuncs) this.refusals.push('bpf_ip_vs_begin: not found in kernel or module BTFs');
    this.#refused = this.refusesKfuncs;
    return !this.#refused;
  }

  /** There are two objects. */
  #hashOf(usesModule: boolean): string {
    return usesModule ? `0${this.objectHash.slice(1)}` : this.objectHash;
  }

  #loadPrograms(constants: DatapathConstants, usesModule: boolean): void {
    const objectHash = this.#hashOf(usesModule);
    this.#programs = { ingress: this.#nextId++, egress: this.#nextId++, constants, objectHash, usesModule };
    for (const entry of this.#attached.values()) {
      entry.programId = entry.direction === 'Ingress' ? this.#programs.ingress : this.#programs.egress;
    }
  }
}

function serviceKey(entry: ServiceEntry): string {
  return `${protocolNumber(entry.protocol)} ${canonicalAddress(entry.address)} ${entry.port}`;
}
