// SPDX-License-Identifier: Apache-2.0
/** What a policy asks of each of its nodes, and what the rollout knows of them. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import {
  NATIVE_REVISION,
  type NodeSpec,
  type PolicySpec,
  RETRY_ANNOTATION,
  SKIP_LABEL,
} from '../api/resources.ts';
import { canonicalJson, sameValue, shortHash } from './canonical.ts';
import type { AgentFacts, ClusterNode } from './cluster-facts.ts';
import { conditionOf, holds } from './conditions.ts';
import { selects } from './label-selector.ts';
import { deliveredPath, hasDelivery } from './module-delivery.ts';
import type { RolloutNode } from './rollout.ts';

/** A Lease that was not renewed for this long is stale. */
export const LEASE_STALE_MS = 40_000;

/** A node that a policy has, or has to put back. */
export interface PolicyNode {
  readonly name: string;
  /** Undefined if there is no Node of this name any more. */
  readonly node: ClusterNode | undefined;
  readonly agent: AgentFacts | undefined;
  /** What was asked of it and reported before. */
  readonly previous: IpvsBpfNode | undefined;
  readonly selected: boolean;
}

/** What becomes of a node: its spec without a grant, or nothing because it is left alone. */
export type NodeIntent =
  | {
      readonly kind: 'Manage';
      readonly spec: Omit<NodeSpec, 'disruptionGrant'>;
      readonly annotations: Readonly<Record<string, string>>;
      /** Takes part in the rollout: it may be disrupted. */
      readonly rollsOut: boolean;
      readonly skipped: boolean;
      readonly kernelNotMapped: boolean;
    }
  /** There is to be no IpvsBpfNode. */
  | { readonly kind: 'Leave'; readonly skipped: boolean };

/** Names what nodes are brought to with a disruption. */
export function targetRevision(spec: PolicySpec): string {
  const { path, kernelMappings } = spec.module;
  const { sessionMapMaxEntries } = spec.datapath;
  return shortHash(canonicalJson({ path, kernelMappings, sessionMapMaxEntries }));
}

export type ModuleChoice =
  | { readonly ok: true; readonly path?: string; readonly image?: string }
  | { readonly ok: false };

/** The module for a kernel release; not ok if no mapping fits it. */
export function moduleFor(module: PolicySpec['module'], kernelRelease: string): ModuleChoice {
  if (module.kernelMappings.length === 0) {
    return { ok: true, ...(module.path === undefined ? {} : { path: module.path }) };
  }
  const fitting = mappingFor(module, kernelRelease);
  const named = (text: string, release = kernelRelease) =>
    text.replaceAll(/\$\{KERNEL_FULL_VERSION\}/g, () => release);
  if (fitting?.image !== undefined) {
    // A tag may not have the "+" of releases such as 6.12.117+deb12-amd64.
    const image = named(fitting.image, kernelRelease.replaceAll(/[^\w.-]/g, '_'));
    return { ok: true, path: deliveredPath(image, kernelRelease), image };
  }
  return fitting?.path === undefined ? { ok: false } : { ok: true, path: named(fitting.path) };
}

/** The first mapping that fits a kernel release. */
export function mappingFor(
  module: PolicySpec['module'],
  kernelRelease: string,
): PolicySpec['module']['kernelMappings'][number] | undefined {
  return module.kernelMappings.find(
    ({ literal, regexp }) =>
      literal === kernelRelease || (regexp !== undefined && wholeMatch(regexp)?.test(kernelRelease) === true),
  );
}

/** Those regexps of the mappings that are none. */
export function invalidRegexps(module: PolicySpec['module']): readonly string[] {
  return module.kernelMappings.flatMap(({ regexp }) =>
    regexp === undefined || wholeMatch(regexp) !== undefined ? [] : [regexp],
  );
}

