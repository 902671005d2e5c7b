// SPDX-License-Identifier: Apache-2.0
/** Conditions of a node, made from what is observed and what was tried. All of them are always there. */

import { isAtNextBoot } from './boot.ts';
import type { Finding } from './conditions.ts';
import { nodeFinding } from './conditions.ts';
import type { Drift } from './drift.ts';
import { moduleOrigin, type NodeFacts, switchIsOn } from './facts.ts';
import { coveredLinks } from './interfaces.ts';
import { type Decision, hasFailed, type NodeProgress, type NodeTarget } from './node-target.ts';
import { needsSwap } from './plan.ts';
import { DIRECTIONS, desiredSysctls } from './plan-datapath.ts';
import type { Check, CheckName } from './preflight.ts';
import type { NodeReason } from './reasons.ts';

export interface NodeSituation {
  readonly target: NodeTarget;
  readonly progress: NodeProgress;
  readonly decision: Decision;
  readonly facts: NodeFacts;
  readonly checks: readonly Check[];
  /** Steps that are still to be done. */
  readonly stepsLeft: number;
  readonly drift?: Drift;
  /** What was put right last, or found right when there was reason to look. */
  readonly corrected?: string;
  /** The last self-check; undefined: there was none in this mode yet. */
  readonly probe?: { readonly passed: boolean; readonly message: string };
  /** True while steps are being carried out. */
  readonly working: boolean;
}

/** In the order of IpvsBpfNode's documentation, Ready first. */
export function nodeFindings(situation: NodeSituation): readonly Finding[] {
  return [
    ready(situation),
    preflightPassed(situation.checks),
    modulePatched(situation),
    datapathAttached(situation),
    sysctlsApplied(situation),
    validated(situation),
    disruptionPending(situation),
    drifted(situation),
  ];
}

/** On the first visit nothing was looked at yet, and every condition of the agent says so. */
export function firstNodeFindings(): readonly Finding[] {
  const message = 'The agent has just seen this object for the first time.';
  return [
    nodeFinding('Ready', 'Reconciling', message),
    nodeFinding('PreflightPassed', 'Reconciling', message),
    nodeFinding('ModulePatched', 'Reconciling', message),
    nodeFinding('DatapathAttached', 'Reconciling', message),
    nodeFinding('SysctlsApplied', 'Reconciling', message),
    nodeFinding('Validated', 'NotRun', message),
    nodeFinding('DisruptionPending', 'Reconciling', message),
    nodeFinding('Drifted', 'Reconciling', message),
  ];
}

/** What is known of a node that cannot be looked at: nothing new, so that the other conditions stay. */
export function failedLookFinding(reason: string): Finding {
  return nodeFinding(
    'Ready',
    'LookFailed',
    `The agent cannot see what the node is like, which stays as it is: ${reason}`,
  );
}

const CHECK_REASONS: Readonly<Record<CheckName, NodeReason<'PreflightPassed'>>> = {
  Root: 'NotPermitted',
  Btf: 'MissingBpfFeature',
  ModuleFile: 'KernelNotMapped',
  ModuleDelivered: 'ModuleNotDelivered',
  ModuleReadable: 'ModuleUnreadable',
  Vermagic: 'VermagicMismatch',
  ModuleBuiltIn: 'ModuleBuiltIn',
  ModuleHolders: 'ModuleInUse',
  SyncDaemon: 'SyncDaemonRunning',
  OtherNamespaces: 'ForeignNetnsUsesIpvs',
  Forwarding: 'ForwardingOff',
  Interfaces: 'NoInterfaces',
  SnatPorts: 'NoSnatPorts',
  ForeignPrograms: 'TcHookConflict',
  FamilyId: 'KernelNotMapped',
  ProxyMode: 'ProxyModeNotIpvs',
  Signature: 'SignatureRequired',
  BootFiles: 'NextBootNotSupported',
  LastBoot: 'NextBootNotSupported',
};

