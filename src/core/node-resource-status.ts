// SPDX-License-Identifier: Apache-2.0
/** The status of an IpvsBpfNode, made from what is observed. The same observation makes the same status. */

import type { VirtualServerReason } from '../api/node-status.ts';
import { NATIVE_REVISION, type NodeResourceStatus } from '../api/resources.ts';
import type { Route } from '../ports.ts';
import { mergeConditions, shorten } from './conditions.ts';
import { ipVs, type ModuleFileFacts, moduleOrigin, type NodeRecord, switchIsOn } from './facts.ts';
import { type NodeSituation, nodeFindings } from './node-findings.ts';
import { virtualServersOf, whitelistRevision } from './node-spec.ts';
import { machineStatus, virtualServerReasons } from './node-status.ts';
import { isUntouched, nodePortAddresses, OFF_REVISION } from './node-target.ts';
import type { RejectReason } from './reasons.ts';
import { type AcceleratedServer, selfAccess } from './self-access.ts';
import { serversOff } from './services-off.ts';
import { serverText } from './virtual-servers.ts';

const LIST_LENGTH = 20;
const HOOKS_LENGTH = 64;
const MESSAGE_LENGTH = 1024;
/** Sessions are told in tenths of the map. */
const SESSION_PARTS = 10;

export interface StatusInput extends NodeSituation {
  readonly record: NodeRecord;
  /** The module file that the spec asks for. */
  readonly file: ModuleFileFacts | undefined;
  readonly agentVersion: string;
  readonly osImage: string;
  /** Routes of the node, of the families that its virtual servers have; none while it does not accelerate. */
  readonly routes: readonly Route[];
  /** What this agent wrote last; of the conditions only its own. */
  readonly previous: NodeResourceStatus | undefined;
  /** ISO 8601, for what changes now. */
  readonly time: string;
  readonly step?: NonNullable<NodeResourceStatus['step']>;
}

export function resourceStatus(input: StatusInput): NodeResourceStatus {
  const { target, progress, facts, decision, record, checks, step } = input;
  const report = machineStatus(decision.config, facts);
  const conditions = mergeConditions(input.previous?.conditions ?? [], nodeFindings(input), {
    generation: target.generation,
    time: input.time,
  });
  return {
    observedGeneration: target.generation,
    appliedRevision: appliedRevision(input),
    attempt: progress.attempt,
    bootID: facts.bootId,
    kernelRelease: facts.kernelRelease,
    osImage: input.osImage,
    agentVersion: input.agentVersion,
    kubeProxy: proxyStatus(input),
    module: moduleStatus(input),
    ...(progress.baseline === undefined ? {} : { baseline: progress.baseline }),
    hooks: hooksOf(report.interfaces),
    sessionMap: sessions(report.sessions),
    ...servicesStatus(input),
    sysctls: report.sysctls.map(({ name, desired, actual }) => ({
      name,
      desired,
      ...(actual === null ? {} : { actual }),
    })),
    preflight: checks.map(({ check, result, message }) => ({
      check,
      result,
      ...(message === '' ? {} : { message: shorten(message, MESSAGE_LENGTH) }),
    })),
    ...(step === undefined ? {} : { step }),
    ...(progress.failure === undefined ? {} : { lastFailure: progress.failure }),
    ...(record.lastDisruption === undefined
      ? {}
      : {
          lastDisruption: {
            ...record.lastDisruption,
            revision: progress.exchangedFor ?? progress.appliedRevision,
          },
        }),
    conditions: [...conditions],
  };
}

/** Those that are the operator's. */
const OPERATORS: readonly string[] = ['AgentReachable', 'ModuleDelivered'];

/** Of what is in status, the operator's conditions are not the agent's to write. */
export function withoutOperators(status: NodeResourceStatus | undefined): NodeResourceStatus | undefined {
  if (status === undefined) return undefined;
  const conditions = (status.conditions ?? []).filter(({ type }) => !OPERATORS.includes(type));
  return { ...status, conditions };
}

/** "native" only if that is certain: the operator forgets such a node. */
function appliedRevision({ progress, facts, record }: StatusInput): string {
  const { appliedRevision: remembered } = progress;
  return remembered === NATIVE_REVISION && !isUntouched(facts, record) ? OFF_REVISION : remembered;
}

function proxyStatus({ facts }: NodeSituation): NonNullable<NodeResourceStatus['kubeProxy']> {
  const { mode = '', version } = facts.kubeProxy;
  return { mode, ...(version === undefined ? {} : { version }) };
}

