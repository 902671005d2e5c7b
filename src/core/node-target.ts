// SPDX-License-Identifier: Apache-2.0
/** What an agent does about what the operator asks: with the node as it is, and with what it has tried already. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import {
  NATIVE_REVISION,
  type NodeResourceStatus,
  type NodeSpec,
  type SliceService,
} from '../api/resources.ts';
import { fellBack, isAtNextBoot } from './boot.ts';
import { canonicalJson, sameValue, shortHash } from './canonical.ts';
import { moduleOrigin, type NodeFacts, type NodeRecord, switchIsOn } from './facts.ts';
import { nodeConfigOf, sameServices, whitelistRevision } from './node-spec.ts';
import { lacksModuleUntilBoot, needsSwap, worksAsItIs } from './plan.ts';
import type { KnownProxy } from './proxy-restart.ts';
import type { Unprobed } from './service-probe.ts';
import { type ServiceOff, serversOff, stillOff } from './services-off.ts';
import { addressesOf, virtualServerKey } from './virtual-servers.ts';

/** The IpvsBpfNode as it was read last, with its whitelist. Kept on disk: it holds without the API server. */
export interface NodeTarget {
  readonly generation: number;
  readonly spec: NodeSpec;
  readonly services: readonly SliceService[];
}

/** True if both ask for the same. */
export function sameTarget(a: NodeTarget, b: NodeTarget): boolean {
  const { services, ...rest } = a;
  const { services: otherServices, ...otherRest } = b;
  return sameServices(services, otherServices) && sameValue(rest, otherRest);
}

/** True if the Services of both are the very same objects. */
export function sharesServices(a: NodeTarget, b: NodeTarget): boolean {
  return a.services.every((service, i) => service === b.services[i]);
}

export type NodeFailure = NonNullable<NodeResourceStatus['lastFailure']>;
export type NodeDisruption = NonNullable<NodeResourceStatus['lastDisruption']>;

/** How far the node came. Kept on disk. */
export interface NodeProgress {
  readonly appliedRevision: string;
  /** The revision that the last exchange of the module was made for; unset if it was not made for one. */
  readonly exchangedFor?: string;
  /** What of the spec appliedRevision stands for. */
  readonly applied?: Pick<NodeSpec, 'module' | 'datapath'>;
  /** The last attempt that ended. */
  readonly attempt: number;
  readonly failure?: NodeFailure;
  /** Services that were taken off the whitelist here. */
  readonly servicesOff: readonly ServiceOff[];
  /** Virtual servers that a probe has told nothing about since they, or what they need, were changed. */
  readonly unprobed?: readonly Unprobed[];
  /** Names the input that the node was last brought to: what differs from it now has drifted. */
  readonly converged?: string;
  readonly baseline?: NonNullable<NodeResourceStatus['baseline']>;
  /** The kube-proxy that ran when the node was as it should be. */
  readonly kubeProxy?: KnownProxy;
}

export const NATIVE_PROGRESS: NodeProgress = {
  appliedRevision: NATIVE_REVISION,
  attempt: 0,
  servicesOff: [],
};

/** What a node has that went down the ladder, but not to the end: neither a revision nor what it was. */
export const OFF_REVISION = 'off';

export type PendingReason = 'WaitingForGrant' | 'GrantExpired' | 'WaitingForBoot';

export type Decision = {
  /** What the node should be, as far as it may be brought to it now. */
  readonly config: NodeConfig;
  /** Names the input of `config`. */
  readonly input: string;
  /** Why the revision of the spec has to wait. */
  readonly pending?: PendingReason;
} & (
  | { readonly act: 'Up'; readonly revision: string }
  | { readonly act: 'Down' }
  | {
      readonly act: 'Nothing';
      /** FellBack: a boot did not load the module that it should; that is a failure, and not remembered yet. */
      readonly why: 'Observe' | 'Hold' | 'Failed' | 'FellBack' | 'Waiting' | 'Reverted';
    }
);

