// SPDX-License-Identifier: Apache-2.0
/** What a policy's status says: numbers, lists, and the conditions behind them. */
import type { NodeResourceStatus, PolicyStatus } from '../api/resources.ts';
import type { ClusterFacts } from './cluster-facts.ts';
import { conditionOf, isoTime, shorten } from './conditions.ts';
import {
  hasFailed,
  hasServiceOff,
  isNodeReady,
  isReachable,
  isSettled,
  targetRevision,
} from './policy-nodes.ts';
import type { PlannedNode, PlannedPolicy } from './policy-plan.ts';
import type { ProblemReason, WaitingReason } from './reasons.ts';

const LIST_LENGTH = 20;
const MESSAGE_LENGTH = 1024;

export interface NodeProblem {
  readonly node: string;
  readonly reason: ProblemReason;
  readonly message: string;
}

export interface WaitingNode {
  readonly node: string;
  readonly reason: WaitingReason;
  readonly message: string;
}

/** The nodes of a policy, sorted by what is to be said of them. */
export interface NodeSummary {
  readonly selected: readonly PlannedNode[];
  readonly skipped: readonly PlannedNode[];
  readonly reverting: readonly PlannedNode[];
  readonly ready: readonly PlannedNode[];
  readonly granted: readonly PlannedNode[];
  readonly waiting: readonly WaitingNode[];
  readonly problems: readonly NodeProblem[];
  readonly unreachable: readonly PlannedNode[];
}

export function summarize(planned: PlannedPolicy, now: number): NodeSummary {
  const { nodes, policy } = planned;
  const selected = nodes.filter((node) => node.selected);
  const skipped = selected.filter(({ intent }) => intent.skipped);
  const taken = selected.filter(({ intent }) => !intent.skipped);
  const whitelist = policy.spec.mode === 'Enabled' ? planned.whitelist : undefined;
  return {
    selected,
    skipped,
    reverting: nodes.filter((node) => !node.selected && node.spec !== undefined),
    ready: taken.filter((node) => isDone(node, whitelist) && isReachable(node.agent, now)),
    granted: nodes.filter(({ decision }) => decision?.state === 'Granted'),
    waiting: nodes.flatMap((node) => waitingOf(node, planned)),
    problems: nodes.flatMap((node) => problemOf(node, now)),
    unreachable: taken.filter(({ agent }) => !isReachable(agent, now)),
  };
}

function isDone(planned: PlannedNode, whitelist: string | undefined): boolean {
  const { spec, intent, decision } = planned;
  if (intent.kind === 'Manage' && intent.kernelNotMapped) return false;
  if (spec === undefined || !isSettled(planned, spec, whitelist)) return false;
  return decision === undefined || decision.state === 'Done';
}

function waitingOf(
  { name, previous, decision }: PlannedNode,
  planned: PlannedPolicy,
): readonly WaitingNode[] {
  if (decision?.state !== 'Waiting') return [];
  const status = previous?.status;
  // The check failed because the module is not there, and this says why.
  const undelivered = decision.reason === 'PreflightFailed' && isUndelivered(status);
  const reason = undelivered ? 'ModuleNotDelivered' : decision.reason;
  return [{ node: name, reason, message: waitingMessage(reason, status, planned) }];
}

function isUndelivered(status: NodeResourceStatus | undefined): boolean {
  return conditionOf(status?.conditions, 'ModuleDelivered')?.status === 'False';
}

function waitingMessage(
  reason: WaitingReason,
  status: NodeResourceStatus | undefined,
  { rollout, policy }: PlannedPolicy,
): string {
  switch (reason) {
    case 'ModuleNotDelivered':
      return conditionOf(status?.conditions, 'ModuleDelivered')?.message ?? 'Its module is on its way.';
    case 'NotReported':
      return 'The agent has not yet reported about what is asked of it.';
    case 'PreflightFailed':
      return conditionOf(status?.conditions, 'PreflightPassed')?.message ?? 'A check failed.';
    case 'AgentUnreachable':
      return 'The agent does not renew its Lease.';
    case 'NodeNotReady':
      return 'The node is not Ready.';
    case 'WaitingForBoot':
      return conditionOf(status?.conditions, 'DisruptionPending')?.message ?? 'Its next boot is waited for.';
    case 'WaitingForCanary':
      return `The canaries go first: ${rollout.canaryNodes.join(', ') || 'none can start yet'}.`;
    case 'CanarySoaking':
      return `The canaries have to be ready for ${policy.spec.rollout.soakSeconds} s: ${rollout.canaryNodes.join(', ')}.`;
    case 'WaitingForBudget':
      return `rollout.maxUnavailable is ${policy.spec.rollout.maxUnavailable}, and as many nodes are unavailable.`;
    case 'Paused':
      return 'rollout.paused is true.';
    case 'Halted':
      return `More than ${policy.spec.failurePolicy.maxFailedNodes} nodes failed (failurePolicy.maxFailedNodes).`;
    case 'NoServicesSelected':
      return 'No Service of the whitelist can run accelerated.';
  }
}

