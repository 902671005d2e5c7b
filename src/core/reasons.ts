// SPDX-License-Identifier: Apache-2.0
/**
 * Every condition type with its reasons, and every reason that a list in status gives. docs/reference.md explains
 * each of them; a test compares.
 */

import { HOST_ERROR_CODES } from './errors.ts';

/** Reasons of one condition: with which status each goes. */
interface Reasons {
  readonly True: readonly string[];
  readonly False: readonly string[];
  readonly Unknown: readonly string[];
}

export const POLICY_CONDITIONS = {
  Ready: {
    True: ['AllNodesReady', 'DryRunPassed', 'DisabledAsRequested'],
    False: ['RollingOut', 'RolloutHalted', 'NodesNotReady', 'NoMatchingNodes', 'NotAccepted', 'Reverting'],
    Unknown: ['Reconciling'],
  },
  Accepted: {
    True: ['Accepted'],
    False: ['NodeSelectorConflict', 'NoServicesSelected', 'InvalidKernelMapping', 'UnsupportedKubeProxyMode'],
    Unknown: ['Reconciling'],
  },
  Progressing: {
    True: ['RollingOut', 'CanarySoaking', 'WaitingForBudget', 'WaitingForNodes', 'Reverting'],
    False: ['Complete', 'Paused', 'Halted', 'NotAccepted'],
    Unknown: ['Reconciling'],
  },
  Degraded: {
    True: ['NodeFailed', 'RolledBack', 'RollbackFailed', 'DriftUncorrected', 'AgentUnreachable'],
    False: ['AsExpected'],
    Unknown: ['Reconciling'],
  },
  ProxyModeSupported: {
    True: ['Supported', 'Deprecated'],
    False: ['NotIpvs', 'GateDisabled', 'Removed'],
    Unknown: ['NotReported'],
  },
} as const satisfies Readonly<Record<string, Reasons>>;

export const NODE_CONDITIONS = {
  Ready: {
    True: ['Accelerating', 'DryRunPassed', 'DisabledAsRequested', 'InTreeAsRequested'],
    False: ['Applying', 'Reverting', 'Waiting', 'WaitingForBoot', 'Failed', 'RolledBack', 'NotAccelerating'],
    Unknown: ['Reconciling', 'LookFailed'],
  },
  AgentReachable: {
    True: ['LeaseFresh'],
    False: ['LeaseStale', 'AgentPodMissing', 'NodeNotReady'],
    Unknown: ['Reconciling'],
  },
  ModuleDelivered: {
    True: ['Delivered', 'NotRequested'],
    False: ['Delivering', 'ImagePullFailed', 'DeliveryFailed'],
    Unknown: [],
  },
  PreflightPassed: {
    True: ['AllChecksPassed', 'PassedWithWarnings'],
    False: [
      'KernelNotMapped',
      'ModuleNotDelivered',
      'ModuleUnreadable',
      'ModuleBuiltIn',
      'ModuleInUse',
      'VermagicMismatch',
      'SignatureRequired',
      'ProxyModeNotIpvs',
      'SyncDaemonRunning',
      'ForeignNetnsUsesIpvs',
      'TcHookConflict',
      'NoInterfaces',
      'NoSnatPorts',
      'ForwardingOff',
      'MissingBpfFeature',
      'NotPermitted',
      'NextBootNotSupported',
    ],
    Unknown: ['Reconciling'],
  },
  ModulePatched: {
    True: ['Loaded'],
    False: ['InTree', 'BuiltIn', 'Absent', 'InsertFailed', 'ModuleInUse', 'AutoloadRaced'],
    Unknown: ['Reconciling'],
  },
  DatapathAttached: {
    True: ['AllHooksAttached'],
    False: ['NotRequested', 'InterfaceMissing', 'HookMissing', 'VerifierRejected', 'SwitchOff'],
    Unknown: ['Reconciling'],
  },
  SysctlsApplied: {
    True: ['InSync', 'Preserved'],
    False: ['Overwritten', 'WriteFailed', 'NotRequested'],
    Unknown: ['Reconciling'],
  },
  Validated: {
    True: ['ProbesPassed'],
    False: ['ProbeFailed', 'ProbeTimeout'],
    Unknown: ['NotRun'],
  },
  DisruptionPending: {
    True: ['WaitingForGrant', 'GrantExpired', 'WaitingForBoot'],
    False: ['NoDisruptionNeeded', 'InProgress'],
    Unknown: ['Reconciling'],
  },
  Drifted: {
    True: [
      'ModuleReplaced',
      'HookMissing',
      'SysctlChanged',
      'SwitchChanged',
      'KubeProxyRestarted',
      'MapChanged',
    ],
    False: ['InSync'],
    Unknown: ['Reconciling'],
  },
} as const satisfies Readonly<Record<string, Reasons>>;

