// SPDX-License-Identifier: Apache-2.0
/** Carries out a plan: journal, step, journal; and takes it back when a step fails. */
import { StepFailed } from '../core/outcome.ts';
import { describeStep, type Step, type StepKind, undoStep } from '../core/steps.ts';
import { applyStep } from './apply.ts';
import { thawProxy } from './apply-swap.ts';
import type { KillPoint } from './kill-point.ts';
import type { Log } from './log.ts';
import type { NodePorts } from './observe.ts';

export interface Execution {
  readonly verb: 'up' | 'down';
  readonly bootId: string;
  readonly ports: NodePorts;
  readonly log: Log;
  readonly killPoint: KillPoint;
}

/** Steps that come in thousands and can be observed: the journal names the first of a row of them. */
const IN_ROWS: ReadonlySet<StepKind> = new Set(['putService', 'removeService']);

/** Throws StepFailed. `up` undoes its steps then; `down` leaves them, to go on when it is run again. */
export async function execute(steps: readonly Step[], execution: Execution): Promise<void> {
  const { verb, ports, log } = execution;
  const begun: Step[] = [];
  let previous: StepKind | undefined;
  for (const step of steps) {
    begun.push(step);
    try {
      const journaled = !IN_ROWS.has(step.kind) || step.kind !== previous;
      await runStep(step, journaled, execution);
    } catch (cause) {
      log.error('step failed', { step: step.kind, description: describeStep(step) });
      const rollbackErrors = verb === 'up' ? await rollBack(begun, execution) : [];
      // Whatever else is left as it is: kube-proxy is not.
      await thawAll(ports, log);
      const undone = rollbackErrors.length === 0 ? 'Succeeded' : 'Failed';
      throw new StepFailed({ step, cause, rollback: verb === 'up' ? undone : 'NotNeeded', rollbackErrors });
    }
    previous = step.kind;
  }
  await ports.records.writeJournal(undefined);
}

/** Lets go on what this program has stopped. Logs a failure: there is an error to be told already. */
export async function thawAll(ports: NodePorts, log: Log): Promise<void> {
  try {
    if ((await ports.records.read()).frozen !== undefined) await thawProxy([], ports);
  } catch (error) {
    log.error('kube-proxy may still be stopped', {
      reason: error instanceof Error ? error.message : String(error),
    });
  }
}

async function runStep(step: Step, journaled: boolean, execution: Execution): Promise<void> {
  const { verb, bootId, ports, log, killPoint } = execution;
  const description = describeStep(step);
  if (journaled) {
    await ports.records.writeJournal({ verb, bootId, step: step.kind, description, undo: undoStep(step) });
  }
  killPoint(step, 'before');
  const begin = ports.clock.now();
  await applyStep(step, ports);
  killPoint(step, 'applied');
  log.info('step done', {
    step: step.kind,
    description,
    milliseconds: Math.round(ports.clock.now() - begin),
  });
}

/** Undoes the last step first. Goes on after a failure: each step that is undone is one less to repair. */
async function rollBack(begun: readonly Step[], execution: Execution): Promise<readonly string[]> {
  const errors: string[] = [];
  for (const step of begun.toReversed()) {
    for (const undo of undoStep(step)) {
      try {
        await applyStep(undo, execution.ports);
        execution.log.info('step undone', { step: step.kind, description: describeStep(undo) });
      } catch (error) {
        errors.push(`${describeStep(undo)}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  if (errors.length === 0) await execution.ports.records.writeJournal(undefined);
  return errors;
}
