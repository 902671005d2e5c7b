// SPDX-License-Identifier: Apache-2.0
/**
 * Which nodes may be disrupted now. A decision depends on nothing but what is observed and the time: asked again,
 * or by another operator, it comes out the same.
 */
import type { PolicySpec } from '../api/resources.ts';
import type { WaitingReason } from './reasons.ts';

/** An agent may start for this long after it was granted. */
export const START_WINDOW_MS = 60_000;
/** An agent that has reported this long after its grant ended, and has not started, will not start any more. */
const LAPSE_MARGIN_MS = 15_000;

export interface Grant {
  readonly revision: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** A node of the policy, as far as the rollout looks at it. Times are milliseconds since 1970. */
export interface RolloutNode {
  readonly name: string;
  /** What it shall be brought to; "native" to put it back. */
  readonly target: string;
  /** Undefined if it was never reported. */
  readonly applied: string | undefined;
  /** Reverting nodes need no canaries and no checks. */
  readonly revert: boolean;
  readonly preferredCanary: boolean;
  /** Its agent has reported about the spec that asks for the target, and since the node booted. */
  readonly observed: boolean;
  /** It has booted since it reported: what it runs now nobody knows. */
  readonly rebooted: boolean;
  readonly preflight: 'Passed' | 'Failed' | 'Unknown';
  /** Since when it has been ready with what it runs; undefined if it is not. */
  readonly readySince: number | undefined;
  /** Its module comes by its next boot, which nobody grants and nobody waits for. */
  readonly waitsForBoot: boolean;
  /** A step runs on it. */
  readonly busy: boolean;
  /** Its agent may not have seen yet that an earlier grant was taken back. */
  readonly mayStart: boolean;
  /** The last attempt to reach the target failed, and there was no new one. */
  readonly failed: boolean;
  /** A failure left it half-way. */
  readonly stuck: boolean;
  readonly agentReachable: boolean;
  /** When the agent was heard of last. */
  readonly agentSeenAt: number | undefined;
  readonly nodeReady: boolean;
  /** The grant in its spec, of whatever revision. */
  readonly grant: Grant | undefined;
}

export interface RolloutInput {
  readonly now: number;
  readonly settings: PolicySpec['rollout'];
  readonly maxFailedNodes: number;
  /** Why nothing may start, whatever the nodes say. */
  readonly barrier?: 'NoServicesSelected';
  /** The policy is going: pausing has no effect. */
  readonly deleting: boolean;
  readonly nodes: readonly RolloutNode[];
  /** As recorded before for this revision. */
  readonly canaryNodes: readonly string[];
  readonly soakedAt: number | undefined;
}

export type NodeDecision =
  | { readonly state: 'Done' | 'Failed' | 'TimedOut' }
  /** It may be disrupted, from now on or since before. */
  | { readonly state: 'Granted'; readonly grant: Grant; readonly isNew: boolean }
  | { readonly state: 'Waiting'; readonly reason: WaitingReason };

export interface RolloutPlan {
  readonly decisions: ReadonlyMap<string, NodeDecision>;
  readonly halted: boolean;
  readonly canaryNodes: readonly string[];
  readonly soakedAt: number | undefined;
  /** When a decision changes because of the time alone. */
  readonly recheckAt: number | undefined;
}

export function planRollout(input: RolloutInput): RolloutPlan {
  const nodes = input.nodes.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const decisions = new Map<string, NodeDecision>();
  for (const node of nodes) {
    const settled = settledDecision(node, input);
    if (settled !== undefined) decisions.set(node.name, settled);
  }
  const applying = nodes.filter(({ revert }) => !revert);
  const canaryNodes = chooseCanaries(applying, decisions, input);
  const soakedAt = soakEnd(applying, canaryNodes, input);
  const bad = [...decisions.values()].filter(({ state }) => state === 'Failed' || state === 'TimedOut');
  const halted = bad.length > input.maxFailedNodes;
  let budget =
    allowedUnavailable(input) - nodes.filter((node) => isUnavailable(node, decisions, input)).length;
  const order = [
    ...nodes.filter(({ name }) => canaryNodes.includes(name)),
    ...nodes.filter(({ name }) => !canaryNodes.includes(name)),
  ];
  for (const node of order) {
    if (decisions.has(node.name)) continue;
    // It keeps the place that its old grant has.
    const kept = node.grant === undefined ? 0 : 1;
    const reason = obstacle(node, input, { halted, canaryNodes, soakedAt });
    if (reason !== undefined) decisions.set(node.name, { state: 'Waiting', reason });
    else if (budget + kept <= 0) decisions.set(node.name, { state: 'Waiting', reason: 'WaitingForBudget' });
    else {
      budget -= 1 - kept;
      const grant = { revision: node.target, expiresAt: input.now + START_WINDOW_MS };
      decisions.set(node.name, { state: 'Granted', grant, isNew: true });
    }
  }
  const recheckAt = nextChange(nodes, decisions, canaryNodes, soakedAt, input);
  return { decisions, halted, canaryNodes, soakedAt, recheckAt };
}

/** What maxUnavailable comes to: at least one node. */
export function allowedUnavailable(input: Pick<RolloutInput, 'settings' | 'nodes'>): number {
  const { maxUnavailable } = input.settings;
  if (typeof maxUnavailable === 'number') return Math.max(1, Math.floor(maxUnavailable));
  const percent = Number.parseInt(maxUnavailable, 10);
  return Math.max(1, Math.floor((input.nodes.length * percent) / 100) || 0);
}

/** What is certain about a node without looking at the others; undefined if it has to start yet. */
function settledDecision(node: RolloutNode, input: RolloutInput): NodeDecision | undefined {
  if (node.failed) return { state: 'Failed' };
  if (node.applied === node.target && !node.busy) return { state: 'Done' };
  const { grant } = node;
  // A permission from before it had to wait for a boot is taken back.
  if (node.waitsForBoot || grant === undefined || grant.revision !== node.target) return undefined;
  if (hasLapsed(node, grant)) return undefined;
  if (input.now > deadline(grant, input)) return { state: 'TimedOut' };
  return { state: 'Granted', grant, isNew: false };
}

/** The agent was there after the grant had ended, and had not started. */
function hasLapsed(node: RolloutNode, grant: Grant): boolean {
  if (node.busy || !node.observed || !node.agentReachable || node.agentSeenAt === undefined) return false;
  return node.agentSeenAt > grant.expiresAt + LAPSE_MARGIN_MS;
}

function deadline(grant: Grant, { settings }: RolloutInput): number {
  return grant.expiresAt + settings.nodeTimeoutSeconds * 1000;
}

/**
 * Counts against maxUnavailable. A node that failed and went back is as available as before; it counts against
 * maxFailedNodes.
 */
function isUnavailable(
  node: RolloutNode,
  decisions: ReadonlyMap<string, NodeDecision>,
  input: RolloutInput,
): boolean {
  if (!node.nodeReady || !node.agentReachable || node.rebooted) return true;
  if (node.busy || node.mayStart || node.stuck) return true;
  const decision = decisions.get(node.name);
  // The clocks may differ: until the agent has seen that its grant was taken back it may start.
  if (decision === undefined && node.grant !== undefined) return true;
  switch (decision?.state) {
    case 'Granted':
    case 'TimedOut':
      return true;
    case 'Done':
      return !node.revert && !readyFor(node, input.settings.minReadySeconds, input.now);
    default:
      return false;
  }
}

function readyFor({ readySince }: RolloutNode, seconds: number, now: number): boolean {
  return readySince !== undefined && now - readySince >= seconds * 1000;
}

/** The recorded canaries that can still be ones, filled up; nodes that have started or are done come first. */
function chooseCanaries(
  nodes: readonly RolloutNode[],
  decisions: ReadonlyMap<string, NodeDecision>,
  input: RolloutInput,
): readonly string[] {
  const able = nodes.filter((node) => decisions.has(node.name) || couldStart(node));
  const rank = (node: RolloutNode): number =>
    (input.canaryNodes.includes(node.name) ? 0 : 4) +
    (decisions.has(node.name) ? 0 : 2) +
    (node.preferredCanary ? 0 : 1);
  return able
    .toSorted((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
    .slice(0, input.settings.canary.nodes)
    .map(({ name }) => name)
    .sort();
}

function couldStart(node: RolloutNode): boolean {
  const isThere = node.nodeReady && node.agentReachable;
  return node.observed && node.preflight === 'Passed' && isThere && !node.waitsForBoot;
}

/** When the canaries had been ready for long enough; undefined if they have not. */
function soakEnd(
  nodes: readonly RolloutNode[],
  canaryNodes: readonly string[],
  input: RolloutInput,
): number | undefined {
  if (input.settings.canary.nodes === 0) return input.soakedAt ?? input.now;
  if (input.soakedAt !== undefined) return input.soakedAt;
  const canaries = nodes.filter(({ name }) => canaryNodes.includes(name));
  if (canaries.length === 0) return undefined;
  const done = canaries.every(
    (node) =>
      node.applied === node.target &&
      !node.busy &&
      !node.failed &&
      readyFor(node, input.settings.soakSeconds, input.now),
  );
  return done ? input.now : undefined;
}

interface Stage {
  readonly halted: boolean;
  readonly canaryNodes: readonly string[];
  readonly soakedAt: number | undefined;
}

/** Why this node may not start, whatever the budget; the first reason counts. */
function obstacle(node: RolloutNode, input: RolloutInput, stage: Stage): WaitingReason | undefined {
  if (!node.nodeReady) return 'NodeNotReady';
  if (!node.agentReachable) return 'AgentUnreachable';
  if (!node.observed) return 'NotReported';
  if (stage.halted) return 'Halted';
  if (input.settings.paused && !input.deleting) return 'Paused';
  if (node.revert) return undefined;
  if (node.preflight !== 'Passed') return node.preflight === 'Failed' ? 'PreflightFailed' : 'NotReported';
  if (input.barrier !== undefined) return input.barrier;
  if (node.waitsForBoot) return 'WaitingForBoot';
  if (stage.soakedAt !== undefined || stage.canaryNodes.includes(node.name)) return undefined;
  const soaking = input.nodes
    .filter(({ name }) => stage.canaryNodes.includes(name))
    .every(({ applied, target, readySince }) => applied === target && readySince !== undefined);
  return soaking ? 'CanarySoaking' : 'WaitingForCanary';
}

function nextChange(
  nodes: readonly RolloutNode[],
  decisions: ReadonlyMap<string, NodeDecision>,
  canaryNodes: readonly string[],
  soakedAt: number | undefined,
  input: RolloutInput,
): number | undefined {
  const { settings, now } = input;
  const times = nodes.flatMap((node) => {
    const decision = decisions.get(node.name);
    if (decision?.state === 'Granted') {
      return [decision.grant.expiresAt + LAPSE_MARGIN_MS + 1, deadline(decision.grant, input) + 1];
    }
    if (decision?.state !== 'Done' || node.readySince === undefined) return [];
    const soak = soakedAt === undefined && canaryNodes.includes(node.name);
    return [
      node.readySince + settings.minReadySeconds * 1000,
      ...(soak ? [node.readySince + settings.soakSeconds * 1000] : []),
    ];
  });
  const later = times.filter((time) => time > now);
  return later.length === 0 ? undefined : Math.min(...later);
}
