// SPDX-License-Identifier: Apache-2.0
/** Probes the node and takes it down rung by rung. Needs neither config nor API server. */
import { type NodeRung, nextRung, probePath, rungSteps } from '../core/ladder.ts';
import { applyStep } from './apply.ts';
import { execute, thawAll } from './execute.ts';
import { observe } from './observe.ts';
import type { Node } from './reconcile.ts';

/** Where a node stopped. */
export interface Landing {
  readonly rung: NodeRung;
  /** False if the probe did not pass even on the last rung. */
  readonly passed: boolean;
  /** What the rungs above said, first things first. */
  readonly errors: readonly string[];
}

/**
 * A packet by the path that the node has now. kube-proxy removes virtual servers that it does not know: before the
 * probe counts as failed it is tried again while kube-proxy stands still. Throws HostError.
 */
export async function probe(node: Node): Promise<void> {
  try {
    await probeOnce(node);
  } catch (error) {
    const processes = await node.ports.kubeProxy.processes();
    if (processes.length === 0) throw error;
    node.log.warn('probe failed, trying again without kube-proxy', { reason: messageOf(error) });
    try {
      await applyStep({ kind: 'freezeProxy', processes }, node.ports);
      await probeOnce(node);
    } finally {
      await thawAll(node.ports, node.log);
    }
  }
}

async function probeOnce({ ports }: Node): Promise<void> {
  const facts = await observe(ports);
  if (facts.ipvs === undefined) return;
  if (probePath(facts) === 'Accelerated') await applyStep({ kind: 'selfCheck' }, ports);
  else await ports.selfCheck.runNative();
}

/** Goes down from `first` until the probe passes. Never throws: there is nobody below to catch. */
export async function descend(node: Node, first?: NodeRung): Promise<Landing> {
  const errors: string[] = [];
  let rung = first ?? nextRung(undefined);
  for (;;) {
    if (rung === undefined) return { rung: 'ModuleRestored', passed: false, errors };
    node.log.warn('going down a rung', { rung });
    try {
      await takeRung(rung, node);
      await probe(node);
      return { rung, passed: true, errors };
    } catch (error) {
      errors.push(`${rung}: ${messageOf(error)}`);
      node.log.error('the rung does not hold', { rung, reason: messageOf(error) });
    }
    rung = nextRung(rung);
  }
}

async function takeRung(rung: NodeRung, node: Node): Promise<void> {
  const { ports } = node;
  const facts = await observe(ports);
  const steps = rungSteps(rung, facts, await ports.records.read());
  if (steps.length > 0) {
    await execute(steps, { ...node, verb: 'down', bootId: facts.bootId });
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
