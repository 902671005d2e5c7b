// SPDX-License-Identifier: Apache-2.0
/** observe → plan → apply → report, for the whole cluster at once. */
import type { Cluster } from '../cluster-ports.ts';
import { ClusterError, isConflict, isMissing } from '../core/cluster-error.ts';
import type { ClusterFacts } from '../core/cluster-facts.ts';
import type { ClusterPlan, ClusterStep } from '../core/cluster-steps.ts';
import type { EventReason } from '../core/reasons.ts';
import type { Backoff } from '../runtime/backoff.ts';
import { RetryLater } from '../runtime/work-queue.ts';
import { type Executor, execute, subjectOf } from './execute.ts';
import type { Stores } from './stores.ts';

/** Calls at the same time; the API server's own limits are far above. */
const PARALLEL = 16;
/** Even when nothing changes a look is taken so often: agents that fall silent send nothing. */
const LOOK_MS = 10_000;
const MIN_LOOK_MS = 50;

export interface Log {
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface ReconcilerOptions {
  readonly cluster: Cluster;
  readonly stores: Stores;
  readonly plan: (facts: ClusterFacts) => ClusterPlan;
  readonly settleFinalizer: Executor['settleFinalizer'];
  /** Of the objects that could not be written. */
  readonly backoff: Backoff;
  readonly log: Log;
  /** Milliseconds since 1970 */
  readonly date: () => number;
  readonly onFacts?: (facts: ClusterFacts) => void;
  readonly onStep?: (step: ClusterStep, outcome: 'done' | 'failed') => void;
  /** Everything was looked at, and whatever the plan had was written. */
  readonly onDone?: () => void;
}

interface Failure {
  readonly subject: string;
  readonly error: unknown;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #executor: Executor;
  /** Problems that were told already, so that each is told once. */
  readonly #told = new Map<string, string>();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    const { cluster, stores, settleFinalizer } = options;
    const { policies, nodeObjects, slices } = stores;
    this.#executor = { cluster, policies, nodeObjects, slices, settleFinalizer };
  }

  /** @throws RetryLater always: there is a next look. Failures of single objects only hold up these. */
  async reconcile(): Promise<never> {
    const { stores, plan, date, log, onFacts, onDone } = this.#options;
    if (!stores.hasSynced) {
      await this.#reportBlind();
      throw new RetryLater('not everything is known yet', LOOK_MS);
    }
    const facts = stores.facts(date());
    onFacts?.(facts);
    const { steps, recheckAt } = plan(facts);
    const { failures, left } = await this.#apply(steps);
    for (const failure of failures) await this.#report(failure);
    if (left === 0) onDone?.();
    if (failures.length === 0 && steps.length > 0) log.debug('reconciled', { steps: steps.length });
    throw new RetryLater('next look', this.#nextLookMs(recheckAt));
  }

  #nextLookMs(recheckAt: number | undefined): number {
    const { backoff, date } = this.#options;
    const untilRecheck = recheckAt === undefined ? LOOK_MS : recheckAt - date();
    return Math.max(MIN_LOOK_MS, Math.min(LOOK_MS, untilRecheck, backoff.nextMs() ?? LOOK_MS));
  }

  /**
   * Runs of steps of one kind side by side, the runs one after the other.
   * @returns what failed, and how many objects are not as planned, because of that or because they wait
   */
  async #apply(
    steps: readonly ClusterStep[],
  ): Promise<{ readonly failures: readonly Failure[]; readonly left: number }> {
    const failures: Failure[] = [];
    const heldUp = new Set<string>();
    for (const run of runsOfOneKind(steps)) {
      await eachOf(run, PARALLEL, async (step) => {
        if (this.#isHeldUp(step, heldUp)) return;
        const failure = await this.#tryStep(step);
        if (failure === undefined) return;
        failures.push(failure);
        heldUp.add(failure.subject);
      });
    }
    return { failures, left: heldUp.size };
  }

  /** Also waits for the policy: without its finalizer nothing may be made for it. */
  #isHeldUp(step: ClusterStep, heldUp: Set<string>): boolean {
    const { backoff } = this.#options;
    const subjects = [subjectOf(step)];
    if (step.kind === 'applyNode' || step.kind === 'applySlice') {
      subjects.push(`IpvsBpfPolicy/${step.spec.policyRef.name}`);
    }
    const held = subjects.some((subject) => heldUp.has(subject) || backoff.waits(subject));
    if (held) heldUp.add(subjects[0] ?? '');
    return held;
  }

  async #tryStep(step: ClusterStep): Promise<Failure | undefined> {
    const { backoff, onStep } = this.#options;
    const subject = subjectOf(step);
    try {
      await execute(step, this.#executor);
    } catch (error) {
      onStep?.(step, 'failed');
      if (!isOvertaken(step, error)) return { subject, error };
      return undefined;
    }
    onStep?.(step, 'done');
    backoff.succeeded(subject);
    this.#told.delete(subject);
    return undefined;
  }

  /** Log and an Event at the policies, once per problem. */
  async #report({ subject, error }: Failure): Promise<void> {
    const { backoff, log } = this.#options;
    const retryInMs = Math.round(backoff.failed(subject));
    if (isConflict(error)) {
      log.debug('overtaken by another write, tries again', { subject, retryInMs });
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    if (this.#told.get(subject) === message) return;
    this.#told.set(subject, message);
    const reason = error instanceof ClusterError ? error.reason : 'Unexpected';
    log.error('could not write', { subject, reason, error: message, retryInMs });
    if (subject.startsWith('Event/')) return;
    await this.#tellPolicies('ApplyFailed', message);
  }

  /** Without all facts nothing is planned: that would take what is missing for gone. */
  async #reportBlind(): Promise<void> {
    const { stores, log } = this.#options;
    const problems = [...stores.problems().values()].sort().join('; ');
    if (this.#told.get('observe') === problems) return;
    this.#told.set('observe', problems);
    log.warn('waits until everything is known', { problems });
    const grave = [...stores.problems().values()].filter((text) => !text.includes('not in yet'));
    if (grave.length > 0) await this.#tellPolicies('ObservationFailed', grave.sort().join('; '));
  }

  async #tellPolicies(reason: EventReason, message: string): Promise<void> {
    const { cluster, log, stores } = this.#options;
    for (const about of stores.policies.list()) {
      try {
        await cluster.record({ about, type: 'Warning', reason, message });
      } catch (error) {
        log.warn('could not write an Event', { error: error instanceof Error ? error.message : error });
        return;
      }
    }
  }
}

/** The object is gone: what was to be done about it has no object any more. */
function isOvertaken(step: ClusterStep, error: unknown): boolean {
  return (
    isMissing(error) &&
    (step.kind === 'applyPolicyStatus' || step.kind === 'removeFinalizer' || step.kind === 'addFinalizer')
  );
}

function runsOfOneKind(steps: readonly ClusterStep[]): readonly (readonly ClusterStep[])[] {
  const runs: ClusterStep[][] = [];
  for (const step of steps) {
    const last = runs.at(-1);
    if (last !== undefined && last[0]?.kind === step.kind) last.push(step);
    else runs.push([step]);
  }
  return runs;
}

async function eachOf<T>(
  items: readonly T[],
  parallel: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = items.values();
  const worker = async (): Promise<void> => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(parallel, items.length) }, worker));
}
