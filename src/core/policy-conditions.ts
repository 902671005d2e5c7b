// SPDX-License-Identifier: Apache-2.0
/** The conditions of a policy. */
import { type Finding, policyFinding } from './conditions.ts';
import { invalidRegexps, isObserved } from './policy-nodes.ts';
import type { PlannedPolicy } from './policy-plan.ts';
import { isFailure, type NodeProblem, type NodeSummary } from './policy-status.ts';

/** On the first visit nothing is known yet, and every condition says so. */
export function firstFindings(): readonly Finding[] {
  const message = 'The operator has just seen this policy for the first time.';
  return [
    policyFinding('Ready', 'Reconciling', message),
    policyFinding('Accepted', 'Reconciling', message),
    policyFinding('Progressing', 'Reconciling', message),
    policyFinding('Degraded', 'Reconciling', message),
    policyFinding('ProxyModeSupported', 'NotReported', message),
  ];
}

export function policyFindings(planned: PlannedPolicy, summary: NodeSummary): readonly Finding[] {
  const accepted = acceptedFinding(planned, summary);
  return [
    readyFinding(planned, summary, accepted),
    accepted,
    progressingFinding(planned, summary),
    degradedFinding(summary),
    proxyFinding(summary),
  ];
}

function acceptedFinding(planned: PlannedPolicy, summary: NodeSummary): Finding {
  const { policy, conflicts, selection } = planned;
  const invalid = invalidRegexps(policy.spec.module);
  if (invalid.length > 0) {
    const message = `module.kernelMappings: not a regular expression: ${invalid.join(', ')}`;
    return policyFinding('Accepted', 'InvalidKernelMapping', message);
  }
  if (conflicts.size > 0) {
    const names = [...conflicts].map(([node, owner]) => `${node} (${owner})`);
    const message = `Older policies have nodes that nodeSelector selects: ${firstOf(names)}. They keep them.`;
    return policyFinding('Accepted', 'NodeSelectorConflict', message);
  }
  const modes = summary.selected.flatMap(({ previous }) => previous?.status?.kubeProxy?.mode || []);
  const foreign = modes.filter((mode) => mode !== 'ipvs');
  if (modes.length > 0 && foreign.length === modes.length) {
    const message = `kube-proxy runs in mode ${foreign[0]} on all nodes; it must run in mode ipvs.`;
    return policyFinding('Accepted', 'UnsupportedKubeProxyMode', message);
  }
  if (policy.spec.mode === 'Enabled' && selection.services.length === 0) {
    const message = `None of ${selection.selected} Services of the whitelist can run accelerated: ${firstOf(
      selection.rejected.map(({ namespace, name, reason }) => `${namespace}/${name} (${reason})`),
    )}`;
    return policyFinding('Accepted', 'NoServicesSelected', message);
  }
  return policyFinding('Accepted', 'Accepted', 'The policy can be carried out.');
}

function firstOf(texts: readonly string[]): string {
  const more = texts.length > 5 ? ` and ${texts.length - 5} more` : '';
  return `${texts.slice(0, 5).join(', ')}${more}`;
}

