// SPDX-License-Identifier: Apache-2.0
/** How an `up` or `down` ended that did not succeed. */
import { HostError } from './errors.ts';
import type { Check } from './preflight.ts';
import { describeStep, type Step, type StepKind, stepAdvice } from './steps.ts';

/** Nothing was changed: at least one check failed. */
export class PreflightFailed extends Error {
  override readonly name = 'PreflightFailed';
  readonly checks: readonly Check[];

  constructor(checks: readonly Check[]) {
    const failed = checks.filter(({ result }) => result === 'Fail');
    super(failed.map(({ check, message }) => `${check}: ${message}`).join('\n'));
    this.checks = checks;
  }
}

export interface StepFailure {
  readonly step: Step;
  readonly cause: unknown;
  /** NotNeeded: the command does not undo its steps (down), it goes on when it is run again. */
  readonly rollback: 'Succeeded' | 'Failed' | 'NotNeeded';
  /** Steps of the rollback that failed, with their errors. */
  readonly rollbackErrors: readonly string[];
}

/** A step failed; says which, why, what became of the steps before it, and what to do. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
  readonly step: StepKind;
  /** With what it acts on. */
  readonly failed: Step;
  readonly code: string;
  readonly advice: string;
  readonly rollback: StepFailure['rollback'];

  constructor(failure: StepFailure) {
    const { step, cause, rollback, rollbackErrors } = failure;
    const advice = (cause instanceof HostError ? cause.advice : undefined) ?? stepAdvice(step.kind);
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      [`step ${describeStep(step)} failed: ${why}`, ...rollbackText(rollback, rollbackErrors), advice].join(
        '\n',
      ),
      {
        cause,
      },
    );
    this.step = step.kind;
    this.failed = step;
    this.code = cause instanceof HostError ? cause.code : 'Unexpected';
    this.advice = advice;
    this.rollback = rollback;
  }
}

function rollbackText(rollback: StepFailure['rollback'], errors: readonly string[]): readonly string[] {
  switch (rollback) {
    case 'Succeeded':
      return ['All steps before it were undone.'];
    case 'Failed':
      return [
        'Not all steps before it could be undone:',
        ...errors.map((error) => `  ${error}`),
        'Run "node down".',
      ];
    case 'NotNeeded':
      return ['Run the command again: it goes on from here.'];
  }
}
