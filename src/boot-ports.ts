// SPDX-License-Identifier: Apache-2.0
/** What makes a host load the patched module when it boots, as a type. */

/** What a boot did about the module. All but Loaded: the kernel's own ip_vs was loaded instead. */
export const BOOT_RESULTS = [
  'Loaded',
  /** The record of the module, or the module, cannot be read. */
  'FileMissing',
  /** The kernel that has booted is not the one that the module is for. */
  'OtherKernel',
  /** The module is not what it was when it was recorded. */
  'DigestMismatch',
  /** The boot before began to load the module, and no agent has found that it went well. */
  'Unconfirmed',
  /** Nothing could be written, so that a boot that ends in a crash would not have been noticed. */
  'NotWritable',
  /** The kernel did not take the module, or one that it depends on. */
  'InsertFailed',
] as const;

export type BootResult = (typeof BOOT_RESULTS)[number];

export interface BootOutcome {
  readonly bootId: string;
  readonly result: BootResult;
  /** For people; may be empty. */
  readonly message: string;
}

/** The module that boots are to load. */
export interface BootModule {
  /** Path of the module file, from which a copy is made. */
  readonly file: string;
  readonly srcversion: string;
  readonly kernelRelease: string;
  /** The boot in which this was asked for. */
  readonly bootId: string;
}

export interface BootState {
  /** What the host lacks for this, as clauses for people ("there is no directory /etc/modules-load.d"). */
  readonly missing: readonly string[];
  /** True if any of the files is there, whole or not. */
  readonly present: boolean;
  /** What the next boot loads; undefined unless every file is whole and what arm() writes. */
  readonly armed?: Omit<BootModule, 'file'>;
  /** The boot that has begun to load the module, as long as nobody has confirmed that it went well. */
  readonly unconfirmed?: string;
  /** What the last boot did that came to it; of boots before arm() nothing is known. */
  readonly last?: BootOutcome;
}

/** Files of the host by which its boot loads the patched ip_vs before anything asks for one. */
export interface BootFiles {
  /** Reads only. */
  state(): Promise<BootState>;
  /**
   * Writes the files, with a copy of the module; what boots did before is forgotten. Interrupted, it leaves either
   * files that are whole or none that a boot reads. Throws HostError, ModuleInvalid if the file has another srcversion.
   */
  arm(module: BootModule): Promise<void>;
  /** The boot that is `unconfirmed` went well: the next one loads the module, too. */
  confirm(): Promise<void>;
  /** Removes all of it. Those that a boot reads go first. */
  disarm(): Promise<void>;
}
