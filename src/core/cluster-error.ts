// SPDX-License-Identifier: Apache-2.0
/** What the API server, or the way to it, answers instead of what was asked for. */

export interface ClusterErrorOptions {
  /** HTTP status; 0 if there was no answer. */
  readonly status: number;
  /** The API server's own word (Conflict, Forbidden, NotFound, Expired …), or Unreachable, Timeout. */
  readonly reason: string;
  /** What the API server says, unchanged. */
  readonly detail: string;
  readonly cause?: unknown;
}

export class ClusterError extends Error {
  override readonly name = 'ClusterError';
  readonly status: number;
  readonly reason: string;
  readonly detail: string;
  /** A sentence that says what the user can do; undefined if waiting is all there is. */
  readonly advice: string | undefined;

  constructor(action: string, options: ClusterErrorOptions) {
    const code = options.status === 0 ? options.reason : `${options.status} ${options.reason}`;
    super(
      `${action}: ${code}: ${options.detail}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.status = options.status;
    this.reason = options.reason;
    this.detail = options.detail;
    this.advice = adviceFor(options);
  }
}

function adviceFor({ status, reason }: ClusterErrorOptions): string | undefined {
  if (status === 401) return 'Check that the service account exists and that its token is accepted.';
  if (status === 403) return 'Check the ClusterRoles and bindings of the chart, and admission policies.';
  if (status === 0 && reason === 'Unreachable')
    return 'Check the address of the API server and the network to it.';
  return undefined;
}

const withStatus = (error: unknown, ...statuses: readonly number[]): boolean =>
  error instanceof ClusterError && statuses.includes(error.status);

/** There is no such object, or no such kind. */
export const isMissing = (error: unknown): boolean => withStatus(error, 404);

/** Somebody else wrote in between, owns a field, or made the object first. */
export const isConflict = (error: unknown): boolean => withStatus(error, 409);

/** The resourceVersion is too old: list again. */
export const isExpired = (error: unknown): boolean => withStatus(error, 410);

export const isForbidden = (error: unknown): boolean => withStatus(error, 401, 403);

/** The API server does not take this object, however often it is sent. */
export const isInvalid = (error: unknown): boolean => withStatus(error, 400, 422);
