// SPDX-License-Identifier: Apache-2.0
/** Tables with a case for every reason of src/core/reasons.ts. */
import type { EventReason, RejectReason } from '../../src/core/reasons.ts';

/** Events by the operator's loop; planning, which is pure, records all others. */
export const LOOP_EVENTS = ['ApplyFailed', 'ObservationFailed'] as const satisfies readonly EventReason[];
export type LoopEvent = (typeof LOOP_EVENTS)[number];

/** Why an agent rejects Services; the operator gives all other reasons. */
export const NODE_REJECTIONS = [
  'NoSuchVirtualServer',
  'IPv6ForwardingOff',
  'UnsupportedVirtualServer',
  'ProbeFailed',
  'NodeNotAccelerating',
] as const satisfies readonly RejectReason[];
export type NodeRejection = (typeof NODE_REJECTIONS)[number];

/** The reasons of a list that are not of another one. */
export function without<R extends string, O extends R>(
  reasons: readonly R[],
  others: readonly O[],
): readonly Exclude<R, O>[] {
  return reasons.filter((reason): reason is Exclude<R, O> => !others.some((other) => other === reason));
}

/**
 * The cases of a table, one for each of these reasons. The list is the code's own: a reason without a case fails
 * here, also where the compiler did not look.
 */
export function casesOf<R extends string, C>(
  reasons: readonly R[],
  table: Readonly<Record<R, C>>,
): readonly (readonly [R, C])[] {
  return reasons.map((reason) => {
    if (!Object.hasOwn(table, reason)) throw new Error(`no test produces the reason ${reason}`);
    return [reason, table[reason]] as const;
  });
}

interface Statuses {
  readonly True: readonly string[];
  readonly False: readonly string[];
  readonly Unknown: readonly string[];
}

/** The same for conditions: [what a status says, "Ready True Accelerating", and the case that makes it say so]. */
export function conditionCases<C>(
  conditions: Readonly<Record<string, Statuses>>,
  table: Readonly<Record<string, Readonly<Record<string, C>>>>,
): readonly (readonly [string, C])[] {
  return Object.entries(conditions).flatMap(([type, statuses]) =>
    (['True', 'False', 'Unknown'] as const).flatMap((status) =>
      casesOf(statuses[status], table[type] ?? {}).map(
        ([reason, each]) => [`${type} ${status} ${reason}`, each] as const,
      ),
    ),
  );
}
