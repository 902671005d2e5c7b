// SPDX-License-Identifier: Apache-2.0
/** Whether kube-proxy was started anew: it writes sysctls at its start, whatever their values are. */
import type { ProcessIdentity } from '../ports.ts';
import type { NodeFacts } from './facts.ts';

/** The kube-proxy under which the node became what it should be. */
export interface KnownProxy {
  readonly bootId: string;
  readonly processes: readonly ProcessIdentity[];
}

/**
 * True if other processes run in place of those that are known. One that is gone is no restart, and neither is one
 * that has come in addition: what it replaces still runs. After a reboot everything has begun anew.
 */
export function isRestarted(
  known: KnownProxy | undefined,
  { bootId, kubeProxy }: Pick<NodeFacts, 'bootId' | 'kubeProxy'>,
): boolean {
  if (known === undefined || known.bootId !== bootId) return false;
  const begun = without(kubeProxy.processes, known.processes);
  const ended = without(known.processes, kubeProxy.processes);
  return begun.length > 0 && (ended.length > 0 || known.processes.length === 0);
}

function without(
  processes: readonly ProcessIdentity[],
  others: readonly ProcessIdentity[],
): readonly ProcessIdentity[] {
  return processes.filter(
    ({ pid, startTime }) => !others.some((other) => other.pid === pid && other.startTime === startTime),
  );
}
