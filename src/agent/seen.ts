// SPDX-License-Identifier: Apache-2.0
import type { Decision } from '../core/node-target.ts';
import type { Check } from '../core/preflight.ts';
import type { Step } from '../core/steps.ts';
import type { Restart } from './proxy-watch.ts';
import type { Observation } from './reconcile.ts';

/** What a look at a node of a cluster found, and what follows from it. */
export interface Seen extends Observation {
  readonly decision: Decision;
  /** Of what the spec asks for. */
  readonly checks: readonly Check[];
  readonly steps: readonly Step[];
  /** Of kube-proxy, since the node was as it should be. */
  readonly restart: Restart | undefined;
  readonly mustAct: boolean;
}
