// SPDX-License-Identifier: Apache-2.0
/** The pinned maps and tc programs that the agent acts on, as types. */

import type { End, SessionEnds } from './connection-ports.ts';
import type { AddressFamily, Protocol } from './ports.ts';

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Read-only data of the tc programs, fixed when they are loaded. */
export interface DatapathConstants {
  /** At most 4 ranges, disjoint and ascending. */
  readonly portRanges: readonly PortRange[];
}

export type SnatMode = 'Never' | 'External' | 'Always';

/** One entry of the whitelist map ipvs_services. */
export interface ServiceEntry {
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** 1..0xffffff, never used again for another virtual server while the maps live. */
  readonly id: number;
  readonly snat: SnatMode;
  readonly dropOnFull: boolean;
}

/** One entry of ipvs_snat_addrs (and its inverse). */
export interface SnatAddress {
  readonly id: number;
  readonly address: string;
}

export interface SnatInterface {
  readonly ifindex: number;
  readonly family: AddressFamily;
  readonly addressId: number;
}

export type TcDirection = 'Ingress' | 'Egress';

export interface TcAttachment {
  readonly ifindex: number;
  readonly direction: TcDirection;
  readonly kind: 'TCX' | 'Clsact';
  readonly programId: number;
  /** True if the program is the one that is pinned now. */
  readonly current: boolean;
}

/** A tc program of somebody else on an interface. */
export interface ForeignProgram {
  readonly ifindex: number;
  readonly direction: TcDirection;
  readonly kind: 'TCX' | 'Clsact';
  readonly priority?: number;
  readonly name: string;
  /** True if it has the priority that ours would be attached with. */
  readonly inOurPlace?: boolean;
}

export interface DatapathState {
  /** Map name → kernel id; undefined if nothing is pinned. */
  readonly mapIds: Readonly<Record<string, number>>;
  readonly sessionMapMaxEntries: number;
  readonly programIds: { readonly ingress: number; readonly egress: number };
  readonly constants: DatapathConstants;
  /** sha256 of the object file that the pinned programs were loaded from. */
  readonly objectHash: string;
  /** True if the programs call kfuncs of the module, which cannot be removed as long as they are loaded. */
  readonly usesModule: boolean;
}

export interface LoadOptions {
  readonly sessionMapMaxEntries: number;
  readonly constants: DatapathConstants;
  /** Programs that do not call the module, although it offers its kfuncs: it can be removed then. */
  readonly withoutModule?: boolean;
}

/** Of a virtual server, or of a real one. */
export interface HeldEnd extends End {
  readonly protocol: Protocol;
}

/** Pinned maps and tc programs (below /sys/fs/bpf/ipvs-bpf). */
export interface Datapath {
  /** What is pinned, or undefined. `bpftool map/prog show pinned` */
  state(): Promise<DatapathState | undefined>;
  /**
   * sha256 of the object file that load() would load: which one depends on net.ipv4.vs.bpf_kfuncs of the module that
   * is there. Compare with DatapathState.objectHash.
   */
  objectFileHash(): Promise<string>;
  /** Creates and pins maps and programs; an object that is right already is left alone. */
  load(options: LoadOptions): Promise<DatapathState>;
  /** Removes every pin; the kernel frees maps and programs when their last user is gone. */
  unload(): Promise<void>;
  attachments(): Promise<readonly TcAttachment[]>;
  foreignPrograms(): Promise<readonly ForeignProgram[]>;
  /** TCX where the kernel has it, clsact otherwise; replaces our own older program in place. */
  attach(ifindex: number, direction: TcDirection): Promise<void>;
  /** Removes our program only; a clsact qdisc that we made goes when nothing else is on it. */
  detach(ifindex: number, direction: TcDirection): Promise<void>;
  services(): Promise<readonly ServiceEntry[]>;
  putService(entry: ServiceEntry): Promise<void>;
  removeService(entry: ServiceEntry): Promise<void>;
  snatAddresses(): Promise<readonly SnatAddress[]>;
  putSnatAddress(entry: SnatAddress): Promise<void>;
  snatInterfaces(): Promise<readonly SnatInterface[]>;
  putSnatInterface(entry: SnatInterface): Promise<void>;
  removeSnatInterface(entry: SnatInterface): Promise<void>;
  clusterPrefixes(): Promise<readonly string[]>;
  putClusterPrefix(prefix: string): Promise<void>;
  removeClusterPrefix(prefix: string): Promise<void>;
  /** Indexes of the interfaces whose peer packets may be put at, past their tc egress; ascending. */
  peerInterfaces(): Promise<readonly number[]>;
  putPeerInterface(ifindex: number): Promise<void>;
  removePeerInterface(ifindex: number): Promise<void>;
  /**
   * Has tc ingress drop what comes from or is for one of these ends, until release(), or for so long by itself, unless
   * it forwards it by a session. Those of before are forgotten.
   */
  hold(ends: readonly HeldEnd[], milliseconds: number): Promise<void>;
  /** Also ends the sessions that a module has left which is gone. Does nothing if no maps are pinned. */
  release(): Promise<void>;
  sessionCount(): Promise<number>;
  /** Sessions of which a packet has left: those before it are nobody's yet. */
  sessionEnds(): Promise<readonly SessionEnds[]>;
  /** Id of a whitelist entry → its sessions; those without one are left out. */
  sessionsByService(): Promise<ReadonlyMap<number, number>>;
  /** Id of a whitelist entry → packets that tc ingress has forwarded past the IP stack; none are left out. */
  forwardedByService(): Promise<ReadonlyMap<number, number>>;
  /** Counter name (enum ipvs_counter without prefix, CamelCase) → packets since the maps were made. */
  counters(): Promise<Readonly<Record<string, number>>>;
  /**
   * Hands the maps to the module of this network namespace: writes
   * "services=FD sessions=FD replies=FD frags=FD snat_addrs=FD snat_ids=FD counters=FD forwarded=FD peer_ifs=FD" to
   * net.ipv4.vs.bpf_maps.
   */
  giveMapsToModule(): Promise<void>;
}
