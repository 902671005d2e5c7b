// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:os';

/** Error numbers that are the kernel's or libbpf's own and in no table of the C library. */
const SPECIAL_CODES: Readonly<Record<number, readonly [code: string, message: string]>> = {
  524: ['ENOTSUPP', 'operation is not supported by this kernel'],
  4000: ['LIBBPF_LIBELF', 'something is wrong in libelf'],
  4001: ['LIBBPF_FORMAT', 'the format of the BPF object is invalid'],
  4002: ['LIBBPF_KVERSION', 'the "version" section is wrong or missing'],
  4003: ['LIBBPF_ENDIAN', 'the byte order of the BPF object is not that of this machine'],
  4004: ['LIBBPF_INTERNAL', 'internal error in libbpf'],
  4005: ['LIBBPF_RELOC', 'relocation failed'],
  4006: ['LIBBPF_LOAD', 'loading failed for an unknown reason'],
  4007: ['LIBBPF_VERIFY', 'the verifier rejected the program'],
  4008: ['LIBBPF_PROG2BIG', 'the program is too big'],
  4009: ['LIBBPF_KVER', 'wrong kernel version'],
  4010: ['LIBBPF_PROGTYPE', 'the kernel does not support this program type'],
  4011: ['LIBBPF_WRNGPID', 'wrong port id in a netlink message'],
  4012: ['LIBBPF_INVSEQ', 'wrong sequence number in a netlink message'],
  4013: ['LIBBPF_NLPARSE', 'a netlink message cannot be parsed'],
};

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  // EAGAIN and EOPNOTSUPP share their number with EWOULDBLOCK and ENOTSUP: the first name stays.
  Object.entries(constants.errno)
    .filter(([name]) => name !== 'EWOULDBLOCK' && name !== 'ENOTSUP')
    .map(([name, number]) => [number, name]),
);

/** Positive error numbers that callers compare with. */
export const ENOTSUPP = 524;
export const { ENOENT, EEXIST, EINVAL, ENOSPC, ENODEV, EBADF, EBUSY, EOPNOTSUPP } = constants.errno;

/** Name of a positive error number: `ENOENT`, `LIBBPF_VERIFY`, or `E123` if nobody named it. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? SPECIAL_CODES[errno]?.[0] ?? `E${errno}`;
}

export interface BpfErrorDetails {
  /** The function that failed: `bpf_map_update_elem`. */
  readonly operation: string;
  /** Positive error number. */
  readonly errno: number;
  /** What it was about: a path, a map's or program's name. */
  readonly subject?: string | undefined;
  /** More about the reason than the error number says. */
  readonly reason?: string | undefined;
  /** Lines that libbpf printed meanwhile. */
  readonly log?: readonly string[] | undefined;
  /** The verifier's log, if a program was rejected. */
  readonly verifierLog?: string | undefined;
}

/** Every failure of libbpf or of the kernel is thrown as this. */
export class BpfError extends Error {
  override readonly name = 'BpfError';
  readonly operation: string;
  readonly errno: number;
  /** Name of the error number, for comparisons: `ENOENT`. */
  readonly code: string;
  readonly subject: string | undefined;
  readonly log: readonly string[];
  readonly verifierLog: string | undefined;

  constructor(details: BpfErrorDetails, options?: ErrorOptions) {
    super(describe(details), options);
    this.operation = details.operation;
    this.errno = details.errno;
    this.code = errnoName(details.errno);
    this.subject = details.subject;
    this.log = details.log ?? [];
    this.verifierLog = details.verifierLog;
  }
}

function describe(details: BpfErrorDetails): string {
  const about = details.subject === undefined ? '' : ` (${details.subject})`;
  const reason = details.reason ?? SPECIAL_CODES[details.errno]?.[1];
  const why = reason === undefined ? '' : `: ${reason}`;
  return `${details.operation}${about}: ${errnoName(details.errno)}${why}`;
}

/** Returns `result`, or throws if it is a negative error number. */
export function check(operation: string, result: number, subject?: string): number {
  if (result < 0) throw new BpfError({ operation, errno: -result, subject });
  return result;
}
