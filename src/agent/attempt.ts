// SPDX-License-Identifier: Apache-2.0
/** One attempt to bring a node of a cluster to what it should be, and what to remember of it. */
import { NATIVE_REVISION } from '../api/resources.ts';
import { shorten } from '../core/conditions.ts';
import { HostError } from '../core/errors.ts';
import { ipVs, type NodeFacts } from '../core/facts.ts';
import {
  currentProgress,
  type Decision,
  failureBeside,
  NATIVE_PROGRESS,
  type NodeFailure,
  type NodeProgress,
  type NodeTarget,
  nodePortAddresses,
  OFF_REVISION,
} from '../core/node-target.ts';
import { PreflightFailed, StepFailed } from '../core/outcome.ts';
import type { FailureReason } from '../core/reasons.ts';
import { unprobedAfter } from '../core/service-probe.ts';
import { entryName, ownerOf, withServiceOff } from '../core/services-off.ts';
import { describeStep, type Step } from '../core/steps.ts';
import { virtualServerKey } from '../core/virtual-servers.ts';
import { descend, type Landing, messageOf } from './ladder.ts';
import { down, type Node, type Observation, type UpOptions, up } from './reconcile.ts';

export const MESSAGE_LENGTH = 1024;

export interface Attempt {
  readonly progress: NodeProgress;
  /** True if the last thing that was done was a self-check that passed. */
  readonly probed: boolean;
  /** True if the same may be tried again at once. */
  readonly again: boolean;
  /** What was observed last, if nothing was done after it. */
  readonly after?: Observation;
}

/** What is to be remembered before the first of these steps, so that a crash does not lose it. */
export function beginning(
  { config, revision }: Extract<Decision, { readonly act: 'Up' }>,
  progress: NodeProgress,
  steps: readonly Step[],
): NodeProgress {
  const unprobed = unprobedAfter(progress.unprobed ?? [], steps, config);
  const exchanges = steps.some(({ kind }) => kind === 'restoreTable');
  if (unprobed.length === 0 && !exchanges) return progress;
  return {
    ...progress,
    ...(unprobed.length === 0 ? {} : { unprobed }),
    ...(exchanges ? { exchangedFor: revision } : {}),
  };
}

/** Goes up. Never throws for a failed step: that is remembered. */
export async function attemptUp(
  decision: Extract<Decision, { readonly act: 'Up' }>,
  target: NodeTarget,
  {
    before,
    progress,
    node,
  }: {
    readonly before: NonNullable<UpOptions['before']>;
    readonly progress: NodeProgress;
    readonly node: Node;
  },
): Promise<Attempt> {
  const { timeouts } = target.spec;
  const withBaseline = { baseline: baselineOf(before.facts, node), ...progress };
  try {
    const { steps, after } = await up(decision.config, node, {
      before,
      keepAfterFailedCheck: true,
      needsKubeProxy: true,
      limits: { stepMs: timeouts.stepSeconds * 1000, totalMs: timeouts.nodeSeconds * 1000 },
    });
    const probed = steps.some(({ kind }) => kind === 'selfCheck');
    // Before the first step these were written down as planned; a second round may have done more.
    const unprobed = unprobedAfter(withBaseline.unprobed ?? [], steps, decision.config);
    const progress = { ...withBaseline, ...(unprobed.length === 0 ? {} : { unprobed }) };
    const attempt = { progress: succeeded(decision, target, progress), probed, again: false };
    return after === undefined ? attempt : { ...attempt, after };
  } catch (error) {
    if (error instanceof PreflightFailed) return { progress, probed: false, again: false };
    if (!(error instanceof StepFailed)) throw error;
    const context = { target, progress: withBaseline, node };
    return (
      serviceOff(error, decision.revision, { ...context, before: before.facts }) ??
      (await failedUp(error, context))
    );
  }
}

function succeeded(
  { revision, input }: { readonly revision: string; readonly input: string },
  target: NodeTarget,
  { failure, ...progress }: NodeProgress,
): NodeProgress {
  const { spec } = target;
  const isNew = revision === spec.revision;
  const next = {
    ...progress,
    appliedRevision: revision,
    converged: input,
    ...(isNew ? { applied: { module: spec.module, datapath: spec.datapath }, attempt: spec.attempt } : {}),
    // What became of a newer revision stays known while the old one is kept.
    ...(failure !== undefined && (!isNew || failure.rung === 'ServiceOff') ? { failure } : {}),
  };
  return currentProgress(next, target);
}

/** What it knows of the node, and what it acts on. */
export interface AttemptContext {
  readonly target: NodeTarget;
  readonly progress: NodeProgress;
  readonly node: Node;
}

