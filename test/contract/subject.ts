// SPDX-License-Identifier: Apache-2.0
/**
 * What a contract suite runs on: the fakes, or, with IPVS_BPF_CONTRACT=real in the virtual machine,
 * the adapters on the kernel there (they load and unload modules and change its IPVS table).
 */
export const ON_REAL_KERNEL = process.env.IPVS_BPF_CONTRACT === 'real';

/** A port to test, and what a user would do on the same machine. */
export interface Subject<Port, Outside = undefined> {
  readonly port: Port;
  readonly outside: Outside;
  /** Puts the machine back. */
  readonly cleanup: () => Promise<void>;
}