function wholeMatch(regexp: string): RegExp | undefined {
  try {
    return new RegExp(`^(?:${regexp})$`);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** True if the agent has reported about the spec that is there now. */
export function isObserved(object: IpvsBpfNode | undefined): boolean {
  return (
    object?.status?.observedGeneration !== undefined &&
    object.status.observedGeneration === object.metadata.generation
  );
}

/** True if the node certainly is as it was before the first change. */
export function isNative(object: IpvsBpfNode | undefined): boolean {
  if (object === undefined) return true;
  const { spec, status } = object;
  if (spec.disruptionGrant !== undefined || status?.step !== undefined) return false;
  if (status?.appliedRevision === undefined) return true;
  if (status.appliedRevision !== NATIVE_REVISION) return false;
  return isObserved(object) || spec.action === 'Observe';
}

/**
 * An agent prepares the next boot of its node without asking. Until it has said that it is to do so no more, nobody
 * knows whether it has just begun to.
 */
function mayBeArmed(object: IpvsBpfNode | undefined): boolean {
  if (object?.spec.module.activation !== 'NextBoot') return false;
  const { action } = object.spec;
  return !(isObserved(object) && (action === 'Observe' || action === 'Revert'));
}

export interface IntentContext {
  /** What spec.snat of the nodes says. */
  readonly clusterCIDRs: readonly string[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

export function intentOf(
  policy: IpvsBpfPolicy,
  { node, agent, previous, selected }: PolicyNode,
  context: IntentContext,
): NodeIntent {
  if (node === undefined) return { kind: 'Leave', skipped: false };
  const { activation } = policy.spec.module;
  const policyModule: NodeSpec['module'] = { activation };
  const native = isNative(previous) && !(mayBeArmed(previous) && isReachable(agent, context.now));
  if (!selected) {
    // What was delivered for a dry run goes, too, unless nobody is there to remove it.
    const clean = !hasDelivery(previous) || !isReachable(agent, context.now);
    if (native && clean) return { kind: 'Leave', skipped: false };
    const { image: _, ...module } = previous?.spec.module ?? policyModule;
    return manage(policy, previous, context, { action: 'Revert', module });
  }
  const choice = moduleFor(policy.spec.module, node.status?.nodeInfo?.kernelVersion ?? '');
  const passive = {
    action: native ? 'Observe' : 'Hold',
    module: previous?.spec.module ?? policyModule,
  } as const;
  const unmapped = !choice.ok;
  if (
    node.metadata.labels?.[SKIP_LABEL] === 'true' ||
    (unmapped && policy.spec.module.unsupportedKernel === 'Skip')
  ) {
    if (native) return { kind: 'Leave', skipped: true };
    return { ...manage(policy, previous, context, passive), skipped: true };
  }
  if (unmapped) {
    const rollsOut = policy.spec.mode === 'Enabled';
    return { ...manage(policy, previous, context, passive), rollsOut, kernelNotMapped: true };
  }
  const { ok: _, ...chosen } = choice;
  const module = { ...chosen, activation };
  const action = policy.spec.mode === 'DryRun' ? passive.action : 'Apply';
  return manage(policy, previous, context, { action, module });
}

type Managed = Extract<NodeIntent, { kind: 'Manage' }>;

function manage(
  policy: IpvsBpfPolicy,
  previous: IpvsBpfNode | undefined,
  { clusterCIDRs, now }: IntentContext,
  { action, module }: Pick<NodeSpec, 'action' | 'module'>,
): Managed {
  const { spec } = policy;
  const revision = action === 'Revert' ? NATIVE_REVISION : targetRevision(spec);
  const retry = policy.metadata.annotations?.[RETRY_ANNOTATION];
  const again =
    previous !== undefined &&
    retry !== previous.metadata.annotations?.[RETRY_ANNOTATION] &&
    (hasFailed(previous) || hasServiceOff(previous) || hasTimedOut(previous, spec.rollout, now));
  const before = previous?.spec.attempt ?? 0;
  const changed = previous?.spec.revision !== revision;
  return {
    kind: 'Manage',
    spec: {
      policyRef: { name: policy.metadata.name, uid: policy.metadata.uid ?? '' },
      action,
      mode: spec.mode === 'Disabled' ? 'Disabled' : 'Enabled',
      revision,
      attempt: changed || again ? before + 1 : before,
      timeouts: {
        stepSeconds: spec.rollout.stepTimeoutSeconds,
        nodeSeconds: spec.rollout.nodeTimeoutSeconds,
      },
      driftPolicy: spec.driftPolicy,
      snat: { mode: spec.snat.mode, clusterCIDRs: [...clusterCIDRs] },
      ipvs: spec.ipvs,
      datapath: spec.datapath,
      module,
    },
    annotations: retry === undefined ? {} : { [RETRY_ANNOTATION]: retry },
    rollsOut: action === 'Revert' || (action === 'Apply' && spec.mode === 'Enabled'),
    skipped: false,
    kernelNotMapped: false,
  };
}

/** The last attempt at what the spec asks for failed. */
export function hasFailed({ spec, status }: IpvsBpfNode): boolean {
  return (
    status?.appliedRevision !== spec.revision &&
    status?.attempt === spec.attempt &&
    status?.lastFailure?.revision === spec.revision
  );
}

/** The node is as asked for, but for Services that it has taken off its whitelist. */
export function hasServiceOff({ status }: IpvsBpfNode): boolean {
  return status?.lastFailure?.rung === 'ServiceOff';
}

/** Neither success nor failure was reported in all the time that the node had. */
function hasTimedOut({ spec, status }: IpvsBpfNode, rollout: PolicySpec['rollout'], now: number): boolean {
  const expiresAt = spec.disruptionGrant?.expiresAt;
  if (expiresAt === undefined || status?.appliedRevision === spec.revision) return false;
  return now > Date.parse(expiresAt) + rollout.nodeTimeoutSeconds * 1000;
}

export function isNodeReady(node: ClusterNode | undefined): boolean {
  return node?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
}

/** The node has booted since it reported: what it said of itself holds no more. */
export function hasRebooted(node: ClusterNode | undefined, object: IpvsBpfNode | undefined): boolean {
  const bootID = node?.status?.nodeInfo?.bootID;
  return bootID !== undefined && object?.status?.bootID !== undefined && object.status.bootID !== bootID;
}

/** A sign of life from the future is none: by whatever clock it was made, nobody knows when. */
export function isReachable(agent: AgentFacts | undefined, now: number): boolean {
  return agent?.renewedAt !== undefined && Math.abs(now - agent.renewedAt) <= LEASE_STALE_MS;
}

export function rolloutNode(
  policy: IpvsBpfPolicy,
  { name, node, agent, previous, selected }: PolicyNode,
  intent: Managed,
  now: number,
): RolloutNode {
  const target = intent.spec.revision;
  const status = previous?.status;
  const current = previous?.spec.revision === target && previous.spec.attempt === intent.spec.attempt;
  const ready = conditionOf(status?.conditions, 'Ready');
  const preflight = conditionOf(status?.conditions, 'PreflightPassed')?.status;
  const grant = current ? previous.spec.disruptionGrant : undefined;
  const failed = intent.kernelNotMapped || (current && hasFailed(previous));
  const rebooted = hasRebooted(node, previous);
  const observed = current && previous.spec.action === intent.spec.action && isObserved(previous);
  return {
    name,
    target,
    applied: status?.appliedRevision,
    revert: !selected,
    preferredCanary: selects(policy.spec.rollout.canary.nodeSelector, node?.metadata.labels),
    observed: observed && !rebooted,
    rebooted,
    preflight: preflight === 'True' ? 'Passed' : preflight === 'False' ? 'Failed' : 'Unknown',
    readySince:
      ready?.status === 'True' && !rebooted ? Math.min(now, Date.parse(ready.lastTransitionTime)) : undefined,
    waitsForBoot:
      observed && conditionOf(status?.conditions, 'DisruptionPending')?.reason === 'WaitingForBoot',
    busy: status?.step !== undefined,
    mayStart:
      previous !== undefined &&
      (!isObserved(previous) || (previous.spec.disruptionGrant !== undefined && grant === undefined)),
    failed,
    stuck: failed && status?.lastFailure?.rollback === 'Failed',
    agentReachable: isReachable(agent, now),
    agentSeenAt: agent?.renewedAt,
    nodeReady: isNodeReady(node),
    grant:
      grant === undefined ? undefined : { revision: grant.revision, expiresAt: Date.parse(grant.expiresAt) },
  };
}

/** The node does what this spec asks for, and has said so since it booted. */
export function isSettled(
  { node, previous }: Pick<PolicyNode, 'node' | 'previous'>,
  spec: NodeSpec,
  whitelist: string | undefined,
): boolean {
  if (previous === undefined || !isObserved(previous) || !sameValue(previous.spec, spec)) return false;
  if (hasRebooted(node, previous)) return false;
  if (!holds(previous.status?.conditions, 'Ready')) return false;
  return whitelist === undefined || previous.status?.services?.revision === whitelist;
}
