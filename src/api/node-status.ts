// SPDX-License-Identifier: Apache-2.0
/** What `ipvs-bpf node status -o json` prints. */

export type VirtualServerReason =
  | 'Accelerated'
  /** The config does not ask for it. */
  | 'NotWhitelisted'
  /** The config asks for it, and IPVS has no such virtual server. */
  | 'NoSuchVirtualServer'
  /** An IPv6 link-local address: it means something only together with an interface. */
  | 'LinkLocalAddress'
  /** An IPv4-mapped IPv6 address: the maps have it for the IPv4 address. */
  | 'MappedAddress'
  /** net.ipv6.conf.all.forwarding is not 1: no reply from a real server would reach an IPv6 client. */
  | 'IPv6ForwardingOff'
  /** Defined by a firewall mark: it has no address that a packet could be recognised by. */
  | 'FirewallMark'
  /** Port 0 catches every port of a persistent virtual server: no single whitelist entry stands for it. */
  | 'AnyPort'
  /** At least one real server is reached by tunnel or direct routing: there is nothing to translate. */
  | 'NotMasquerading'
  /** UDP packets are scheduled one by one: there are no connections. */
  | 'OnePacketScheduling'
  /** A persistence engine reads the payload. */
  | 'PersistenceEngine'
  | 'ModuleNotPatched'
  /** net.ipv4.vs.bpf_mode is 0. */
  | 'SwitchOff'
  /** The whitelist map does not hold it yet. */
  | 'NotInMap'
  /** A program is missing on at least one interface. */
  | 'ProgramsNotAttached';

export interface VirtualServerStatus {
  /** "fwmark N" for one that is defined by a firewall mark. */
  readonly address: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'FirewallMark';
  readonly accelerated: boolean;
  readonly reason: VirtualServerReason;
}

export interface NodeStatus {
  readonly apiVersion: 'ipvs-bpf.io/v1alpha1';
  readonly kind: 'NodeStatus';
  /** As the config asks for. */
  readonly mode: 'Enabled' | 'Disabled';
  readonly module: {
    readonly origin: 'InTree' | 'Patched' | 'BuiltIn' | 'Absent';
    /** Identifies the build; empty if there is no module. */
    readonly srcversion: string;
    readonly kernelRelease: string;
  };
  readonly switch: 'On' | 'Off';
  readonly sessions: { readonly entries: number; readonly maxEntries: number };
  readonly virtualServers: readonly VirtualServerStatus[];
  readonly interfaces: readonly {
    readonly name: string;
    readonly attach: 'TCX' | 'Clsact' | 'None';
    readonly ingress: boolean;
    readonly egress: boolean;
  }[];
  /** Packets since the maps were made. */
  readonly counters: readonly { readonly reason: string; readonly packets: number }[];
  /** net.ipv4.vs.NAME; actual is null if there is none. */
  readonly sysctls: readonly {
    readonly name: string;
    readonly desired: number;
    readonly actual: number | null;
  }[];
}
