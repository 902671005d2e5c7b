// SPDX-License-Identifier: Apache-2.0

/** Names of enum bpf_map_type, by number. */
const MAP_TYPES = [
  'unspec',
  'hash',
  'array',
  'prog_array',
  'perf_event_array',
  'percpu_hash',
  'percpu_array',
  'stack_trace',
  'cgroup_array',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'array_of_maps',
  'hash_of_maps',
  'devmap',
  'sockmap',
  'cpumap',
  'xskmap',
  'sockhash',
  'cgroup_storage',
  'reuseport_sockarray',
  'percpu_cgroup_storage',
  'queue',
  'stack',
  'sk_storage',
  'devmap_hash',
  'struct_ops',
  'ringbuf',
  'inode_storage',
  'task_storage',
  'bloom_filter',
  'user_ringbuf',
  'cgrp_storage',
  'arena',
] as const;

/** Names of enum bpf_prog_type, by number. */
const PROGRAM_TYPES = [
  'unspec',
  'socket_filter',
  'kprobe',
  'sched_cls',
  'sched_act',
  'tracepoint',
  'xdp',
  'perf_event',
  'cgroup_skb',
  'cgroup_sock',
  'lwt_in',
  'lwt_out',
  'lwt_xmit',
  'sock_ops',
  'sk_skb',
  'cgroup_device',
  'sk_msg',
  'raw_tracepoint',
  'cgroup_sock_addr',
  'lwt_seg6local',
  'lirc_mode2',
  'sk_reuseport',
  'flow_dissector',
  'cgroup_sysctl',
  'raw_tracepoint_writable',
  'cgroup_sockopt',
  'tracing',
  'struct_ops',
  'ext',
  'lsm',
  'sk_lookup',
  'syscall',
  'netfilter',
] as const;

/** Names of enum bpf_link_type, by number. */
const LINK_TYPES = [
  'unspec',
  'raw_tracepoint',
  'tracing',
  'cgroup',
  'iter',
  'netns',
  'xdp',
  'perf_event',
  'kprobe_multi',
  'struct_ops',
  'netfilter',
  'tcx',
  'uprobe_multi',
  'netkit',
  'sockmap',
] as const;

export type MapType = (typeof MAP_TYPES)[number] | `type ${number}`;
export type ProgramType = (typeof PROGRAM_TYPES)[number] | `type ${number}`;
export type LinkType = (typeof LINK_TYPES)[number] | `type ${number}`;

export function mapTypeName(type: number): MapType {
  return MAP_TYPES[type] ?? `type ${type}`;
}

export function programTypeName(type: number): ProgramType {
  return PROGRAM_TYPES[type] ?? `type ${type}`;
}

export function linkTypeName(type: number): LinkType {
  return LINK_TYPES[type] ?? `type ${type}`;
}

/** Map types whose user space values are one slot for each possible CPU. */
export const PER_CPU_MAPS: ReadonlySet<MapType> = new Set<MapType>([
  'percpu_hash',
  'percpu_array',
  'lru_percpu_hash',
  'percpu_cgroup_storage',
]);

/** Map types that the kernel looks up by index; their elements always exist. */
export const ARRAY_MAPS: ReadonlySet<MapType> = new Set<MapType>(['array', 'percpu_array']);

/** Direction of traffic as the interface sees it. */
export type TcDirection = 'ingress' | 'egress';
