// SPDX-License-Identifier: Apache-2.0
/** What the agent has to be allowed besides being root, in a container that does not allow everything. */

/** Bits of linux/capability.h, by name. CAP_SYS_ADMIN has what CAP_BPF and CAP_PERFMON allow. */
export const CAPABILITIES = {
  /** IPVS, links and their tc hooks, sysctls below net. */
  NET_ADMIN: 12,
  /** The probes' servers listen at a port below 1024, which nothing else takes. */
  NET_BIND_SERVICE: 10,
  /** eBPF maps and programs by their ids, and the network namespaces of the probes. */
  SYS_ADMIN: 21,
  /** Exchanges ip_vs. */
  SYS_MODULE: 16,
  /** Sees which network namespaces other processes are in, and which of them use IPVS. */
  SYS_PTRACE: 19,
} as const;

/**
 * "CAP_NET_ADMIN" and so on, of those that are missing.
 * @param effective bit N is capability N, as CapEff of /proc/self/status has them
 */
export function missingCapabilities(effective: bigint): readonly string[] {
  return Object.entries(CAPABILITIES)
    .filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n)
    .map(([name]) => `CAP_${name}`);
}
