// SPDX-License-Identifier: Apache-2.0
/** Carries out a plan: journal, step, journal; and takes it back when a step fails. */
import { HostError } from '../core/errors.ts';
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
  readonly limits?: Limits;
  /** Leaves a node whose self-check failed as it is: what is wrong is then found rung by rung. */
  readonly keepAfterFailedCheck?: boolean;
  readonly onStep?: StepObserver;
}

/** Told of each step that ended. */
export type StepObserver = (step: StepKind, outcome: 'done' | 'failed', seconds: number) => void;

/** What takes longer has failed. */
export interface Limits {
  readonly stepMs: number;
  /** For all steps together. */
  readonly totalMs: number;
}

/** Steps that come in thousands and can be observed: the journal and the log name the first of a row of them. */
const IN_ROWS: ReadonlySet<StepKind> = new Set(['putService', 'removeService']);

/** Throws StepFailed. `up` undoes its steps then; `down` leaves them, to go on when it is run again. */
export async function execute(steps: readonly Step[], execution: Execution): Promise<void> {
  const { verb, ports, log } = execution;
  const begun: Step[] = [];
  let previous: StepKind | undefined;
  const end = ports.clock.now() + (execution.limits?.totalMs ?? Number.POSITIVE_INFINITY);
  for (const step of steps) {
    begun.push(step);
    try {
      const journaled = !IN_ROWS.has(step.kind) || step.kind !== previous;
      if (ports.clock.now() > end) throw tooLong('all steps together', execution.limits?.totalMs ?? 0);
      await runStep(step, journaled, execution);
    } catch (cause) {
      log.error('step failed', { step: step.kind, description: describeStep(step) });
      const undoes = verb === 'up' && !(execution.keepAfterFailedCheck === true && step.kind === 'selfCheck');
      const rollbackErrors = undoes ? await rollBack(begun, execution) : [];
      // Whatever else is left as it is: the probe and kube-proxy are not.
      await endOutageProbe(ports, log);
      await thawAll(ports, log);
      const undone = rollbackErrors.length === 0 ? 'Succeeded' : 'Failed';
      throw new StepFailed({ step, cause, rollback: undoes ? undone : 'NotNeeded', rollbackErrors });
    }
    previous = step.kind;
  }
  await ports.records.writeJournal(undefined);
  for (const kind of IN_ROWS) {
    const count = steps.filter((step) => step.kind === kind).length;
    if (count > 1) log.info('all steps of a kind done', { step: kind, count });
  }
}

async function endOutageProbe({ outageProbe }: NodePorts, log: Log): Promise<void> {
  try {
    await outageProbe.abort();
  } catch (error) {
    log.warn('the outage probe left something behind', {
      reason: error instanceof Error ? error.message : String(error),
    });
  }
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

/** What a program that was killed left stopped, before anything else is done. */
export async function thawLeftBehind(ports: NodePorts, log: Log): Promise<void> {
  const { saved } = await ports.records.read();
  // An exchange that was begun goes on at once, and kube-proxy must not see what is between.
  if (saved?.flushed !== true) await thawAll(ports, log);
}

async function runStep(step: Step, journaled: boolean, execution: Execution): Promise<void> {
  const { verb, bootId, ports, log, killPoint } = execution;
  const description = describeStep(step);
  if (journaled) {
    await ports.records.writeJournal({ verb, bootId, step: step.kind, description, undo: undoStep(step) });
  }
  killPoint(step, 'before');
  const begin = ports.clock.now();
  const passed = (): number => ports.clock.now() - begin;
  try {
    await within(execution.limits?.stepMs, applyStep(step, ports));
  } catch (error) {
    execution.onStep?.(step.kind, 'failed', passed() / 1000);
    throw error;
  }
  execution.onStep?.(step.kind, 'done', passed() / 1000);
  killPoint(step, 'applied');
  log[journaled ? 'info' : 'debug']('step done', {
    step: step.kind,
    description,
    milliseconds: Math.round(passed()),
  });
}

async function within(limitMs: number | undefined, act: Promise<void>): Promise<void> {
  if (limitMs === undefined) return act;
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(tooLong('the step', limitMs)), limitMs);
  });
  try {
    await Promise.race([act, limit]);
  } finally {
    clearTimeout(timer);
  }
}

function tooLong(what: string, limitMs: number): HostError {
  return new HostError(`${what}: no end after ${limitMs / 1000} s`, { code: 'CommandTimedOut' });
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