export interface Observed {
  readonly facts: NodeFacts;
  readonly record: NodeRecord;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** What a node is brought to now. Unsure means that nothing is done. */
export function decide(
  target: NodeTarget,
  progress: NodeProgress,
  { facts, record, now }: Observed,
): Decision {
  const { spec } = target;
  const wanted = configured(target, progress, facts);
  const halfway = record.saved?.flushed === true;
  if (halfway && (spec.action === 'Observe' || spec.action === 'Hold')) {
    // An incomplete table is nothing that could be left as it is.
    const native = progress.appliedRevision === NATIVE_REVISION;
    return native ? { ...wanted, act: 'Down' } : { ...wanted, act: 'Up', revision: progress.appliedRevision };
  }
  if (spec.action === 'Observe' || spec.action === 'Hold') {
    return { ...wanted, act: 'Nothing', why: spec.action };
  }
  const { revision } = spec;
  if (hasFailed(spec, progress)) return keep(target, progress, { facts, why: 'Failed' });
  if (
    spec.action === 'Revert' &&
    progress.appliedRevision === NATIVE_REVISION &&
    isUntouched(facts, record)
  ) {
    return { ...wanted, act: 'Nothing', why: 'Reverted' };
  }
  // What was begun is finished, however long the permission was.
  const begun = begunVerb(record) ?? (halfway ? 'up' : undefined);
  if (spec.action !== 'Revert' && begun !== 'down') {
    const waiting = waitAtNextBoot(target, progress, { facts, record, now }, wanted);
    if (waiting !== undefined) return waiting;
  }
  const act = spec.action === 'Revert' ? ({ act: 'Down' } as const) : ({ act: 'Up', revision } as const);
  if (begun !== undefined) return { ...wanted, ...(begun === 'down' ? { act: 'Down' } : act) };
  // A revision that the node has may be repaired at any time, also after a reboot.
  const disrupts = act.act === 'Down' ? moduleOrigin(facts) === 'Patched' : needsSwap(wanted.config, facts);
  if (!disrupts || (act.act === 'Up' && progress.appliedRevision === revision)) return { ...wanted, ...act };
  const pending = grantProblem(spec, now);
  if (pending === undefined) return { ...wanted, ...act };
  return keep(target, progress, { facts, why: 'Waiting', pending });
}

/** Steps about the next boot are no beginning of a revision. */
function begunVerb({ unfinished }: NodeRecord): 'up' | 'down' | undefined {
  return unfinished?.step?.endsWith('Boot') === true ? undefined : unfinished?.verb;
}

/** What keeps a revision from a node whose module comes by a boot only; undefined if nothing does. */
function waitAtNextBoot(
  target: NodeTarget,
  progress: NodeProgress,
  { facts, record, now }: Observed,
  wanted: Pick<Decision, 'config' | 'input'>,
): Decision | undefined {
  const { spec } = target;
  const { config } = wanted;
  if (!isAtNextBoot(config)) return undefined;
  if (fellBack(config, facts) !== undefined) return { ...wanted, act: 'Nothing', why: 'FellBack' };
  const isNew = progress.appliedRevision !== spec.revision;
  const lacksModule = lacksModuleUntilBoot(config, facts, record);
  if (lacksModule && (isNew || !worksAsItIs(config, facts))) {
    return keep(target, progress, { facts, why: 'Waiting', pending: 'WaitingForBoot' });
  }
  // The boot was the disruption; canaries go first all the same.
  if (!isNew || begunVerb(record) !== undefined) return undefined;
  const pending = grantProblem(spec, now);
  if (pending === undefined) return undefined;
  // With the module of the new revision the old one does not begin anew.
  if (switchIsOn(facts)) return keep(target, progress, { facts, why: 'Waiting', pending });
  return { ...wanted, pending, act: 'Nothing', why: 'Waiting' };
}

/** The revision that the node has, with all that can change without a disruption: whitelist, sysctls. */
function keep(
  target: NodeTarget,
  progress: NodeProgress,
  how: {
    readonly facts: NodeFacts;
    readonly why: 'Failed' | 'Waiting';
    readonly pending?: PendingReason;
  },
): Decision {
  const { facts, why, pending } = how;
  const waiting = pending === undefined ? {} : { pending };
  const { applied, appliedRevision } = progress;
  const none = appliedRevision === NATIVE_REVISION || appliedRevision === OFF_REVISION;
  if (none || applied === undefined || appliedRevision === target.spec.revision) {
    return { ...configured(target, progress, facts), ...waiting, act: 'Nothing', why };
  }
  const { activation } = target.spec.module;
  const module = { ...applied.module, activation };
  const spec = { ...target.spec, ...applied, module, revision: appliedRevision };
  const old = configured({ ...target, spec }, progress, facts);
  return { ...old, ...waiting, act: 'Up', revision: appliedRevision };
}

/** True if nothing of this program is in the kernel or in the state directory. */
export function isUntouched(facts: NodeFacts, { baseline, saved, unfinished }: NodeRecord): boolean {
  const files = [baseline, saved, unfinished];
  return (
    moduleOrigin(facts) !== 'Patched' &&
    facts.datapath === undefined &&
    !facts.boot.present &&
    files.every((file) => file === undefined)
  );
}

/** A node that failed does not try again before it is asked to. */
export function hasFailed(spec: NodeSpec, { failure, attempt }: NodeProgress): boolean {
  if (failure === undefined || failure.rung === 'ServiceOff') return false;
  const revision = spec.action === 'Revert' ? NATIVE_REVISION : spec.revision;
  return failure.revision === revision && attempt >= spec.attempt;
}

/** Forgets Services that are to be tried again, or are no longer asked for; with the last also its failure. */
export function currentProgress(
  { servicesOff: before, failure, ...rest }: NodeProgress,
  { spec, services }: NodeTarget,
): NodeProgress {
  const revisions = [spec.revision, rest.appliedRevision];
  const servicesOff = stillOff(before, { services, attempt: spec.attempt, revisions });
  const over = failure?.rung === 'ServiceOff' && servicesOff.length === 0;
  return { ...rest, servicesOff, ...(failure === undefined || over ? {} : { failure }) };
}

/** A failure of one Service does not hide that of a revision: that one must not be tried again. */
export function failureBeside(
  spec: NodeSpec,
  progress: NodeProgress,
  ofService: NodeFailure,
): NodeFailure | undefined {
  return hasFailed(spec, progress) ? progress.failure : ofService;
}

function grantProblem(
  { revision, disruptionGrant: grant }: NodeSpec,
  now: number,
): PendingReason | undefined {
  if (grant === undefined || grant.revision !== revision) return 'WaitingForGrant';
  return Date.parse(grant.expiresAt) > now ? undefined : 'GrantExpired';
}

function configured(
  { spec, services }: NodeTarget,
  { servicesOff }: NodeProgress,
  facts: NodeFacts,
): { readonly config: NodeConfig; readonly input: string } {
  const addresses = nodePortAddresses(facts);
  const whole = nodeConfigOf(spec, services, addresses);
  const { attempt, revision } = spec;
  const off = serversOff(servicesOff, { services, attempt, revisions: [revision] }, addresses);
  const config = off.size === 0 ? whole : withoutServers(whole, off);
  const { mode, snat, ipvs, datapath, module } = spec;
  const without = [...off.keys()];
  const whitelist = whitelistRevision(services);
  const input = shortHash(canonicalJson({ mode, snat, ipvs, datapath, module, whitelist, without }));
  return { config, input };
}

function withoutServers(config: NodeConfig, off: ReadonlyMap<string, unknown>): NodeConfig {
  const virtualServers = config.services.virtualServers.filter(
    (server) => !off.has(virtualServerKey(server)),
  );
  return { ...config, services: { ...config.services, virtualServers } };
}

/** The addresses of this node at which IPVS has virtual servers: kube-proxy may leave some without node ports. */
export function nodePortAddresses(facts: Pick<NodeFacts, 'ipvs' | 'links' | 'addresses'>): readonly string[] {
  const dummies = new Set(facts.links.filter(({ name }) => name === 'kube-ipvs0').map(({ index }) => index));
  const virtual = addressesOf(facts.ipvs?.virtualServers ?? []);
  return facts.addresses
    .filter(({ linkIndex, address }) => !dummies.has(linkIndex) && virtual.has(address))
    .map(({ address }) => address);
}
