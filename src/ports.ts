// SPDX-License-Identifier: Apache-2.0
/** The outside worlds that the agent acts on, as types. Each method names the command that it equals. */

import type { ConnectionRecords } from './connection-ports.ts';
import type { Baseline, Disruption, FrozenProcesses, NodeRecord, SavedTable } from './core/facts.ts';
import type { NodeProgress, NodeTarget } from './core/node-target.ts';
import type { Outage } from './core/outage.ts';
import type { Step } from './core/steps.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type AddressFamily = 'IPv4' | 'IPv6';

/** A link as the kernel reports it. `ip -json link` */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly type: string;
  readonly up: boolean;
  readonly mtu: number;
  /** Set if the device belongs to a bridge, bond or VRF. */
  readonly masterIndex?: number;
}

/** An address of a link. `ip -json address` */
export interface LinkAddress {
  readonly linkIndex: number;
  readonly address: string;
  readonly prefixLength: number;
  readonly family: AddressFamily;
  readonly scope: 'global' | 'site' | 'link' | 'host' | 'nowhere';
  /** IPv6: temporary (RFC 8981). */
  readonly secondary: boolean;
  /** Set while it cannot be used yet, or not at all: duplicate address detection runs, or has failed. */
  readonly tentative?: true;
  /** Set if no new connection should have it (RFC 4862): what keepalived gives to virtual addresses, for example. */
  readonly deprecated?: true;
}

/** A next hop of a route of the main table. `ip route` */
export interface Route {
  /** Prefix; the default route's is 0.0.0.0/0 or ::/0. */
  readonly destination: string;
  readonly linkIndex: number;
  /** False if what is sent there is on the link itself. */
  readonly viaGateway: boolean;
  /** The address of this machine that its own packets get by this route (`src`); unset: the kernel chooses. */
  readonly source?: string;
}

export interface Links {
  /** `ip link` */
  list(): Promise<readonly Link[]>;
  /** `ip address` */
  addresses(): Promise<readonly LinkAddress[]>;
  /** `ip -4 route` or `ip -6 route`; of routes to one destination the preferred one comes first. */
  routes(family: AddressFamily): Promise<readonly Route[]>;
  /** `ip link add NAME type veth peer name PEER`, then up with these addresses (with /prefix length). */
  createVeth(options: VethOptions): Promise<void>;
  /** `ip link delete NAME`; true if it was there. */
  remove(name: string): Promise<boolean>;
  /** `ip netns add NAME`; answers its path, /run/netns/NAME. */
  createNetns(name: string): Promise<string>;
  /** `ip netns delete NAME`, also if only half of it was made; true if it was there. */
  removeNetns(name: string): Promise<boolean>;
}

export interface VethOptions {
  readonly name: string;
  readonly peer: string;
  readonly addresses: readonly string[];
  /** Path of the network namespace that the peer is moved to (/run/netns/NAME), with its addresses there. */
  readonly peerNetns: string;
  readonly peerAddresses: readonly string[];
  /** Addresses of the peer's default routes, one a family at most; unset: it has none. */
  readonly peerGateways?: readonly string[];
}

/** A real server (ip_vs_dest). */
export interface RealServer {
  readonly family: AddressFamily;
  readonly address: string;
  /** 0..65535 */
  readonly port: number;
  /** IP_VS_CONN_F_FWD_MASK bits: 0 masq, 1 local, 2 tunnel, 3 direct route. */
  readonly forwardingMethod: number;
  readonly weight: number;
  readonly upperThreshold: number;
  readonly lowerThreshold: number;
  readonly tunnelType?: number;
  readonly tunnelPort?: number;
  readonly tunnelFlags?: number;
}

/** A virtual server (ip_vs_service), by address, port and protocol or by firewall mark. */
export interface VirtualServer {
  readonly family: AddressFamily;
  readonly protocol?: Protocol;
  readonly address?: string;
  readonly port?: number;
  readonly fwmark?: number;
  readonly scheduler: string;
  /** IP_VS_SVC_F_* (1 persistent, 2 hashed, 4 one packet, 8..32 scheduler flags). */
  readonly flags: number;
  /** Persistence timeout in seconds. */
  readonly timeoutSeconds: number;
  /** As the kernel has it: a mask for IPv4, a prefix length for IPv6. */
  readonly netmask: number;
  readonly persistenceEngine?: string;
  readonly realServers: readonly RealServer[];
}

/** Seconds; 0 means: leave. `ipvsadm --set TCP TCPFIN UDP` */
export interface IpvsTimeouts {
  readonly tcpSeconds: number;
  readonly tcpFinSeconds: number;
  readonly udpSeconds: number;
}

/** A running synchronisation daemon. `ipvsadm -L --daemon` */
export interface IpvsDaemon {
  readonly state: 'master' | 'backup';
  readonly interface: string;
  readonly syncId: number;
}

