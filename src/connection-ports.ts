// SPDX-License-Identifier: Apache-2.0
/** What carries connections through an exchange of modules. */
import type { AddressFamily, Protocol } from './ports.ts';

/** An address and a port. */
export interface End {
  readonly address: string;
  readonly port: number;
}

/** An accelerated connection, of which connection tracking knows nothing. */
export interface SessionEnds {
  readonly family: AddressFamily;
  readonly protocol: Protocol;
  readonly client: End;
  readonly virtual: End;
  readonly real: End;
  /** Whom the real server sees instead of the client; undefined: the client. */
  readonly snat?: End;
}

/** One with its state, as IPVS has it: a name of enum ip_vs_tcp_state (include/net/ip_vs.h), UDP or such. */
export interface TrackedConnection extends SessionEnds {
  readonly state: string;
}

/** The connections of IPVS, in the network namespace that the process is in. */
export interface Connections {
  /** Connections and persistence templates, each as its line in /proc/net/ip_vs_conn; none without the module. */
  list(): Promise<readonly string[]>;
  /**
   * Makes those that are missing again, by IPVS's own synchronisation (`ipvsadm --start-daemon backup`, net/netfilter/
   * ipvs/ip_vs_sync.c); their virtual and real servers are there. Answers how many of these lines are there afterwards.
   */
  restore(lines: readonly string[]): Promise<number>;
  /** Ends what a restore() that was killed has left running: it keeps the module in use. */
  endRestore(): Promise<void>;
  /**
   * Makes connection tracking know these connections, with their state, and translate them as their sessions do:
   * `conntrack -I`. Answers how many it does not take: of SCTP, it wants to have seen the association begin. Of those
   * that it was told of since the last restore(), it forgets those that are not among these; the others are left as
   * they are while their state is the same.
   */
  track(connections: readonly TrackedConnection[]): Promise<number>;
}

/** On disk while there is no table: SavedTable says whether it counts. */
export interface SavedConnections {
  readonly bootId: string;
  /** How many there were. */
  readonly count: number;
  /** Of them, accelerated ones that connection tracking has not taken over. */
  readonly untracked: number;
  /** As Connections.list() has them. */
  readonly lines: readonly string[];
  /** What went wrong when they were saved. */
  readonly message?: string;
}

export interface ConnectionRecords {
  readConnections(): Promise<SavedConnections | undefined>;
  /** Undefined removes them. */
  writeConnections(connections: SavedConnections | undefined): Promise<void>;
}
