// SPDX-License-Identifier: Apache-2.0
/** Everything that can be observed on a machine, and everything that the agent remembers about it. */
import type { BootState } from '../boot-ports.ts';
import type {
  DatapathState,
  ForeignProgram,
  ServiceEntry,
  SnatAddress,
  SnatInterface,
  TcAttachment,
} from '../datapath-ports.ts';
import type {
  IpvsDaemon,
  IpvsTimeouts,
  Link,
  LinkAddress,
  LoadedModule,
  ProcessIdentity,
  Route,
  VirtualServer,
} from '../ports.ts';

/** The file that holds the patched module. */
export type ModuleFileFacts =
  | {
      readonly state: 'Found';
      readonly path: string;
      readonly vermagic: string;
      readonly srcversion: string;
      readonly signed: boolean;
    }
  /** There is no file of this path. */
  | { readonly state: 'Missing'; readonly path: string; readonly message: string }
  /** There is one, and it cannot be read or is no module. */
  | { readonly state: 'Unreadable'; readonly path: string; readonly message: string };

export interface IpvsFacts {
  readonly virtualServers: readonly VirtualServer[];
  readonly timeouts: IpvsTimeouts;
  readonly daemons: readonly IpvsDaemon[];
  /** Of the generic netlink family. */
  readonly familyId: number;
}

/** kube-proxy in this network namespace. */
export interface KubeProxyFacts {
  readonly processes: readonly ProcessIdentity[];
  /** Undefined if it does not say. */
  readonly mode?: string;
  /** Undefined if it does not say, or where nothing needs it. */
  readonly version?: string;
}

/** Pinned maps and programs, with what the maps hold. */
export interface DatapathFacts {
  readonly state: DatapathState;
  readonly services: readonly ServiceEntry[];
  readonly snatAddresses: readonly SnatAddress[];
  readonly snatInterfaces: readonly SnatInterface[];
  readonly clusterPrefixes: readonly string[];
  readonly peerInterfaces: readonly number[];
  readonly sessionCount: number;
  readonly counters: Readonly<Record<string, number>>;
}

export interface NodeFacts {
  readonly kernelRelease: string;
  readonly bootId: string;
  /** As Host.missingPrivileges() says it. */
  readonly missingPrivileges: readonly string[];
  readonly hasBtf: boolean;
  readonly requiresSignedModules: boolean;
  readonly modules: readonly LoadedModule[];
  readonly ipVsBuiltIn: boolean;
  /** Undefined where nothing needs it (down). */
  readonly moduleFile?: ModuleFileFacts;
  /** What the next boot is to load, if that is another file. */
  readonly nextBootFile?: ModuleFileFacts;
  /** sha256 of the tc object on disk; undefined where nothing needs it (down). */
  readonly objectFileHash?: string;
  /** Undefined if ip_vs is absent. */
  readonly ipvs?: IpvsFacts;
  /** net.ipv4.vs.NAME → value; empty if ip_vs is absent. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** net.ipv4.ip_forward */
  readonly ipForward: boolean;
  /** net.ipv6.conf.all.forwarding; false, too, where the kernel has no IPv6. */
  readonly ip6Forward: boolean;
  /** net.ipv4.ip_local_port_range and ip_local_reserved_ports as the kernel prints them. */
  readonly localPortRange: string;
  readonly localReservedPorts: string;
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  /**
   * Of the main table; of routes to one destination the preferred one comes first. None of a family of which every
   * interface that packets may leave by has one address of its own, and none of IPv6 without virtual servers of it.
   */
  readonly routes: readonly Route[];
  readonly datapath?: DatapathFacts;
  readonly attachments: readonly TcAttachment[];
  readonly foreignPrograms: readonly ForeignProgram[];
  /** Processes in other network namespaces in which IPVS has virtual servers. */
  readonly otherNamespaces: readonly string[];
  readonly kubeProxy: KubeProxyFacts;
  /** True if the IPVS family can be given its id back after its module was exchanged. */
  readonly canAimFamilyId: boolean;
  readonly boot: BootState;
}

/** What the machine was before the first step. */
export interface Baseline {
  readonly bootId: string;
  /** Names of all loaded modules. */
  readonly modules: readonly string[];
  /** net.ipv4.vs.NAME → value before this program wrote it. */
  readonly managedSysctls: Readonly<Record<string, string>>;
}

