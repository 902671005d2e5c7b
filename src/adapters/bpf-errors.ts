// SPDX-License-Identifier: Apache-2.0
/** Failures of libbpf-ts as errors of this program. */
import { BpfError } from 'libbpf-ts';
import { errnoError, HostError } from '../core/errors.ts';

const LOG_LINES = 20;

/**
 * With these a load ends before the verdict, with a log all the same: a signal came (kernel/bpf/verifier.c, do_check;
 * libbpf has tried five times then), or memory was short.
 */
const NO_VERDICT: ReadonlySet<string> = new Set(['EAGAIN', 'EINTR', 'ENOMEM']);

/** Runs `act`; a BpfError comes out as HostError with the errno's code and "what: why" as its message. */
export function translated<T>(action: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw error instanceof BpfError ? hostError(action, error) : error;
  }
}

/** Runs `load`; what the kernel or libbpf have against the object, for people. Throws what says nothing of it. */
export function refusalOf(load: () => void): string | undefined {
  try {
    load();
    return undefined;
  } catch (error) {
    if (!(error instanceof HostError) || error.retry || error.code === 'NoSpace') throw error;
    return error.message;
  }
}

function hostError(action: string, error: BpfError): HostError {
  if (error.verifierLog !== undefined && !NO_VERDICT.has(error.code)) {
    const log = error.verifierLog.trimEnd().split('\n').slice(-LOG_LINES).join('\n');
    return new HostError(`${action}: the kernel's verifier rejected the program:\n${log}`, {
      code: 'VerifierRejected',
      errno: error.code,
      cause: error,
    });
  }
  if (error.code.startsWith('LIBBPF_')) {
    return new HostError(`${action}: ${error.message}`, {
      code: 'ObjectInvalid',
      errno: error.code,
      cause: error,
    });
  }
  const { code, retry } = errnoError(action, error.code);
  return new HostError(`${action}: ${error.message}`, { code, retry, errno: error.code, cause: error });
}