/** Why a Service stays on the native path: status.rejectedServices of policies and nodes. */
export const REJECT_REASONS = [
  /** services.include names it, and there is no such Service. */
  'NotFound',
  'Headless',
  'ExternalName',
  /** It has no cluster address yet. */
  'NoAddress',
  /** It has a label that keeps kube-proxy away. */
  'OtherProxy',
  /** services.include names ports that it does not have. */
  'PortNotFound',
  'TooManyPorts',
  /** It has only IPv6 link-local addresses. */
  'LinkLocalAddress',
  'NetworkPolicy',
  'SourceRanges',
  /** Another Service of the whitelist has the same address, port and protocol. */
  'AddressInUse',
  /** The policy is Enabled, and IPVS of the node has no such virtual server. */
  'NoSuchVirtualServer',
  /** One of its virtual servers in IPVS cannot be accelerated: a tunnel, a firewall mark, a persistence engine. */
  'UnsupportedVirtualServer',
  /** The node does not forward IPv6, so that its IPv6 virtual servers stay native there. */
  'IPv6ForwardingOff',
  /** The node took it off the whitelist because its probe failed. */
  'ProbeFailed',
  /** The node does not run accelerated at the moment. */
  'NodeNotAccelerating',
] as const;

/** What is to be known of a Service that runs accelerated: status.serviceCaveats, and status.selfAccess of nodes. */
export const CAVEATS = [
  'SelfAccessTranslated',
  'ClientSourceTranslated',
  'EgressPoliciesBypassed',
  'NetworkPolicyBypassed',
  'SourceRangesBypassed',
  'PartlyAccelerated',
] as const;

/** Why a node waits: status.waitingNodes. */
export const WAITING_REASONS = [
  'NotReported',
  'ModuleNotDelivered',
  'PreflightFailed',
  'AgentUnreachable',
  'NodeNotReady',
  /** module.activation is NextBoot: somebody has to reboot it. */
  'WaitingForBoot',
  'WaitingForCanary',
  'CanarySoaking',
  'WaitingForBudget',
  'Paused',
  'Halted',
  'NoServicesSelected',
] as const;

/** What is wrong with a node: status.problemNodes. */
export const PROBLEM_REASONS = [
  'NodeFailed',
  'RolledBack',
  'RollbackFailed',
  'NodeTimeout',
  'AgentUnreachable',
  'DriftUncorrected',
  /** The image of its module cannot be pulled, or is not what it should be. */
  'ModuleNotDelivered',
  'PreflightFailed',
  'KernelNotMapped',
  /** The node is ready, without a Service of which its probe failed. */
  'ServiceOff',
] as const;

/** Why the last attempt of a node failed: status.lastFailure.reason. */
export const FAILURE_REASONS = [
  ...HOST_ERROR_CODES,
  /** The probe after a change; with no answer in time. */
  'ProbeFailed',
  'ProbeTimeout',
  /** A boot that should have loaded the patched module loaded the kernel's own. */
  'BootFellBack',
  /** A mistake of this program. */
  'StepFailed',
] as const;

/** Reasons of Events about policies and nodes. */
export const EVENT_REASONS = {
  Normal: ['NodeGranted', 'NodeUpdated', 'NodeReverted', 'CanarySoaked', 'RolloutComplete', 'Accepted'],
  Warning: [
    'NotAccepted',
    'NodeFailed',
    'RolloutHalted',
    'ProxyModeDeprecated',
    'AgentUnreachable',
    'ApplyFailed',
    'ObservationFailed',
  ],
} as const;

export type PolicyConditionType = keyof typeof POLICY_CONDITIONS;
export type NodeConditionType = keyof typeof NODE_CONDITIONS;
export type ConditionStatus = keyof Reasons;

type ReasonsOf<C> = { [T in keyof C]: C[T] extends Reasons ? C[T][ConditionStatus][number] : never };
export type PolicyReason<T extends PolicyConditionType> = ReasonsOf<typeof POLICY_CONDITIONS>[T];
export type NodeReason<T extends NodeConditionType> = ReasonsOf<typeof NODE_CONDITIONS>[T];
export type RejectReason = (typeof REJECT_REASONS)[number];
export type Caveat = (typeof CAVEATS)[number];
export type WaitingReason = (typeof WAITING_REASONS)[number];
export type ProblemReason = (typeof PROBLEM_REASONS)[number];
export type FailureReason = (typeof FAILURE_REASONS)[number];
export type EventReason = (typeof EVENT_REASONS)[keyof typeof EVENT_REASONS][number];
