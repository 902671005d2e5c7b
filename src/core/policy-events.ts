// SPDX-License-Identifier: Apache-2.0
/** What is written about a policy: its status when it differs, and Events when something has happened. */
import type { IpvsBpfNode } from '../api/generated/resource-types.ts';
import type { Condition, PolicyStatus } from '../api/resources.ts';
import { sameValue } from './canonical.ts';
import type { ClusterFacts } from './cluster-facts.ts';
import type { ClusterStep } from './cluster-steps.ts';
import { conditionOf, isoTime, mergeConditions } from './conditions.ts';
import { firstFindings, policyFindings } from './policy-conditions.ts';
import type { PlannedNode, PlannedPolicy } from './policy-plan.ts';
import { statusBody, summarize } from './policy-status.ts';
import type { EVENT_REASONS } from './reasons.ts';

type EventStep = Extract<ClusterStep, { kind: 'recordEvent' }>;

/** The status, if it is another than the one that is there, and what has happened since. */
export function policyStatusSteps(
  planned: PlannedPolicy,
  facts: ClusterFacts,
  visit: 'First' | 'Known',
): readonly ClusterStep[] {
  const { policy } = planned;
  const before = policy.status?.conditions ?? [];
  const at = { generation: policy.metadata.generation ?? 0, time: isoTime(facts.now) };
  if (visit === 'First') {
    if (before.length > 0) return [];
    const status = { conditions: [...mergeConditions([], firstFindings(), at)] };
    return [{ kind: 'applyPolicyStatus', policy, status }];
  }
  const summary = summarize(planned, facts.now);
  const conditions = [...mergeConditions(before, policyFindings(planned, summary), at)];
  const status: PolicyStatus = { ...statusBody(planned, summary, facts), conditions };
  if (sameValue(policy.status, status)) return [];
  return [
    { kind: 'applyPolicyStatus', policy, status },
    ...conditionEvents(planned, before, conditions),
    ...planned.nodes.flatMap((node) => nodeEvents(planned, node)),
  ];
}

/** Events for conditions that have changed. */
function conditionEvents(
  planned: PlannedPolicy,
  before: readonly Condition[],
  after: readonly Condition[],
): readonly EventStep[] {
  const became = (type: string, reason: string): Condition | undefined => {
    const now = conditionOf(after, type);
    return now?.reason === reason && conditionOf(before, type)?.reason !== reason ? now : undefined;
  };
  const events: EventStep[] = [];
  const normal = (reason: NormalReason, condition: Condition | undefined): void => {
    if (condition !== undefined) events.push(policyEvent(planned, 'Normal', reason, condition.message));
  };
  const warning = (reason: WarningReason, condition: Condition | undefined): void => {
    if (condition !== undefined) events.push(policyEvent(planned, 'Warning', reason, condition.message));
  };
  const accepted = conditionOf(after, 'Accepted');
  if (accepted !== undefined && conditionOf(before, 'Accepted')?.reason !== accepted.reason) {
    if (accepted.status === 'True') normal('Accepted', accepted);
    else warning('NotAccepted', accepted);
  }
  warning('RolloutHalted', became('Progressing', 'Halted'));
  normal('RolloutComplete', became('Ready', 'AllNodesReady'));
  warning('ProxyModeDeprecated', became('ProxyModeSupported', 'Deprecated'));
  warning('AgentUnreachable', became('Degraded', 'AgentUnreachable'));
  if (planned.rollout.soakedAt !== undefined && planned.rollout.canaryNodes.length > 0) {
    const known = planned.policy.status?.rollout?.soakedAt;
    const message = `The canaries were ready for long enough: ${planned.rollout.canaryNodes.join(', ')}.`;
    if (known === undefined) events.push(policyEvent(planned, 'Normal', 'CanarySoaked', message));
  }
  return events;
}

/** Events for what has become of a grant. */
function nodeEvents(planned: PlannedPolicy, node: PlannedNode): readonly EventStep[] {
  const { name, previous, decision } = node;
  const both = (type: 'Normal' | 'Warning', reason: NormalReason | WarningReason, message: string) => [
    policyEvent(planned, type, reason, message),
    ...(previous === undefined ? [] : [nodeEvent(previous, type, reason, message)]),
  ];
  if (decision?.state === 'Granted' && decision.isNew) {
    return both(
      'Normal',
      'NodeGranted',
      `${name} may be disrupted, to bring it to ${decision.grant.revision}.`,
    );
  }
  if (previous?.spec.disruptionGrant === undefined) return [];
  if (decision?.state === 'Done') {
    return node.selected
      ? both('Normal', 'NodeUpdated', `${name} has revision ${previous.spec.revision}.`)
      : both('Normal', 'NodeReverted', `${name} is what it was before the first change.`);
  }
  if (decision?.state === 'Failed') {
    const failure = previous.status?.lastFailure;
    const rung = failure?.rung === undefined ? '' : ` (rolled back: ${failure.rung})`;
    return both(
      'Warning',
      'NodeFailed',
      `${name}: ${failure?.reason ?? ''}: ${failure?.message ?? ''}${rung}`,
    );
  }
  return [];
}

type NormalReason = (typeof EVENT_REASONS)['Normal'][number];
type WarningReason = (typeof EVENT_REASONS)['Warning'][number];

function policyEvent(
  { policy }: PlannedPolicy,
  type: 'Normal' | 'Warning',
  reason: NormalReason | WarningReason,
  message: string,
): EventStep {
  const { name, uid = '' } = policy.metadata;
  return { kind: 'recordEvent', about: { kind: 'IpvsBpfPolicy', name, uid }, type, reason, message };
}

function nodeEvent(
  { metadata }: IpvsBpfNode,
  type: 'Normal' | 'Warning',
  reason: NormalReason | WarningReason,
  message: string,
): EventStep {
  const about = { kind: 'IpvsBpfNode', name: metadata.name, uid: metadata.uid ?? '' } as const;
  return { kind: 'recordEvent', about, type, reason, message };
}
