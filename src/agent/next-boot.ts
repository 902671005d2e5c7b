// SPDX-License-Identifier: Apache-2.0
/** What an agent does about the boots of a node whose module comes by a boot (module.activation NextBoot). */
import { fellBack } from '../core/boot.ts';
import { shorten } from '../core/conditions.ts';
import { hasFailed, NATIVE_PROGRESS, type NodeProgress } from '../core/node-target.ts';
import { StepFailed } from '../core/outcome.ts';
import { type AttemptContext, failureOf, MESSAGE_LENGTH } from './attempt.ts';
import { execute } from './execute.ts';
import { messageOf } from './ladder.ts';
import type { Seen } from './see.ts';

/**
 * Arms a node that has to wait, confirms a boot that went well, takes the files away after a failure, and remembers a
 * boot that fell back. Undefined if there was nothing of that. `report` is called before the node is armed. Never throws
 * for a failed step: that is remembered.
 */
export async function prepareBoot(
  { decision, facts, bootSteps }: Seen,
  context: AttemptContext,
  report: () => Promise<void>,
): Promise<NodeProgress | undefined> {
  const hasFallenBack = decision.act === 'Nothing' && decision.why === 'FellBack';
  if (hasFallenBack) return afterFallBack(fellBack(decision.config, facts) ?? '', context);
  if (bootSteps.length === 0) return undefined;
  const { target, progress, node } = context;
  // The operator is told before it is so: it leaves no node behind of which it knows.
  if (bootSteps.some(({ kind }) => kind === 'armBoot')) await report();
  try {
    await execute(bootSteps, { ...node, verb: 'up', bootId: facts.bootId });
    return progress;
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    node.log.error('not prepared for the next boot', { reason: messageOf(error) });
    if (hasFailed(target.spec, progress)) return progress;
    const rollback = error.rollback === 'Failed' ? 'Failed' : 'Succeeded';
    const failure = failureOf(error, target, node, { rollback, rung: 'ModuleRestored' });
    return { ...progress, attempt: target.spec.attempt, failure };
  }
}

/** Nothing is left of what the node had before the boot, and nothing is tried again. */
function afterFallBack(why: string, { target, progress, node }: AttemptContext): NodeProgress {
  const { spec } = target;
  return {
    ...NATIVE_PROGRESS,
    servicesOff: progress.servicesOff,
    attempt: spec.attempt,
    failure: {
      step: 'loadAtBoot',
      revision: spec.revision,
      reason: 'BootFellBack',
      message: shorten(why, MESSAGE_LENGTH),
      at: node.ports.clock.date(),
      rollback: 'Succeeded',
      rung: 'ModuleRestored',
    },
  };
}
