// SPDX-License-Identifier: Apache-2.0
/**
 * What a node gives up, one after the other, until its probe passes: the accelerated path first, the module last.
 * Each rung holds what the one before it did.
 */
import type { NodeResourceStatus } from '../api/resources.ts';
import { moduleOrigin, type NodeFacts, type NodeRecord, switchIsOn } from './facts.ts';
import { planDown } from './plan.ts';
import { detachSteps } from './plan-datapath.ts';
import type { Step } from './steps.ts';

export type Rung = NonNullable<NonNullable<NodeResourceStatus['lastFailure']>['rung']>;

/** Below ServiceOff, which is about one Service and needs no probe of the node. */
const NODE_RUNGS = ['SwitchOff', 'ProgramsOff', 'ModuleRestored'] as const satisfies readonly Rung[];
export type NodeRung = (typeof NODE_RUNGS)[number];

/** The rung after this one; undefined: there is none, and the node is as it was before the first change. */
export function nextRung(rung: NodeRung | undefined): NodeRung | undefined {
  if (rung === undefined) return NODE_RUNGS[0];
  return NODE_RUNGS[NODE_RUNGS.indexOf(rung) + 1];
}

/** The steps down to this rung; none of them needs a file, a config or the API server. */
export function rungSteps(rung: NodeRung, facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const off: readonly Step[] = switchIsOn(facts) ? [{ kind: 'setSwitch', on: false, wasOn: true }] : [];
  switch (rung) {
    case 'SwitchOff':
      return off;
    case 'ProgramsOff':
      return [...off, ...detachSteps(facts)];
    case 'ModuleRestored':
      return planDown(facts, record, { drainTimeoutMs: 0 });
  }
}

/** What the probe has to show on this rung: that requests reach real servers by the path that is left. */
export function probePath(facts: NodeFacts): 'Accelerated' | 'Native' {
  return moduleOrigin(facts) === 'Patched' && switchIsOn(facts) ? 'Accelerated' : 'Native';
}
