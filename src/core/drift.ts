// SPDX-License-Identifier: Apache-2.0
/** What somebody else changed on a node that was as it should be. */
import { describeStep, type Step } from './steps.ts';

export type DriftReason =
  | 'ModuleReplaced'
  | 'SwitchChanged'
  | 'HookMissing'
  | 'KubeProxyRestarted'
  | 'SysctlChanged'
  | 'MapChanged';

export interface Drift {
  readonly reason: DriftReason;
  /** For people, with a full stop. */
  readonly message: string;
}

const STEPS_SHOWN = 5;

/**
 * Of the steps that would bring the node back, what they show; undefined if that is nothing. `hooked`: interfaces that
 * had the programs when all was right; others are new, and so are virtual servers that kube-proxy adds.
 * `proxyRestartedAt`: set if kube-proxy was started anew since then.
 */
export function driftIn(
  steps: readonly Step[],
  { hooked, proxyRestartedAt }: { readonly hooked: ReadonlySet<number>; readonly proxyRestartedAt?: string },
): Drift | undefined {
  const reason = reasonOf(steps, { hooked, proxyRestarted: proxyRestartedAt !== undefined });
  if (reason === undefined) return undefined;
  const who =
    reason === 'KubeProxyRestarted' ? `kube-proxy restarted at ${proxyRestartedAt} and` : 'Something else';
  const list = steps.slice(0, STEPS_SHOWN).map(describeStep).join(', ');
  return { reason, message: `${who} changed what the agent had set; to be done again: ${list}.` };
}

/** `proxyRestarted`: sysctls are written over by kube-proxy's start, which changes nothing else of what is set. */
function reasonOf(
  steps: readonly Step[],
  { hooked, proxyRestarted }: { readonly hooked: ReadonlySet<number>; readonly proxyRestarted: boolean },
): DriftReason | undefined {
  const reasons = steps.flatMap((step): DriftReason[] => {
    switch (step.kind) {
      case 'insertModule':
        return ['ModuleReplaced'];
      case 'setSwitch':
        return ['SwitchChanged'];
      case 'attach':
        return hooked.has(step.ifindex) ? ['HookMissing'] : [];
      case 'writeSysctl':
        return [proxyRestarted ? 'KubeProxyRestarted' : 'SysctlChanged'];
      case 'loadDatapath':
      case 'giveMaps':
        return ['MapChanged'];
      default:
        return [];
    }
  });
  const order: readonly DriftReason[] = [
    'ModuleReplaced',
    'SwitchChanged',
    'MapChanged',
    'HookMissing',
    'KubeProxyRestarted',
    'SysctlChanged',
  ];
  return order.find((reason) => reasons.includes(reason));
}
