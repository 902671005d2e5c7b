// SPDX-License-Identifier: Apache-2.0
/** One look at a node of a cluster: what it is like, what is to become of it, and what stands in the way. */
import { armSteps, confirmSteps, disarmSteps } from '../core/boot.ts';
import type { ModuleFileFacts, NodeFacts } from '../core/facts.ts';
import { type Decision, decide, type NodeProgress, type NodeTarget } from '../core/node-target.ts';
import { planUp, planWaitForBoot } from '../core/plan.ts';
import { type Check, preflight } from '../core/preflight.ts';
import type { Step } from '../core/steps.ts';
import type { ProxyWatch, Restart } from './proxy-watch.ts';
import { type Node, type Observation, observeFor, withModuleFileFor } from './reconcile.ts';

export interface Seen extends Observation {
  readonly decision: Decision;
  /** Of what the spec asks for, which may be another module than the one that is kept until then. */
  readonly file: ModuleFileFacts | undefined;
  /** Of what the spec asks for. */
  readonly checks: readonly Check[];
  readonly steps: readonly Step[];
  /** What is done about its boots to a node that nothing else is done to. */
  readonly bootSteps: readonly Step[];
  /** Of kube-proxy, since the node was as it should be. */
  readonly restart: Restart | undefined;
  readonly mustAct: boolean;
}

export interface SeeContext {
  readonly node: Node;
  readonly proxy: ProxyWatch;
  readonly progress: NodeProgress;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** @param known what the node is like, if that was observed just now */
export async function see(
  target: NodeTarget,
  { node, proxy, progress, now }: SeeContext,
  known?: Observation,
): Promise<Seen> {
  const observed = known?.facts ?? (await observeFor(target.spec, node));
  const current = await withModuleFileFor(target.spec, await proxy.withVersion(observed), node);
  const record = known?.record ?? (await node.ports.records.read());
  const decision = decide(target, progress, { facts: current, record, now });
  // A revision that is kept until another one may come keeps its module, too.
  const kept = await withModuleFileFor(decision.config, current, node);
  const { moduleFile: nextBootFile } = current;
  const waits = decision.pending !== undefined && nextBootFile !== undefined;
  const facts = waits ? { ...kept, nextBootFile } : kept;
  const asked = target.spec.action === 'Apply' || target.spec.action === 'Hold';
  const steps = asked && decision.act !== 'Down' ? planUp(decision.config, facts, record) : [];
  const isNew =
    decision.act === 'Up' &&
    (decision.revision !== progress.appliedRevision ||
      decision.input !== progress.converged ||
      progress.attempt < target.spec.attempt);
  const checks = checksOf(target, decision, current);
  return {
    facts,
    record,
    decision,
    file: current.moduleFile,
    checks,
    steps,
    bootSteps: bootStepsOf(target, decision, { facts, record, checks }),
    restart: proxy.restart(progress.kubeProxy, facts),
    mustAct: steps.length > 0 || isNew,
  };
}

function bootStepsOf(
  { spec }: NodeTarget,
  decision: Decision,
  { facts, record, checks }: Pick<Seen, 'facts' | 'record' | 'checks'>,
): readonly Step[] {
  const failed = checks.some(({ result }) => result === 'Fail');
  if (decision.act === 'Down') return [];
  if (decision.act === 'Up') return failed ? confirmSteps(facts) : [];
  const { why, pending, config } = decision;
  if (why === 'Hold') return confirmSteps(facts);
  // A revision that has failed is not tried by a boot either.
  if (why === 'Failed') return disarmSteps(facts);
  if (why !== 'Waiting') return [];
  if (spec.action === 'Revert' || spec.module.activation !== 'NextBoot') return disarmSteps(facts);
  if (failed) return confirmSteps(facts);
  return pending === 'WaitingForBoot' ? planWaitForBoot(config, facts, record) : armSteps(config, facts);
}

/** The checks on a node of a cluster. */
export function checksOf(
  { spec }: NodeTarget,
  { config }: Pick<Decision, 'config'>,
  facts: NodeFacts,
): readonly Check[] {
  const { image: moduleImage } = spec.module;
  return preflight(config, facts, { needsKubeProxy: true, moduleImage });
}
