// SPDX-License-Identifier: Apache-2.0
/** From everything that is observed to everything that is to be written. A second plan after that writes nothing. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import { type NodeSpec, POLICY_FINALIZER } from '../api/resources.ts';
import { sameValue } from './canonical.ts';
import type { AgentFacts, ClusterFacts, ClusterNode } from './cluster-facts.ts';
import type { ClusterPlan, ClusterStep } from './cluster-steps.ts';
import { conditionOf, type Finding, isoTime, mergeConditions, nodeFinding } from './conditions.ts';
import { selects } from './label-selector.ts';
import { deliveryFinding } from './module-delivery.ts';
import { whitelistRevision } from './node-spec.ts';
import { policyStatusSteps } from './policy-events.ts';
import {
  intentOf,
  isNodeReady,
  isReachable,
  LEASE_STALE_MS,
  type NodeIntent,
  type PolicyNode,
  rolloutNode,
} from './policy-nodes.ts';
import { aggregatePrefixes } from './prefixes.ts';
import type { NodeReason } from './reasons.ts';
import { type NodeDecision, planRollout, type RolloutPlan } from './rollout.ts';
import { type Selection, selectServices } from './service-selection.ts';
import { planSlices } from './service-slices.ts';

/** A node with all that was decided about it. */
export interface PlannedNode extends PolicyNode {
  readonly intent: NodeIntent;
  /** Undefined if the node does not take part in the rollout. */
  readonly decision: NodeDecision | undefined;
  /** What its IpvsBpfNode is to say; undefined if there is to be none. */
  readonly spec: NodeSpec | undefined;
}

/** A policy with all that was decided about it. */
export interface PlannedPolicy {
  readonly policy: IpvsBpfPolicy;
  readonly deleting: boolean;
  readonly nodes: readonly PlannedNode[];
  /** Nodes that it selects and an older policy has: node → that policy. */
  readonly conflicts: ReadonlyMap<string, string>;
  readonly selection: Selection;
  readonly whitelist: string;
  readonly rollout: RolloutPlan;
}

const MAX_CLUSTER_CIDRS = 64;

export function planCluster(facts: ClusterFacts): ClusterPlan {
  const policies = facts.policies.toSorted(byAge);
  const owners = nodeOwners(policies, facts.nodes);
  const podCIDRs = aggregatePrefixes(
    facts.nodes.flatMap(({ spec }) => spec?.podCIDRs ?? []),
    MAX_CLUSTER_CIDRS,
  );
  const steps: ClusterStep[] = [];
  const times: number[] = [];
  for (const policy of policies) {
    const planned = planPolicy(policy, facts, owners, podCIDRs);
    steps.push(...policySteps(planned, facts));
    if (planned.rollout.recheckAt !== undefined) times.push(planned.rollout.recheckAt);
  }
  const deleted = new Set(steps.flatMap((step) => (step.kind === 'deleteNode' ? [step.name] : [])));
  for (const object of facts.nodeObjects) {
    if (!deleted.has(object.metadata.name)) steps.push(...conditionSteps(object, facts));
  }
  for (const { renewedAt } of Object.values(facts.agents)) {
    if (renewedAt !== undefined) times.push(renewedAt + LEASE_STALE_MS + 1);
  }
  for (const { metadata } of facts.nodeObjects) {
    times.push(Date.parse(metadata.creationTimestamp ?? '') + LEASE_STALE_MS + 1);
  }
  const later = times.filter((time) => time > facts.now);
  return { steps, ...(later.length === 0 ? {} : { recheckAt: Math.min(...later) }) };
}

/** For sort(): the oldest first, which has a node that several select. */
export function byAge(a: IpvsBpfPolicy, b: IpvsBpfPolicy): number {
  const [first, second] = [a, b].map(
    ({ metadata }) => `${metadata.creationTimestamp ?? '9'} ${metadata.name}`,
  );
  return (first ?? '') < (second ?? '') ? -1 : 1;
}

/** Node → policies that select it, the one that has it first. `policies`: the oldest first. */
export function nodeOwners(
  policies: readonly IpvsBpfPolicy[],
  nodes: readonly ClusterNode[],
): ReadonlyMap<string, readonly IpvsBpfPolicy[]> {
  const living = policies.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  return new Map(
    nodes.map(({ metadata }) => [
      metadata.name,
      living.filter(({ spec }) => selects(spec.nodeSelector, metadata.labels)),
    ]),
  );
}

