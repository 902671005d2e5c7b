// SPDX-License-Identifier: Apache-2.0
/** Errors of the outside worlds that this program acts on, with codes that users, logs and documents share. */

export const HOST_ERROR_CODES = [
  'ModuleInUse',
  'ModuleNotFound',
  'ModuleExists',
  'ModuleInvalid',
  'SignatureRequired',
  'VermagicMismatch',
  'UnknownSymbol',
  'PermissionDenied',
  'NotFound',
  'AlreadyExists',
  'NotSupported',
  'InvalidArgument',
  'NoSpace',
  'Busy',
  'Interrupted',
  'CommandNotFound',
  'CommandFailed',
  'CommandTimedOut',
  'CommandAborted',
  'NetlinkError',
  'MalformedReply',
  'VerifierRejected',
  'ObjectInvalid',
  'SystemError',
] as const;

export type HostErrorCode = (typeof HOST_ERROR_CODES)[number];

export interface HostErrorOptions {
  readonly code: HostErrorCode;
  /** True if the same call may succeed later without a change by the user. */
  readonly retry?: boolean;
  /** The errno behind it, "EBUSY" and the like. */
  readonly errno?: string;
  /** A sentence that says what the user can do. */
  readonly advice?: string;
  readonly cause?: unknown;
}

/** What adapters throw: a failed action on the host. */
export class HostError extends Error {
  override readonly name = 'HostError';
  readonly code: HostErrorCode;
  readonly retry: boolean;
  readonly errno: string | undefined;
  readonly advice: string | undefined;

  constructor(message: string, options: HostErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.retry = options.retry ?? false;
    this.errno = options.errno;
    this.advice = options.advice;
  }
}

const CODE_BY_ERRNO: Readonly<Record<string, HostErrorCode>> = {
  ENOENT: 'NotFound',
  ESRCH: 'NotFound',
  ENODEV: 'NotFound',
  EEXIST: 'AlreadyExists',
  EPERM: 'PermissionDenied',
  EACCES: 'PermissionDenied',
  EOPNOTSUPP: 'NotSupported',
  ENOTSUP: 'NotSupported',
  EPROTONOSUPPORT: 'NotSupported',
  EAFNOSUPPORT: 'NotSupported',
  ENOSYS: 'NotSupported',
  EINVAL: 'InvalidArgument',
  ERANGE: 'InvalidArgument',
  E2BIG: 'NoSpace',
  ENOSPC: 'NoSpace',
  ENOMEM: 'NoSpace',
  EBUSY: 'Busy',
  EAGAIN: 'Busy',
  EINTR: 'Interrupted',
};

const RETRIED: ReadonlySet<HostErrorCode> = new Set<HostErrorCode>(['Busy', 'Interrupted']);

/** The error of a call that failed with this errno name ("EBUSY"). */
export function errnoError(action: string, errno: string, cause?: unknown): HostError {
  const code = CODE_BY_ERRNO[errno] ?? 'SystemError';
  return new HostError(`${action}: ${errno}`, { code, errno, retry: RETRIED.has(code), cause });
}

/** The errno name of an error by Node ("ENOENT"), or of ours; undefined if it has none. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof HostError) return error.errno;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/** True for "there is no such thing": ENOENT, ENODEV, ESRCH. */
export function isNotFound(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno !== undefined && CODE_BY_ERRNO[errno] === 'NotFound';
}