function preflightPassed(checks: readonly Check[]): Finding {
  const failed = checks.filter(({ result }) => result === 'Fail');
  const warned = checks.filter(({ result }) => result === 'Warn');
  const [first] = failed;
  const text = (found: readonly Check[]) =>
    found.map(({ check, message }) => `${check}: ${message}`).join(' ');
  if (first !== undefined) return nodeFinding('PreflightPassed', CHECK_REASONS[first.check], text(failed));
  if (warned.length > 0) return nodeFinding('PreflightPassed', 'PassedWithWarnings', text(warned));
  return nodeFinding('PreflightPassed', 'AllChecksPassed', 'Nothing stands in the way.');
}

function ready(situation: NodeSituation): Finding {
  const { decision, progress, target, working, stepsLeft, checks } = situation;
  const { spec } = target;
  if (working) {
    const reverting = decision.act === 'Down';
    return nodeFinding('Ready', reverting ? 'Reverting' : 'Applying', 'The node is being changed.');
  }
  if (hasFailed(spec, progress)) return readyAfterFailure(progress);
  if (spec.action === 'Revert' && decision.pending === undefined) {
    return decision.act === 'Nothing'
      ? nodeFinding('Ready', 'InTreeAsRequested', 'The node is what it was before the first change.')
      : nodeFinding('Ready', 'Reverting', 'The node is being put back.');
  }
  if (checks.some(({ result }) => result === 'Fail')) {
    const text = 'A check failed; condition PreflightPassed says which.';
    const keeps = decision.act === 'Up' && decision.pending !== undefined;
    if (!keeps) return nodeFinding('Ready', 'NotAccelerating', text);
    return nodeFinding('Ready', 'Waiting', `${text} Meanwhile revision ${progress.appliedRevision} goes on.`);
  }
  if (spec.action === 'Observe') {
    return nodeFinding('Ready', 'DryRunPassed', 'All checks passed; nothing was changed.');
  }
  if (decision.pending === 'WaitingForBoot') {
    const goesOn = decision.act === 'Up' ? ` Until then revision ${progress.appliedRevision} goes on.` : '';
    return nodeFinding('Ready', 'WaitingForBoot', `${REBOOT}${goesOn}`);
  }
  if (decision.pending !== undefined) {
    return nodeFinding('Ready', 'Waiting', 'The operator has not granted the disruption yet.');
  }
  if (stepsLeft > 0) {
    const held = spec.action === 'Hold' || situation.drift !== undefined;
    const text = `${stepsLeft} steps are to be done.`;
    return nodeFinding('Ready', held ? 'NotAccelerating' : 'Applying', text);
  }
  if (spec.mode === 'Disabled') {
    return nodeFinding('Ready', 'DisabledAsRequested', 'The switch is off, as the policy asks.');
  }
  if (situation.probe?.passed === false) {
    return nodeFinding('Ready', 'NotAccelerating', `The probe failed: ${situation.probe.message}`);
  }
  return nodeFinding('Ready', 'Accelerating', 'The whitelist runs on the accelerated path.');
}

const REBOOT =
  'The next boot of the node loads the patched module (module.activation is NextBoot): reboot it, drained if need be.';

function readyAfterFailure({ failure }: NodeProgress): Finding {
  const text = `${failure?.step}: ${failure?.message}`;
  if (failure?.rollback === 'Failed') return nodeFinding('Ready', 'Failed', text);
  return nodeFinding('Ready', 'RolledBack', text);
}

function modulePatched({ facts, progress }: NodeSituation): Finding {
  const origin = moduleOrigin(facts);
  const said = (reason: NodeReason<'ModulePatched'>, message: string) =>
    nodeFinding('ModulePatched', reason, message);
  if (origin === 'Patched') return said('Loaded', 'The patched ip_vs is loaded.');
  const { failure } = progress;
  if (failure?.step === 'insertModule') {
    // Somebody loaded an ip_vs between the removal of the old one and this.
    return said(failure.reason === 'ModuleExists' ? 'AutoloadRaced' : 'InsertFailed', failure.message ?? '');
  }
  if (failure?.step === 'removeModule') return said('ModuleInUse', failure.message ?? '');
  if (origin === 'BuiltIn') return said('BuiltIn', 'ip_vs is compiled into this kernel.');
  if (origin === 'Absent') return said('Absent', 'No ip_vs is loaded.');
  return said('InTree', "The kernel's own ip_vs is loaded.");
}

