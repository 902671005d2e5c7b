// SPDX-License-Identifier: Apache-2.0
/** Lets tests end the process at a given step, as kill -9 would. Does nothing unless a test asks for it. */
import type { StepKind } from '../core/steps.ts';

/** Before the step acts, after it acted, and after that was written down. */
export type KillMoment = 'before' | 'applied' | 'after';
export type KillPoint = (kind: StepKind, occurrence: number, moment: KillMoment) => void;

/**
 * `text` is the value of IPVS_BPF_KILL_AT: "STEP:MOMENT" or "STEP#N:MOMENT" for its N-th time. Throws RangeError
 * if it is neither.
 */
export function killPoint(text: string | undefined, kill: () => void): KillPoint {
  if (text === undefined || text === '') return () => {};
  const match = /^(\w+)(?:#(\d+))?:(before|applied|after)$/.exec(text);
  if (match === null)
    throw new RangeError(`IPVS_BPF_KILL_AT="${text}" is not STEP:before, :applied or :after`);
  const [, kind, number = '1', moment] = match;
  return (atKind, occurrence, atMoment) => {
    if (atKind === kind && occurrence === Number(number) && atMoment === moment) kill();
  };
}