function planPolicy(
  policy: IpvsBpfPolicy,
  facts: ClusterFacts,
  owners: ReadonlyMap<string, readonly IpvsBpfPolicy[]>,
  podCIDRs: readonly string[],
): PlannedPolicy {
  const { spec } = policy;
  const deleting = policy.metadata.deletionTimestamp !== undefined;
  const context = {
    clusterCIDRs: spec.snat.clusterCIDRs.length > 0 ? spec.snat.clusterCIDRs : podCIDRs,
    now: facts.now,
  };
  const selection = selectServices(spec, facts);
  const members = membersOf(policy, facts, owners).map((member) => ({
    member,
    intent: intentOf(policy, member, context),
  }));
  const recorded = deleting ? undefined : recordedRollout(policy, members);
  const rollout = planRollout({
    now: facts.now,
    settings: spec.rollout,
    maxFailedNodes: spec.failurePolicy.maxFailedNodes,
    ...(selection.services.length === 0 ? { barrier: 'NoServicesSelected' as const } : {}),
    deleting,
    nodes: members.flatMap(({ member, intent }) =>
      intent.kind === 'Manage' && intent.rollsOut ? [rolloutNode(policy, member, intent, facts.now)] : [],
    ),
    canaryNodes: recorded?.canaryNodes ?? [],
    soakedAt: recorded?.soakedAt === undefined ? undefined : Date.parse(recorded.soakedAt),
  });
  const nodes = members.map(({ member, intent }): PlannedNode => {
    const decision = rollout.decisions.get(member.name);
    return { ...member, intent, decision, spec: specOf(intent, decision, member.previous) };
  });
  const conflicts = new Map(
    [...owners].flatMap(([name, [owner, ...others]]) =>
      owner !== undefined && others.includes(policy) ? [[name, owner.metadata.name] as const] : [],
    ),
  );
  const whitelist = whitelistRevision(selection.services);
  return { policy, deleting, nodes, conflicts, selection, whitelist, rollout };
}

/** Where the rollout was, if it was the one to the same revision. */
function recordedRollout(
  { status }: IpvsBpfPolicy,
  members: readonly { readonly intent: NodeIntent }[],
): { readonly canaryNodes?: readonly string[]; readonly soakedAt?: string } | undefined {
  const revision = members.flatMap(({ intent }) =>
    intent.kind === 'Manage' && intent.rollsOut && intent.spec.action === 'Apply'
      ? [intent.spec.revision]
      : [],
  )[0];
  return revision !== undefined && status?.targetRevision === revision ? status.rollout : undefined;
}

