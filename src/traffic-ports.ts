// SPDX-License-Identifier: Apache-2.0
/** What IPVS counts, as types. */
import type { VirtualServer } from './ports.ts';

/** What went through a virtual server since it was made. `ipvsadm -L --stats` */
export interface VirtualServerTotals {
  readonly connections: number;
  /** From clients, and back to them. */
  readonly inPackets: number;
  readonly outPackets: number;
  readonly inBytes: number;
  readonly outBytes: number;
}

export interface VirtualServerTraffic {
  readonly server: VirtualServer;
  readonly totals: VirtualServerTotals;
  /** Connections that its real servers have now, active ones and those that only wait to be forgotten. */
  readonly connections: number;
}

/** The counters of IPVS in the network namespace that the process is in. */
export interface IpvsTraffic {
  /** One entry for each virtual server by IPv4 address; none if the module is absent. Real servers are left out. */
  read(): Promise<readonly VirtualServerTraffic[]>;
}