/** The IPVS table of the network namespace that the process is in (generic netlink family IPVS). */
export interface Ipvs {
  /** False if no IPVS family is registered: the module is absent. Never makes the kernel load it. */
  available(): Promise<boolean>;
  /** Id of the generic netlink family, which processes look up once; undefined if the module is absent. */
  familyId(): Promise<number | undefined>;
  /** Connections of all network namespaces. `ipvsadm -Lcn | wc -l` */
  connectionCount(): Promise<number>;
  /**
   * `ipvsadm -S -n`. Unless it has to be exact, thresholds and tunnel settings of real servers may be older than the
   * rest if nothing else of their virtual server has changed.
   */
  virtualServers(how?: { readonly exact?: boolean }): Promise<readonly VirtualServer[]>;
  /** `ipvsadm -L --timeout` */
  timeouts(): Promise<IpvsTimeouts>;
  /** `ipvsadm -L --daemon` */
  daemons(): Promise<readonly IpvsDaemon[]>;
  /** `ipvsadm -C` */
  flush(): Promise<void>;
  /** `ipvsadm -A` and `-a`; existing entries are edited to match. */
  restore(virtualServers: readonly VirtualServer[]): Promise<void>;
  /** `ipvsadm -D`, with its real servers; true if it was there. */
  remove(server: VirtualServer): Promise<boolean>;
  /** `ipvsadm --set` */
  setTimeouts(timeouts: IpvsTimeouts): Promise<void>;
}

/** A line of /proc/modules. */
export interface LoadedModule {
  readonly name: string;
  readonly refCount: number;
  readonly holders: readonly string[];
  /** /sys/module/NAME/srcversion; identifies the build. Only of IPVS's modules and those from outside the kernel. */
  readonly srcversion?: string;
  /** `NAME=VALUE` of /sys/module/NAME/parameters, as modprobe.d or whoever loaded it has them. Only of IPVS's modules. */
  readonly parameters?: readonly string[];
  /** The module's taint flags; an out-of-tree module has "O". */
  readonly taint: string;
}

export interface KernelModules {
  /** `uname -r` */
  release(): Promise<string>;
  /** `lsmod` */
  list(): Promise<readonly LoadedModule[]>;
  /** True if NAME is compiled into this kernel (modules.builtin, or /sys/module/NAME without a module). */
  isBuiltIn(name: string): Promise<boolean>;
  /** `modinfo FILE` (vermagic, srcversion), without loading it. Rejects a file that its manifest.json denies. */
  info(file: string): Promise<{
    readonly vermagic: string;
    readonly srcversion: string;
    /** True if a signature is appended; whether the kernel trusts its key shows only when it is inserted. */
    readonly signed: boolean;
  }>;
  /** `insmod FILE PARAMETER…`, after `modprobe` of the modules that it depends on. */
  insertFile(file: string, parameters?: readonly string[]): Promise<void>;
  /** `modprobe NAME PARAMETER…` */
  load(name: string, parameters?: readonly string[]): Promise<void>;
  /** Reads the file, or the one that `modinfo --filename NAME` names, so that the kernel has it in memory. */
  readAhead(fileOrName: string): Promise<void>;
  /** `rmmod NAME`: fails while it is in use. */
  remove(name: string): Promise<void>;
  /** Keeps `modprobe NAME` (also the kernel's own) from loading the in-tree module, until unblocked. */
  blockAutoload(name: string): Promise<void>;
  unblockAutoload(name: string): Promise<void>;
  /** True if there is a module file for this kernel that aimFamilyId can use. */
  canAimFamilyId(): Promise<boolean>;
  /** Makes the next generic netlink family that is registered get this id. `insmod HELPER id=ID` */
  aimFamilyId(id: number): Promise<void>;
  /** Removes delivered modules but these (paths of ip_vs.ko), and those of the last `newMs` ms: their spec may be to come. */
  keepDelivered(files: readonly string[], newMs: number): Promise<void>;
}

/** A process; the start time tells it from a later one with the same id. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTime: string;
}

/** The kube-proxy processes of this network namespace. */
export interface KubeProxy {
  /** `pidof kube-proxy` */
  processes(): Promise<readonly ProcessIdentity[]>;
  /** Those of `processes` that are stopped. */
  frozen(): Promise<readonly ProcessIdentity[]>;
  /**
   * `kill -STOP`, and waits until it stands. Goes on by itself after `seconds`, also if this program has ended.
   * A process that has ended is left out. Throws HostError CommandTimedOut, with the process running, if it does
   * not stop.
   */
  freeze(process: ProcessIdentity, seconds: number): Promise<void>;
  /** `kill -CONT`; a process that has ended is left out. */
  thaw(process: ProcessIdentity): Promise<void>;
  /** "ipvs", "iptables", "nftables": what kube-proxy says; undefined if it does not answer within a second. */
  mode(): Promise<string | undefined>;
  /**
   * "v1.34.4": what kube-proxy says with its metrics, which may be large; undefined if it says none within two
   * seconds and 4 MiB.
   */
  version(): Promise<string | undefined>;
}