/** A virtual server that could not be whitelisted stays native, and the rest is tried again. */
function serviceOff(
  error: StepFailed,
  revision: string,
  { target, progress, node, before }: AttemptContext & { readonly before: NodeFacts },
): Attempt | undefined {
  const { failed } = error;
  if (failed.kind !== 'putService') return undefined;
  const key = virtualServerKey(failed.entry);
  const owner = ownerOf(key, target.services, nodePortAddresses(before));
  if (owner === undefined) return undefined;
  const { spec } = target;
  const ofService = failureOf(error, target, node, { rollback: error.rollback, rung: 'ServiceOff' });
  const failure = failureBeside(spec, progress, ofService);
  const servicesOff = withServiceOff(progress.servicesOff, {
    namespace: owner.namespace,
    name: owner.name,
    servers: [key],
    entry: entryName(owner),
    revision,
    attempt: spec.attempt,
    message: ofService.message ?? '',
  });
  const next = { ...progress, servicesOff, ...(failure === undefined ? {} : { failure }) };
  return { progress: next, probed: false, again: true };
}

async function failedUp(error: StepFailed, { target, progress, node }: AttemptContext): Promise<Attempt> {
  const landing = await landAfter(error, node);
  const failure = failureOf(error, target, node, {
    rollback: landing === undefined || landing.passed ? 'Succeeded' : 'Failed',
    rung: landing?.rung ?? 'ModuleRestored',
    errors: landing?.errors ?? [],
  });
  const { converged, ...rest } = landing === undefined ? progress : fallen(progress, landing);
  return { progress: { ...rest, attempt: target.spec.attempt, failure }, probed: false, again: false };
}

/** Undefined: every step was undone, and the node is what it was before the attempt. */
async function landAfter(error: StepFailed, node: Node): Promise<Landing | undefined> {
  if (error.failed.kind === 'selfCheck') return descend(node);
  return error.rollback === 'Failed' ? descend(node, 'ModuleRestored') : undefined;
}

/** A node that fell has no revision; only the last rung, if it holds, is what the node was. */
function fallen(progress: NodeProgress, { rung, passed }: Landing): NodeProgress {
  const { applied, ...rest } = progress;
  if (rung === 'ModuleRestored' && passed) {
    return { ...NATIVE_PROGRESS, attempt: progress.attempt, servicesOff: progress.servicesOff };
  }
  return { ...rest, appliedRevision: OFF_REVISION };
}

export function failureOf(
  error: StepFailed,
  { spec }: NodeTarget,
  node: Node,
  how: {
    readonly rollback: NonNullable<NodeFailure['rollback']>;
    readonly rung: NonNullable<NodeFailure['rung']>;
    readonly errors?: readonly string[];
  },
): NodeFailure {
  return {
    step: error.failed.kind,
    revision: spec.action === 'Revert' ? NATIVE_REVISION : spec.revision,
    reason: reasonOf(error),
    message: shorten(
      [describeStep(error.failed), messageOf(error.cause), ...(how.errors ?? [])].join(': '),
      MESSAGE_LENGTH,
    ),
    at: node.ports.clock.date(),
    rollback: how.rollback,
    rung: how.rung,
  };
}

function reasonOf({ failed, cause }: StepFailed): FailureReason {
  if (failed.kind === 'selfCheck') return probeReason(cause);
  return cause instanceof HostError ? cause.code : 'StepFailed';
}

function probeReason(error: unknown): 'ProbeFailed' | 'ProbeTimeout' {
  return error instanceof HostError && error.code === 'CommandTimedOut' ? 'ProbeTimeout' : 'ProbeFailed';
}

/** A probe between two changes failed: down the ladder. */
export async function afterFailedProbe(
  error: unknown,
  { target, progress, node }: AttemptContext,
): Promise<NodeProgress> {
  const landing = await descend(node);
  const { converged, ...rest } = fallen(progress, landing);
  return {
    ...rest,
    attempt: target.spec.attempt,
    failure: {
      step: 'selfCheck',
      revision: target.spec.revision,
      reason: probeReason(error),
      message: shorten([messageOf(error), ...landing.errors].join(': '), MESSAGE_LENGTH),
      at: node.ports.clock.date(),
      rollback: landing.passed ? 'Succeeded' : 'Failed',
      rung: landing.rung,
    },
  };
}

/** Puts the node back. Never throws for a failed step. */
export async function attemptDown(
  target: NodeTarget,
  { progress, node }: { readonly progress: NodeProgress; readonly node: Node },
): Promise<NodeProgress> {
  try {
    await down(node, 0);
    return { ...NATIVE_PROGRESS, attempt: target.spec.attempt };
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    const failure = failureOf(error, target, node, { rollback: 'Failed', rung: 'ModuleRestored' });
    return { ...progress, attempt: target.spec.attempt, failure };
  }
}

function baselineOf(facts: NodeFacts, { ports }: Node): NonNullable<NodeProgress['baseline']> {
  return {
    srcversion: ipVs(facts)?.srcversion ?? '',
    virtualServers: facts.ipvs?.virtualServers.length ?? 0,
    capturedAt: ports.clock.date(),
    bootID: facts.bootId,
  };
}