function datapathAttached({ facts, decision, target, progress }: NodeSituation): Finding {
  const said = (reason: NodeReason<'DatapathAttached'>, message: string) =>
    nodeFinding('DatapathAttached', reason, message);
  const { spec } = target;
  if (spec.action === 'Observe' || spec.action === 'Revert' || spec.mode === 'Disabled') {
    return said('NotRequested', 'No programs are asked for.');
  }
  const { failure } = progress;
  const covered = coveredLinks(decision.config.datapath.interfaces, facts.links);
  if (covered.length === 0) return said('InterfaceMissing', 'No interface that is up is asked for.');
  const missing = covered.filter(({ index }) =>
    DIRECTIONS.some(
      (direction) =>
        !facts.attachments.some((at) => at.ifindex === index && at.direction === direction && at.current),
    ),
  );
  if (missing.length > 0 && failure?.step === 'loadDatapath' && failure.reason === 'VerifierRejected') {
    return said('VerifierRejected', failure.message ?? '');
  }
  if (missing.length > 0) {
    return said('HookMissing', `Programs are missing on ${missing.map(({ name }) => name).join(', ')}.`);
  }
  if (!switchIsOn(facts)) return said('SwitchOff', 'The programs are attached; the switch is off.');
  return said('AllHooksAttached', `The programs are attached to ${covered.length} interfaces.`);
}

function sysctlsApplied({ facts, decision, target, progress }: NodeSituation): Finding {
  const said = (reason: NodeReason<'SysctlsApplied'>, message: string) =>
    nodeFinding('SysctlsApplied', reason, message);
  if (target.spec.action === 'Observe' || target.spec.action === 'Revert') {
    return said('NotRequested', 'No sysctls are asked for.');
  }
  const desired = desiredSysctls(decision.config);
  if (desired.length === 0) return said('Preserved', 'The policy sets none: they are what they were.');
  const wrong = desired.filter(({ name, value }) => facts.sysctls[name] !== String(value));
  if (wrong.length === 0) return said('InSync', 'All have the values that the policy sets.');
  const list = wrong
    .map(({ name, value }) => `net.ipv4.vs.${name} is ${facts.sysctls[name] ?? 'missing'}, not ${value}`)
    .join('; ');
  return said(progress.failure?.step === 'writeSysctl' ? 'WriteFailed' : 'Overwritten', list);
}

function validated({ probe, progress }: NodeSituation): Finding {
  if (probe?.passed === true) return nodeFinding('Validated', 'ProbesPassed', probe.message);
  const { failure } = progress;
  if (failure?.step === 'selfCheck') {
    const late = failure.reason === 'ProbeTimeout';
    return nodeFinding('Validated', late ? 'ProbeTimeout' : 'ProbeFailed', failure.message ?? '');
  }
  if (probe !== undefined) return nodeFinding('Validated', 'ProbeFailed', probe.message);
  return nodeFinding('Validated', 'NotRun', 'Nothing was changed that a probe would show.');
}

function disruptionPending({ decision, working, target, facts }: NodeSituation): Finding {
  const { pending } = decision;
  if (pending === 'WaitingForGrant') {
    const text = `Revision ${target.spec.revision} exchanges the module; spec.disruptionGrant does not allow it yet.`;
    return nodeFinding('DisruptionPending', pending, text);
  }
  if (pending === 'GrantExpired') {
    return nodeFinding(
      'DisruptionPending',
      pending,
      'spec.disruptionGrant ended before the node could begin.',
    );
  }
  if (pending === 'WaitingForBoot') return nodeFinding('DisruptionPending', pending, REBOOT);
  if (working) return nodeFinding('DisruptionPending', 'InProgress', 'The node is being changed.');
  if (decision.act === 'Up' && isAtNextBoot(decision.config) && needsSwap(decision.config, facts)) {
    return nodeFinding(
      'DisruptionPending',
      'WaitingForBoot',
      `${REBOOT} It goes on with the one that it has.`,
    );
  }
  return nodeFinding('DisruptionPending', 'NoDisruptionNeeded', 'Nothing waits for a permission.');
}

function drifted({ drift, corrected }: NodeSituation): Finding {
  return drift === undefined
    ? nodeFinding('Drifted', 'InSync', corrected ?? 'Nobody else changed what the agent set.')
    : nodeFinding('Drifted', drift.reason, drift.message);
}
