// SPDX-License-Identifier: Apache-2.0
/** Conditions as Kubernetes has them: observations, one a type, with the time at which the status changed last. */
import type { Condition } from '../api/resources.ts';
import {
  type ConditionStatus,
  NODE_CONDITIONS,
  type NodeConditionType,
  type NodeReason,
  POLICY_CONDITIONS,
  type PolicyConditionType,
  type PolicyReason,
} from './reasons.ts';

/** A condition before it is known when its status changed. */
export type Finding = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

/** A finding about a policy; the compiler accepts only reasons of that type. */
export function policyFinding<T extends PolicyConditionType>(
  type: T,
  reason: PolicyReason<T>,
  message: string,
): Finding {
  return { type, status: statusOf(POLICY_CONDITIONS[type], reason), reason, message };
}

/** A finding about a node; the compiler accepts only reasons of that type. */
export function nodeFinding<T extends NodeConditionType>(
  type: T,
  reason: NodeReason<T>,
  message: string,
): Finding {
  return { type, status: statusOf(NODE_CONDITIONS[type], reason), reason, message };
}

function statusOf(
  reasons: Readonly<Record<ConditionStatus, readonly string[]>>,
  reason: string,
): ConditionStatus {
  const statuses: readonly ConditionStatus[] = ['True', 'False', 'Unknown'];
  return statuses.find((status) => reasons[status].includes(reason)) ?? 'Unknown';
}

/** API strings have a bound; a message that is longer ends in "...". */
export function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 3)}...`;
}

const MESSAGE_LENGTH = 4096;

/**
 * The conditions after these findings about this generation at this time (ISO 8601). The order is that of the
 * findings; types that no finding is about go, unless `keep` names them.
 */
export function mergeConditions(
  previous: readonly Condition[],
  findings: readonly Finding[],
  at: { readonly generation: number; readonly time: string; readonly keep?: readonly string[] },
): readonly Condition[] {
  const merged = findings.map((finding): Condition => {
    const before = previous.find(({ type }) => type === finding.type);
    const lastTransitionTime =
      before !== undefined && before.status === finding.status ? before.lastTransitionTime : at.time;
    return {
      type: finding.type,
      status: finding.status,
      observedGeneration: at.generation,
      lastTransitionTime,
      reason: finding.reason,
      message: shorten(finding.message, MESSAGE_LENGTH),
    };
  });
  const kept = previous.filter(
    ({ type }) => at.keep?.includes(type) === true && !merged.some((condition) => condition.type === type),
  );
  return [...merged, ...kept];
}

/** The condition of this type. */
export function conditionOf(
  conditions: readonly Condition[] | undefined,
  type: string,
): Condition | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** True if the condition is there and its status is True. */
export function holds(conditions: readonly Condition[] | undefined, type: string): boolean {
  return conditionOf(conditions, type)?.status === 'True';
}

/** What a user waits for: the summary holds for the object as it is now. */
export function isReady(object: {
  readonly metadata: { readonly generation?: number };
  readonly status?: { readonly conditions?: readonly Condition[] };
}): boolean {
  const ready = conditionOf(object.status?.conditions, 'Ready');
  return ready?.status === 'True' && ready.observedGeneration === object.metadata.generation;
}

/** ISO 8601 with seconds, as the API server writes times. */
export function isoTime(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