/** What is wrong with a node; the worst that there is. */
function problemOf(node: PlannedNode, now: number): readonly NodeProblem[] {
  const { name, previous, decision, intent } = node;
  const status = previous?.status;
  const problem = (reason: ProblemReason, message: string | undefined): readonly NodeProblem[] => [
    { node: name, reason, message: shorten(message ?? '', MESSAGE_LENGTH) },
  ];
  if (intent.kind === 'Manage' && intent.kernelNotMapped) {
    const release = node.node?.status?.nodeInfo?.kernelVersion ?? '';
    return problem('KernelNotMapped', `No entry of module.kernelMappings fits its kernel ${release}.`);
  }
  if (decision?.state === 'Failed' && previous !== undefined && hasFailed(previous)) {
    const rollback = status?.lastFailure?.rollback;
    const reason =
      rollback === 'Failed' ? 'RollbackFailed' : rollback === 'Succeeded' ? 'RolledBack' : 'NodeFailed';
    return problem(reason, `${status?.lastFailure?.reason ?? ''}: ${status?.lastFailure?.message ?? ''}`);
  }
  if (decision?.state === 'TimedOut') {
    return problem(
      'NodeTimeout',
      'It had permission to start, and reported neither success nor failure in time.',
    );
  }
  if (node.spec !== undefined && !isReachable(node.agent, now) && status?.observedGeneration !== undefined) {
    const what = isNodeReady(node.node) ? '' : ', and the node is not Ready';
    return problem('AgentUnreachable', `The agent does not renew its Lease${what}.`);
  }
  const delivered = conditionOf(status?.conditions, 'ModuleDelivered');
  if (delivered?.status === 'False') {
    return delivered.reason === 'Delivering' ? [] : problem('ModuleNotDelivered', delivered.message);
  }
  if (decision?.state === 'Waiting' && decision.reason === 'PreflightFailed') {
    return problem('PreflightFailed', conditionOf(status?.conditions, 'PreflightPassed')?.message);
  }
  const drifted = conditionOf(status?.conditions, 'Drifted');
  if (drifted?.status === 'True') return problem('DriftUncorrected', `${drifted.reason}: ${drifted.message}`);
  if (previous !== undefined && hasServiceOff(previous)) {
    return problem('ServiceOff', status?.lastFailure?.message);
  }
  return [];
}

const FAILURES: readonly string[] = [
  'NodeFailed',
  'RolledBack',
  'RollbackFailed',
  'NodeTimeout',
  'KernelNotMapped',
];

export function isFailure({ reason }: NodeProblem): boolean {
  return FAILURES.includes(reason);
}

/** Everything of the status but the conditions. */
export function statusBody(
  planned: PlannedPolicy,
  summary: NodeSummary,
  facts: ClusterFacts,
): Omit<PolicyStatus, 'conditions'> {
  const { policy, selection, whitelist, rollout } = planned;
  const { status: before } = policy;
  const time = isoTime(facts.now);
  const revision = targetRevision(policy.spec);
  const disruption = lastDisruption(planned);
  const { soakedAt, canaryNodes } = rollout;
  const updated = summary.selected.filter(({ previous }) => previous?.status?.appliedRevision === revision);
  return {
    observedGeneration: policy.metadata.generation ?? 0,
    targetRevision: revision,
    nodes: {
      selected: summary.selected.length,
      ready: summary.ready.length,
      updated: updated.length,
      progressing: summary.granted.filter(({ selected }) => selected).length,
      waiting: summary.waiting.length,
      failed: summary.problems.filter(isFailure).length,
      rolledBack: summary.problems.filter(({ reason }) => reason === 'RolledBack').length,
      skipped: summary.skipped.length,
      unreachable: summary.unreachable.length,
      reverting: summary.reverting.length,
    },
    services: {
      selected: selection.selected,
      accelerated: selection.services.length,
      rejected: selection.rejected.length,
      virtualServers: selection.virtualServers,
      revision: whitelist,
    },
    rejectedServices: selection.rejected.slice(0, LIST_LENGTH).map((entry) => ({ ...entry })),
    serviceCaveats: selection.caveats.slice(0, LIST_LENGTH).map((entry) => ({
      ...entry,
      since: sinceOf(before?.serviceCaveats, entry, ['namespace', 'name', 'reason']) ?? time,
    })),
    problemNodes: summary.problems.slice(0, LIST_LENGTH).map((entry) => ({
      ...entry,
      since: sinceOf(before?.problemNodes, entry, ['node', 'reason']) ?? time,
    })),
    waitingNodes: summary.waiting.slice(0, LIST_LENGTH).map(({ message, ...entry }) => ({
      ...entry,
      message: shorten(message, MESSAGE_LENGTH),
    })),
    rollout: {
      canaryNodes: [...canaryNodes],
      ...(soakedAt === undefined ? {} : { soakedAt: isoTime(soakedAt) }),
    },
    ...(disruption === undefined ? {} : { lastDisruption: disruption }),
  };
}

/** Since when an entry that is the same in these fields has been there. */
function sinceOf<T extends { readonly since?: string }>(
  before: readonly T[] | undefined,
  entry: object,
  fields: readonly string[],
): string | undefined {
  const record = entry as Readonly<Record<string, unknown>>;
  const same = (old: T): boolean =>
    fields.every((field) => (old as Readonly<Record<string, unknown>>)[field] === record[field]);
  return before?.find(same)?.since;
}

function lastDisruption({ nodes, policy }: PlannedPolicy): PolicyStatus['lastDisruption'] {
  let last = policy.status?.lastDisruption;
  for (const { name, previous } of nodes) {
    const { at, outageMilliseconds } = previous?.status?.lastDisruption ?? {};
    if (at === undefined || (last?.at !== undefined && Date.parse(at) <= Date.parse(last.at))) continue;
    last = { node: name, at, ...(outageMilliseconds === undefined ? {} : { outageMilliseconds }) };
  }
  return last;
}