/** The IPVS table while no module holds it. */
export interface SavedTable {
  readonly bootId: string;
  /** False until the kernel's own table is about to be flushed: until then the kernel's counts. */
  readonly flushed: boolean;
  readonly virtualServers: readonly VirtualServer[];
  /** Undefined if ip_vs was absent. */
  readonly timeouts?: IpvsTimeouts;
  readonly sysctls: Readonly<Record<string, string>>;
  /** Modules that held ip_vs: schedulers, persistence engines, helpers. */
  readonly helpers: readonly string[];
  /** Of ip_vs and its helpers, by their names: whatever is loaded in their place gets them. */
  readonly parameters?: Readonly<Record<string, readonly string[]>>;
  /** The id of the generic netlink family, for those who keep it. */
  readonly familyId?: number;
  /** When the flush began, by Clock.now(). */
  readonly flushedAtMs?: number;
  /** Connections just before. */
  readonly connections?: number;
}

/** Processes that this program stopped. */
export interface FrozenProcesses {
  readonly bootId: string;
  readonly processes: readonly ProcessIdentity[];
}

/** The last exchange of the module. */
export interface Disruption {
  /** Longest time without an answer; without a probe, from the flush until every virtual server was back. */
  readonly outageMilliseconds: number;
  readonly measuredBy?: 'Probe' | 'Timestamps';
  /** Probes without an answer. */
  readonly probesLost?: number;
  /** Why no probe could tell. */
  readonly message?: string;
  /** Connections that IPVS had, and has no more. */
  readonly connectionsDropped: number;
  /** Date of its end, ISO 8601. */
  readonly at: string;
}

/** The state directory. */
export interface NodeRecord {
  readonly baseline?: Baseline;
  readonly saved?: SavedTable;
  /** An `up` or `down` that has begun and not ended. */
  readonly unfinished?: { readonly verb: 'up' | 'down'; readonly step?: string };
  /** The highest service id that was ever given to a virtual server. */
  readonly lastServiceId: number;
  readonly frozen?: FrozenProcesses;
  readonly lastDisruption?: Disruption;
}

export const EMPTY_RECORD: NodeRecord = { lastServiceId: 0 };

export type ModuleOrigin = 'InTree' | 'Patched' | 'BuiltIn' | 'Absent';

/** Which ip_vs the kernel runs. Only the patched one has net.ipv4.vs.bpf_mode. */
export function moduleOrigin(facts: NodeFacts): ModuleOrigin {
  if ('bpf_mode' in facts.sysctls) return 'Patched';
  if (ipVs(facts) !== undefined) return 'InTree';
  return facts.ipVsBuiltIn ? 'BuiltIn' : 'Absent';
}

/** The loaded module ip_vs, if there is one. */
/** Of IPVS's modules, by their names, those that have parameters. */
export function toldParameters(
  modules: readonly LoadedModule[],
): Readonly<Record<string, readonly string[]>> {
  const told = modules.filter(({ parameters = [] }) => parameters.length > 0);
  return Object.fromEntries(told.map(({ name, parameters = [] }) => [name, parameters]));
}

export function ipVs(facts: NodeFacts): LoadedModule | undefined {
  return facts.modules.find((module) => module.name === 'ip_vs');
}

/** Sysctls of the patched module that are no settings: they do not move from one module to the next. */
export function isModuleControl(name: string): boolean {
  return name.startsWith('bpf_');
}

/** The value of net.ipv4.vs.bpf_mode. */
export function switchIsOn(facts: NodeFacts): boolean {
  return facts.sysctls.bpf_mode === '1';
}

/** Map name (ipvs_sessions) → kernel id, of the maps that the patched module holds; undefined if it has none. */
export function mapsOfModule(facts: NodeFacts): Readonly<Record<string, number>> | undefined {
  const entries = [...(facts.sysctls.bpf_maps ?? '').matchAll(/(\w+)=(\d+)/g)];
  if (entries.length === 0) return undefined;
  return Object.fromEntries(entries.map(([, name = '', id]) => [`ipvs_${name}`, Number(id)]));
}

/**
 * Modules that come along with ip_vs and with programs on interfaces, users before what they use. Not veth: it can
 * be removed under the interfaces of others.
 */
const COMPANIONS: readonly string[] = [
  'nf_conntrack_netlink',
  'nf_nat',
  'nfnetlink',
  'nf_conntrack',
  'nf_defrag_ipv6',
  'nf_defrag_ipv4',
  'libcrc32c',
  'cls_bpf',
  'sch_ingress',
];

/** Those of them that were not loaded before the first step. */
export function companionsSince(baseline: Baseline): readonly string[] {
  return COMPANIONS.filter((name) => !baseline.modules.includes(name));
}

/** The record without what a reboot has made void: tables and modules of an earlier boot are gone anyway. */
export function currentRecord(record: NodeRecord, bootId: string): NodeRecord {
  const { baseline, saved, frozen, ...rest } = record;
  return {
    ...rest,
    ...(frozen?.bootId === bootId ? { frozen } : {}),
    ...(baseline?.bootId === bootId ? { baseline } : {}),
    ...(saved?.bootId === bootId ? { saved } : {}),
  };
}
