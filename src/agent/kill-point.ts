// SPDX-License-Identifier: Apache-2.0
/** Lets tests end the process at a given step, as kill -9 would. Does nothing unless a test asks for it. */
import { describeStep, type Step } from '../core/steps.ts';

/** Before the step acts but after it was written down, and after it acted but before that was written down. */
export type KillMoment = 'before' | 'applied';
export type KillPoint = (step: Step, moment: KillMoment) => void;

/**
 * `text` is the value of IPVS_BPF_KILL_AT: "STEP:before" or "STEP:applied", STEP being a kind ("flush") or a whole
 * description ("attach eth0 Ingress") as `ipvs-bpf node steps` lists them. Throws RangeError if it is neither.
 */
export function killPoint(text: string | undefined, kill: () => void): KillPoint {
  if (text === undefined || text === '') return () => {};
  const match = /^(.+):(before|applied)$/.exec(text);
  if (match === null) throw new RangeError(`IPVS_BPF_KILL_AT="${text}" is not STEP:before or STEP:applied`);
  const [, name, moment] = match;
  return (step, at) => {
    if (at === moment && (step.kind === name || describeStep(step) === name)) kill();
  };
}
