// SPDX-License-Identifier: Apache-2.0
/** What is in the maps of bpf/abi.h, as tests read and write it. */
import type { TypedMap } from 'libbpf-ts';

export interface SessionKey {
  readonly caddr: string;
  readonly service_id: number;
  readonly cport: number;
  readonly zero: number;
}

export interface Session {
  readonly vaddr: string;
  readonly daddr: string;
  readonly vport: number;
  readonly dport: number;
  readonly protocol: number;
  readonly family: number;
  readonly flags: number;
  readonly snat: bigint;
  readonly seen: bigint;
  readonly counted_requests: bigint;
  readonly counted_replies: bigint;
  readonly request: Path;
  readonly reply: Path;
}

/** struct ipvs_path */
export interface Path {
  readonly ethernet: Uint8Array;
  readonly until: number;
  readonly in_ifindex: number;
  readonly out_ifindex: number;
  readonly mtu: number;
  readonly to_peer: number;
  readonly tell: number;
}

/** What a session has before the module has offered a path. */
export const NO_PATH: Path = {
  ethernet: new Uint8Array(12),
  until: 0,
  in_ifindex: 0,
  out_ifindex: 0,
  mtu: 0,
  to_peer: 0,
  tell: 0,
};

export interface ReplyKey {
  readonly daddr: string;
  readonly dport: number;
  readonly snat_port: number;
  readonly snat_addr_id: number;
  readonly protocol: number;
  readonly zero: number;
}

export interface FragmentKey {
  readonly saddr: string;
  readonly daddr: string;
  readonly id: number;
  readonly protocol: number;
  readonly zero: Uint8Array;
}

export interface Fragment {
  readonly session: SessionKey;
  readonly length: number;
}

export interface ServiceKey {
  readonly vaddr: string;
  readonly vport: number;
  readonly protocol: number;
  readonly zero: number;
}

export interface Maps {
  readonly ipvs_held: TypedMap<ServiceKey, number>;
  readonly ipvs_hold: TypedMap<number, bigint>;
  readonly ipvs_services: TypedMap<ServiceKey, { id: number; flags: number }>;
  readonly ipvs_sessions: TypedMap<SessionKey, Session>;
  readonly ipvs_replies: TypedMap<ReplyKey, SessionKey>;
  readonly ipvs_frags: TypedMap<FragmentKey, Fragment>;
  readonly ipvs_snat_addrs: TypedMap<number, { addr: string; family: number }>;
  readonly ipvs_snat_ids: TypedMap<string, number>;
  readonly ipvs_snat_ifs: TypedMap<{ ifindex: number; family: number }, number>;
  readonly ipvs_cluster: TypedMap<{ prefix_len: number; addr: string }, number>;
  readonly ipvs_exhausted: TypedMap<unknown, bigint>;
  readonly ipvs_counters: TypedMap<number, bigint[]>;
}