function readyFinding(planned: PlannedPolicy, summary: NodeSummary, accepted: Finding): Finding {
  const { policy, deleting, rollout } = planned;
  const { selected, skipped, ready, reverting } = summary;
  const wanted = selected.length - skipped.length;
  const progress = `${ready.length} of ${counted(wanted, 'node')} ready`;
  if (deleting) {
    return policyFinding(
      'Ready',
      'Reverting',
      `Nodes that are being put back to what they were: ${reverting.length}.`,
    );
  }
  if (accepted.status !== 'True') return policyFinding('Ready', 'NotAccepted', accepted.message);
  if (selected.length === 0)
    return policyFinding('Ready', 'NoMatchingNodes', 'nodeSelector selects no node.');
  if (reverting.length > 0) {
    const message = `Nodes that are no longer selected and are being put back: ${reverting.length}; ${progress}.`;
    return policyFinding('Ready', 'Reverting', message);
  }
  if (ready.length === wanted && wanted > 0) return doneFinding(planned, wanted);
  if (rollout.halted) return policyFinding('Ready', 'RolloutHalted', `${progress}. ${problemText(summary)}`);
  const silent = selected.filter(({ previous, intent }) => !intent.skipped && !isObserved(previous));
  const started = silent.every(({ previous }) => previous?.status !== undefined);
  const settling = started && summary.problems.every(({ reason }) => reason === 'ServiceOff');
  if (policy.spec.mode === 'Enabled' && (isMoving(summary) || settling)) {
    return policyFinding('Ready', 'RollingOut', `${progress}.`);
  }
  if (silent.length > 0) {
    return policyFinding('Ready', 'Reconciling', `${progress}; not all agents have reported yet.`);
  }
  return policyFinding('Ready', 'NodesNotReady', `${progress}. ${problemText(summary)}`);
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

function doneFinding({ policy, selection }: PlannedPolicy, nodes: number): Finding {
  const services = selection.services.length;
  switch (policy.spec.mode) {
    case 'DryRun': {
      const message = `All checks passed on ${counted(nodes, 'node')}; ${counted(services, 'Service')} could run accelerated.`;
      return policyFinding('Ready', 'DryRunPassed', message);
    }
    case 'Disabled':
      return policyFinding('Ready', 'DisabledAsRequested', `The switch is off on ${counted(nodes, 'node')}.`);
    case 'Enabled':
      return policyFinding(
        'Ready',
        'AllNodesReady',
        `Accelerated: ${counted(services, 'Service')} on ${counted(nodes, 'node')}.`,
      );
  }
}

/** Something is being done, or will be when its time comes. */
function isMoving({ granted, waiting }: NodeSummary): boolean {
  const stuck = ['PreflightFailed', 'AgentUnreachable', 'NodeNotReady', 'NotReported'];
  return granted.length > 0 || waiting.some(({ reason }) => !stuck.includes(reason));
}

function problemText({ problems }: NodeSummary): string {
  if (problems.length === 0) return 'The others are waited for.';
  return firstOf(problems.map(({ node, reason, message }) => `${node}: ${reason}: ${message}`));
}

function progressingFinding(planned: PlannedPolicy, summary: NodeSummary): Finding {
  const { rollout, policy } = planned;
  const { granted, waiting, reverting } = summary;
  const because = (reason: string): boolean => waiting.some((node) => node.reason === reason);
  const names = firstOf(granted.map(({ name }) => name));
  if (rollout.halted) {
    const message = `More nodes failed than failurePolicy.maxFailedNodes allows (${policy.spec.failurePolicy.maxFailedNodes}): no further node starts.`;
    return policyFinding('Progressing', 'Halted', message);
  }
  if (granted.some(({ selected }) => selected)) {
    return policyFinding('Progressing', 'RollingOut', `Being changed: ${names}.`);
  }
  if (reverting.length > 0) {
    const message = `Being put back: ${names || 'none at the moment'}; nodes left: ${reverting.length}.`;
    return policyFinding('Progressing', 'Reverting', message);
  }
  const first = waiting[0]?.message ?? '';
  if (because('Paused')) return policyFinding('Progressing', 'Paused', first);
  if (because('NoServicesSelected')) return policyFinding('Progressing', 'NotAccepted', first);
  if (because('CanarySoaking')) return policyFinding('Progressing', 'CanarySoaking', first);
  if (because('WaitingForBudget')) return policyFinding('Progressing', 'WaitingForBudget', first);
  if (waiting.length > 0) return policyFinding('Progressing', 'WaitingForNodes', first);
  return policyFinding('Progressing', 'Complete', 'No node has to be changed.');
}

function degradedFinding({ problems }: NodeSummary): Finding {
  const with_ = (reasons: readonly string[]): readonly NodeProblem[] =>
    problems.filter(({ reason }) => reasons.includes(reason));
  const say = (found: readonly NodeProblem[]): string =>
    firstOf(found.map(({ node, message }) => `${node}: ${message}`));
  const broken = with_(['RollbackFailed', 'NodeTimeout']);
  if (broken.length > 0) return policyFinding('Degraded', 'RollbackFailed', say(broken));
  const back = with_(['RolledBack']);
  if (back.length > 0) return policyFinding('Degraded', 'RolledBack', say(back));
  const failed = problems.filter(isFailure);
  if (failed.length > 0) return policyFinding('Degraded', 'NodeFailed', say(failed));
  const silent = with_(['AgentUnreachable']);
  if (silent.length > 0) return policyFinding('Degraded', 'AgentUnreachable', say(silent));
  const drifted = with_(['DriftUncorrected']);
  if (drifted.length > 0) return policyFinding('Degraded', 'DriftUncorrected', say(drifted));
  return policyFinding('Degraded', 'AsExpected', 'No node has failed.');
}

/** Kubernetes releases in which kube-proxy's ipvs mode is deprecated, off by default, and gone: 1.N. */
const DEPRECATED = 35;
const OFF_BY_DEFAULT = 40;
const REMOVED = 43;

function proxyFinding({ selected }: NodeSummary): Finding {
  const proxies = selected.flatMap(({ name, previous }) => {
    const proxy = previous?.status?.kubeProxy;
    return proxy?.mode ? [{ name, mode: proxy.mode, minor: minorOf(proxy.version) }] : [];
  });
  if (proxies.length === 0) {
    return policyFinding('ProxyModeSupported', 'NotReported', 'No agent has reported about kube-proxy yet.');
  }
  const other = proxies.filter(({ mode }) => mode !== 'ipvs');
  const newest = Math.max(...proxies.map(({ minor }) => minor));
  if (other.length > 0) {
    const minor = Math.max(...other.map((proxy) => proxy.minor));
    const nodes = firstOf(other.map(({ name, mode }) => `${name} (${mode})`));
    const message = `kube-proxy must run in mode ipvs and does not on ${nodes}.`;
    if (minor >= REMOVED) return policyFinding('ProxyModeSupported', 'Removed', message);
    if (minor >= OFF_BY_DEFAULT) return policyFinding('ProxyModeSupported', 'GateDisabled', message);
    return policyFinding('ProxyModeSupported', 'NotIpvs', message);
  }
  if (newest >= DEPRECATED) {
    const message = `Mode ipvs is deprecated in kube-proxy 1.${newest}, and will be removed in 1.${REMOVED}.`;
    return policyFinding('ProxyModeSupported', 'Deprecated', message);
  }
  return policyFinding('ProxyModeSupported', 'Supported', 'kube-proxy runs in mode ipvs.');
}

/** "v1.34.2" → 34; 0 if it is not known. */
function minorOf(version: string | undefined): number {
  return Number(/^v?1\.(\d+)/.exec(version ?? '')?.[1] ?? 0);
}