function moduleStatus({ facts, file }: StatusInput): NonNullable<NodeResourceStatus['module']> {
  const module = ipVs(facts);
  return {
    origin: moduleOrigin(facts),
    srcversion: module?.srcversion ?? '',
    // Each virtual server counts; a number that changes with every Service says nothing here.
    holders: [...(module?.holders ?? [])].sort(),
    switch: switchIsOn(facts) ? 'On' : 'Off',
    ...(facts.datapath === undefined ? {} : { kfuncs: facts.datapath.state.usesModule }),
    ...(file === undefined ? {} : { file: fileStatus(file) }),
  };
}

function fileStatus(file: ModuleFileFacts) {
  const { path, state } = file;
  return { path, state, ...(file.state === 'Found' ? { srcversion: file.srcversion } : {}) };
}

function hooksOf(
  interfaces: ReturnType<typeof machineStatus>['interfaces'],
): NonNullable<NodeResourceStatus['hooks']> {
  return interfaces
    .flatMap(({ name, attach, ingress, egress }) => [
      { interface: name, direction: 'Ingress' as const, kind: attach, attached: ingress },
      { interface: name, direction: 'Egress' as const, kind: attach, attached: egress },
    ])
    .slice(0, HOOKS_LENGTH);
}

function sessions({ entries, maxEntries }: { readonly entries: number; readonly maxEntries: number }) {
  const part = Math.max(1, Math.floor(maxEntries / SESSION_PARTS));
  return { entries: Math.floor(entries / part) * part, maxEntries };
}

const REJECTIONS: Readonly<Partial<Record<VirtualServerReason, RejectReason>>> = {
  LinkLocalAddress: 'LinkLocalAddress',
  IPv6ForwardingOff: 'IPv6ForwardingOff',
  NoSuchVirtualServer: 'NoSuchVirtualServer',
  FirewallMark: 'UnsupportedVirtualServer',
  MappedAddress: 'UnsupportedVirtualServer',
  AnyPort: 'UnsupportedVirtualServer',
  NotMasquerading: 'UnsupportedVirtualServer',
  OnePacketScheduling: 'UnsupportedVirtualServer',
  PersistenceEngine: 'UnsupportedVirtualServer',
};

/** What was taken off of the revision that the node has. */
function offOf({ target, progress, facts, decision }: NodeSituation): ReadonlyMap<string, string> {
  const { services, spec } = target;
  const revision = decision.act === 'Up' ? decision.revision : spec.revision;
  const context = { services, attempt: spec.attempt, revisions: [revision] };
  return serversOff(progress.servicesOff, context, nodePortAddresses(facts));
}

function servicesStatus(
  input: StatusInput,
): Pick<NodeResourceStatus, 'services' | 'rejectedServices' | 'selfAccess'> {
  const { target, facts, decision, stepsLeft, routes, previous, time } = input;
  const { services } = target;
  const reasons = virtualServerReasons(decision.config, facts);
  const off = offOf(input);
  const rejected = new Map<string, NonNullable<NodeResourceStatus['rejectedServices']>[number]>();
  const accelerated: AcceleratedServer[] = [];
  const names = new Set<string>();
  for (const server of virtualServersOf(services, nodePortAddresses(facts))) {
    const { key, namespace, name } = server;
    names.add(`${namespace}/${name}`);
    const found = reasons.get(key) ?? 'NoSuchVirtualServer';
    if (found === 'Accelerated') {
      accelerated.push(server);
      continue;
    }
    const why = off.get(key);
    const reason = why === undefined ? (REJECTIONS[found] ?? 'NodeNotAccelerating') : 'ProbeFailed';
    const message = shorten(why ?? `${serverText(key)}: ${found}`, MESSAGE_LENGTH);
    if (why !== undefined || !rejected.has(`${namespace}/${name}`)) {
      rejected.set(`${namespace}/${name}`, { namespace, name, reason, message });
    }
  }
  const list = [...rejected.keys()].sort().flatMap((key) => rejected.get(key) ?? []);
  return {
    services: {
      ...(decision.act === 'Up' && stepsLeft === 0 ? { revision: whitelistRevision(services) } : {}),
      accelerated: names.size - rejected.size,
      rejected: rejected.size,
      virtualServers: accelerated.length,
    },
    rejectedServices: list.slice(0, LIST_LENGTH),
    selfAccess: selfAccess({ accelerated, facts, routes, previous: previous?.selfAccess ?? [], time }),
  };
}