/** The nodes that the policy has, and those that it had: sorted by name. */
function membersOf(
  policy: IpvsBpfPolicy,
  facts: ClusterFacts,
  owners: ReadonlyMap<string, readonly IpvsBpfPolicy[]>,
): readonly PolicyNode[] {
  const objects = new Map(facts.nodeObjects.map((object) => [object.metadata.name, object]));
  const owned = facts.nodes.filter(({ metadata }) => owners.get(metadata.name)?.[0] === policy);
  const nodes = new Map(facts.nodes.map((node) => [node.metadata.name, node]));
  const former = facts.nodeObjects.filter(
    ({ metadata, spec }) =>
      spec.policyRef.name === policy.metadata.name && (owners.get(metadata.name)?.length ?? 0) === 0,
  );
  const member = (name: string, selected: boolean): PolicyNode => ({
    name,
    node: nodes.get(name),
    agent: facts.agents[name],
    previous: objects.get(name),
    selected,
  });
  return [
    ...owned.map(({ metadata }) => member(metadata.name, true)),
    ...former.map(({ metadata }) => member(metadata.name, false)),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function specOf(
  intent: NodeIntent,
  decision: NodeDecision | undefined,
  previous: IpvsBpfNode | undefined,
): NodeSpec | undefined {
  if (intent.kind === 'Leave') return undefined;
  const old = previous?.spec.disruptionGrant;
  if (decision?.state === 'TimedOut' && old !== undefined) return { ...intent.spec, disruptionGrant: old };
  if (decision?.state !== 'Granted') return { ...intent.spec };
  const { revision, expiresAt } = decision.grant;
  const same = old?.revision === revision && Date.parse(old.expiresAt) === expiresAt;
  return { ...intent.spec, disruptionGrant: same ? old : { revision, expiresAt: isoTime(expiresAt) } };
}

function policySteps(planned: PlannedPolicy, facts: ClusterFacts): readonly ClusterStep[] {
  const { policy, deleting, nodes } = planned;
  const slices = facts.slices.filter(({ spec }) => spec.policyRef.name === policy.metadata.name);
  const guarded = policy.metadata.finalizers?.includes(POLICY_FINALIZER) === true;
  if (!guarded && deleting) return [];
  if (!guarded) return [{ kind: 'addFinalizer', policy }, ...policyStatusSteps(planned, facts, 'First')];
  const writes = nodes.flatMap(nodeSteps);
  const left = nodes.some(({ spec }) => spec !== undefined);
  if (deleting && !left) {
    const deletions = slices.map(({ metadata }) => ({ kind: 'deleteSlice' as const, name: metadata.name }));
    return [...writes, ...deletions, { kind: 'removeFinalizer', policy }];
  }
  const frozen = deleting || policy.spec.mode === 'DryRun';
  const policyRef = { name: policy.metadata.name, uid: policy.metadata.uid ?? '' };
  // Before the nodes: an agent that starts has the whitelist already.
  const whitelist = frozen ? [] : planSlices(policyRef, planned.selection.services, slices);
  return [...whitelist, ...writes, ...policyStatusSteps(planned, facts, 'Known')];
}

function nodeSteps({ name, previous, intent, spec }: PlannedNode): readonly ClusterStep[] {
  if (spec === undefined || intent.kind === 'Leave') {
    if (previous === undefined) return [];
    const { uid } = previous.metadata;
    return [{ kind: 'deleteNode', name, ...(uid === undefined ? {} : { uid }) }];
  }
  const annotated = Object.entries(intent.annotations).every(
    ([key, value]) => previous?.metadata.annotations?.[key] === value,
  );
  if (previous !== undefined && annotated && sameValue(previous.spec, spec)) return [];
  return [{ kind: 'applyNode', name, spec, annotations: intent.annotations }];
}

function reachableFinding(
  { metadata }: IpvsBpfNode,
  node: ClusterNode,
  { agent, now }: { readonly agent: AgentFacts | undefined; readonly now: number },
): Finding {
  const said = (reason: NodeReason<'AgentReachable'>, message: string): Finding =>
    nodeFinding('AgentReachable', reason, message);
  if (isReachable(agent, now)) return said('LeaseFresh', 'The agent renews its Lease.');
  if (!isNodeReady(node))
    return said('NodeNotReady', 'The node is not Ready, and its agent does not report.');
  const age = now - Date.parse(metadata.creationTimestamp ?? '');
  if (agent?.renewedAt === undefined && Math.abs(age) <= LEASE_STALE_MS) {
    return said('Reconciling', 'The agent may still be starting: it has not made its Lease yet.');
  }
  return agent?.pod === true
    ? said('LeaseStale', 'The agent has a pod and does not renew its Lease.')
    : said('AgentPodMissing', 'There is no pod of the agent on the node.');
}

/** The conditions of a node that the operator writes. */
function conditionSteps(object: IpvsBpfNode, facts: ClusterFacts): readonly ClusterStep[] {
  const { name, generation = 0 } = object.metadata;
  const node = facts.nodes.find(({ metadata }) => metadata.name === name);
  if (node === undefined) return [];
  const findings = [
    reachableFinding(object, node, { agent: facts.agents[name], now: facts.now }),
    deliveryFinding(object, facts.deliveryPods),
  ];
  const before = findings.flatMap(({ type }) => conditionOf(object.status?.conditions, type) ?? []);
  const conditions = mergeConditions(before, findings, { generation, time: isoTime(facts.now) });
  return sameValue(before, conditions) ? [] : [{ kind: 'applyNodeConditions', name, conditions }];
}