/** Files below the root directory that the adapter was made with (tests use a temporary tree). */
export interface Host {
  /** Value of net.ipv4.vs.NAME and the like ("net/ipv4/vs/NAME"), or undefined if there is none. */
  readSysctl(path: string): Promise<string | undefined>;
  writeSysctl(path: string, value: string): Promise<void>;
  /** Names below a sysctl directory, sorted; empty if there is none. */
  listSysctls(directory: string): Promise<readonly string[]>;
  /** /proc/sys/kernel/random/boot_id */
  bootId(): Promise<string>;
  /** True if /sys/kernel/btf/vmlinux is there. */
  hasBtf(): Promise<boolean>;
  /** What this process is not and has to be: "root", "CAP_SYS_MODULE". Empty if nothing is missing. */
  missingPrivileges(): readonly string[];
  /** True if the kernel takes signed modules only (module.sig_enforce, or lockdown). */
  requiresSignedModules(): Promise<boolean>;
  /** Network namespaces other than this one in which IPVS has virtual servers, as "PID" of a process in each. */
  namespacesUsingIpvs(): Promise<readonly string[]>;
}

/** The step that is being carried out, on disk before it begins. */
export interface JournalEntry {
  readonly verb: 'up' | 'down';
  readonly bootId: string;
  readonly step: string;
  readonly description: string;
  /** What takes the step back. */
  readonly undo: readonly Step[];
}

/** The state directory. Every write is whole or not at all, and is on the disk when it returns. */
export interface NodeRecords extends ConnectionRecords {
  read(): Promise<NodeRecord>;
  writeBaseline(baseline: Baseline): Promise<void>;
  /** Undefined removes it. */
  writeSavedTable(table: SavedTable | undefined): Promise<void>;
  writeJournal(entry: JournalEntry | undefined): Promise<void>;
  writeLastServiceId(id: number): Promise<void>;
  /** Processes that are about to be stopped; empty when they go on. */
  writeFrozen(frozen: FrozenProcesses | undefined): Promise<void>;
  writeDisruption(disruption: Disruption): Promise<void>;
  /** Removes everything, and the directory if it is empty then. */
  clear(): Promise<void>;
  /**
   * Keeps other processes from changing the node until the returned function is called or this process ends.
   * Throws HostError Busy, naming the process that has it.
   */
  lock(): Promise<() => Promise<void>>;
}

/** What the operator asked last and how far the node came, on disk beside the records. */
export interface NodeMemory {
  readonly target?: NodeTarget;
  readonly progress?: NodeProgress;
}

export interface NodeMemories {
  read(): Promise<NodeMemory>;
  /** Whole or not at all; an empty one removes the file. */
  write(memory: NodeMemory): Promise<void>;
}

/** A packet through the whole data path, in a network of its own. */
export interface SelfCheck {
  /**
   * Sends a request to a temporary virtual server and back. Throws HostError if it, or the reply, is lost or not
   * translated. Leaves nothing behind. `serviceId` is not used for anything else.
   */
  run(serviceId: number): Promise<void>;
  /**
   * The same by IPVS' own path, with a request of this host: it passes while the patched module is switched off, or
   * the in-tree one is loaded.
   */
  runNative(): Promise<void>;
  /** Removes what a run that was killed left behind. */
  remove(): Promise<void>;
}

export type ServiceVerdict =
  | { readonly verdict: 'Passed' }
  /** Failed: the way to the real servers is broken, and they are not. Unsure: nothing follows from it. For people. */
  | { readonly verdict: 'Failed' | 'Unsure'; readonly message: string };

/** Connections to virtual servers of others, made as clients elsewhere make them. */
export interface ServiceProbe {
  /**
   * Opens a TCP connection to each of these virtual servers from a network namespace of its own, all at once, and
   * closes it in order. One that cannot be opened fails only if it fails a second time and every real server with a
   * weight takes a connection of this node directly. One verdict for each, in their order, within some five seconds.
   * Throws HostError if that cannot be done. Adds no virtual server; leaves nothing behind.
   */
  run(servers: readonly VirtualServer[]): Promise<readonly ServiceVerdict[]>;
}

export type OutageResult =
  | { readonly measured: true; readonly outage: Outage }
  /** `why`: what kept the probe from telling, for people. */
  | { readonly measured: false; readonly why: string };

/**
 * Sends a numbered packet every 10 ms, from a network namespace of its own to a virtual server of its own, while
 * the module is exchanged. That is done whether the probe works or not.
 */
export interface OutageProbe {
  /**
   * Puts the virtual server into the table, with this scheduler, and begins as soon as packets are answered.
   * Resolves in any case, at the latest after the time that a command may take; stop() says what went wrong.
   */
  start(scheduler: string): Promise<void>;
  /** Waits for an answer, two seconds at most, and ends the probe as abort() does. */
  stop(): Promise<OutageResult>;
  /** Ends the probe at once and removes what is its own. Throws HostError if that fails. */
  abort(): Promise<void>;
}

export interface Clock {
  /** Milliseconds since boot or so: they only ever grow, in all processes alike. */
  now(): number;
  /** The date, in ISO 8601 with seconds, UTC. */
  date(): string;
  sleep(milliseconds: number): Promise<void>;
}
