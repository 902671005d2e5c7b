// SPDX-License-Identifier: Apache-2.0
/** One look at a node of a cluster: what it is like, what is to become of it, and what stands in the way. */
import type { ModuleFileFacts, NodeFacts } from '../core/facts.ts';
import { type Decision, decide, type NodeProgress, type NodeTarget } from '../core/node-target.ts';
import { planUp } from '../core/plan.ts';
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
  const facts = await withModuleFileFor(decision.config, current, node);
  const asked = target.spec.action === 'Apply' || target.spec.action === 'Hold';
  const steps = asked && decision.act !== 'Down' ? planUp(decision.config, facts, record) : [];
  const isNew =
    decision.act === 'Up' &&
    (decision.revision !== progress.appliedRevision ||
      decision.input !== progress.converged ||
      progress.attempt < target.spec.attempt);
  return {
    facts,
    record,
    decision,
    file: current.moduleFile,
    checks: checksOf(target, decision, current),
    steps,
    restart: proxy.restart(progress.kubeProxy, facts),
    mustAct: steps.length > 0 || isNew,
  };
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
