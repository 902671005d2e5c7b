// SPDX-License-Identifier: Apache-2.0
/** Which virtual servers are probed when, and what follows from it. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { RealServer, ServiceVerdict, VirtualServer } from '../ports.ts';
import type { NodeFacts } from './facts.ts';
import type { Step, StepKind } from './steps.ts';
import { obstacle, virtualServerKey } from './virtual-servers.ts';

/** A virtual server that runs accelerated, or is about to, and has not been probed since. */
export interface Unprobed {
  /** virtualServerKey() */
  readonly server: string;
  /** Probes that have told nothing. */
  readonly tries: number;
}

/** Virtual servers that are probed in one look. */
export const PROBES_A_LOOK = 100;
const MAX_TRIES = 3;

/** Steps that change what packets of every virtual server pass. */
const CHANGE_ALL: ReadonlySet<StepKind> = new Set(['insertModule', 'loadDatapath', 'giveMaps']);

/** What is to be probed once these steps are done. */
export function unprobedAfter(
  unprobed: readonly Unprobed[],
  steps: readonly Step[],
  config: NodeConfig,
): readonly Unprobed[] {
  const all = steps.some(({ kind }) => CHANGE_ALL.has(kind)) ? config.services.virtualServers : [];
  const put = steps.flatMap((step) => (step.kind === 'putService' ? [step.entry] : []));
  const keys = [...all, ...put].filter(({ protocol }) => protocol === 'TCP').map(virtualServerKey);
  if (keys.length === 0) return unprobed;
  const known = new Map(unprobed.map((entry) => [entry.server, entry]));
  for (const server of keys) known.set(server, { server, tries: 0 });
  return [...known.keys()].sort().flatMap((key) => known.get(key) ?? []);
}

export interface ProbePlan {
  readonly probe: readonly VirtualServer[];
  /** Those that wait: for a later look, for kube-proxy, or for a real server. */
  readonly later: readonly Unprobed[];
}

/** The next ones. What is not accelerated, or cannot be probed, is left out of both. */
export function planProbe(unprobed: readonly Unprobed[], facts: NodeFacts): ProbePlan {
  const table = new Map(
    (facts.ipvs?.virtualServers ?? []).map((server) => [virtualServerKey(server), server]),
  );
  const whitelist = new Map(
    (facts.datapath?.services ?? []).map((entry) => [virtualServerKey(entry), entry]),
  );
  const order = unprobed.toSorted((a, b) => a.tries - b.tries || (a.server < b.server ? -1 : 1));
  const probe: VirtualServer[] = [];
  const later: Unprobed[] = [];
  for (const waiting of order) {
    const entry = whitelist.get(waiting.server);
    const server = table.get(waiting.server);
    // Without SNAT, replies come back only where the real server's routes lead them.
    if (entry === undefined || entry.protocol !== 'TCP' || entry.snat === 'Never') continue;
    if (server !== undefined && obstacle(server) !== undefined) continue;
    if (server === undefined || !isProbable(server) || probe.length >= PROBES_A_LOOK) later.push(waiting);
    else probe.push(server);
  }
  return { probe, later };
}

/** Real servers that get new connections. */
export function servingReals({ realServers }: VirtualServer): readonly RealServer[] {
  return realServers.filter(({ weight }) => weight > 0);
}

/** A virtual server whose real servers may be full refuses a connection rightly. */
function isProbable(server: VirtualServer): boolean {
  const reals = servingReals(server);
  return reals.length > 0 && reals.every(({ upperThreshold }) => upperThreshold === 0);
}

/** What a look has told about one virtual server. */
export interface Probed {
  readonly server: VirtualServer;
  readonly verdict: ServiceVerdict;
}

/** What is still to be probed after this look. */
export function unprobedAfterLook(
  before: readonly Unprobed[],
  { later }: ProbePlan,
  probed: readonly Probed[],
): readonly Unprobed[] {
  const tries = new Map(before.map((entry) => [entry.server, entry.tries]));
  const again = probed.flatMap(({ server, verdict }): Unprobed[] => {
    const key = virtualServerKey(server);
    const next = (tries.get(key) ?? 0) + 1;
    return verdict.verdict === 'Unsure' && next < MAX_TRIES ? [{ server: key, tries: next }] : [];
  });
  return [...later, ...again].toSorted((a, b) => (a.server < b.server ? -1 : 1));
}

/** A virtual server that was changed while it was probed did not fail by that. */
export function withoutChanged(
  probed: readonly Probed[],
  table: readonly VirtualServer[],
): readonly Probed[] {
  const now = new Map(
    table.map((server) => [virtualServerKey(server), JSON.stringify(servingReals(server))]),
  );
  return probed.map((result): Probed => {
    if (result.verdict.verdict !== 'Failed') return result;
    const { server } = result;
    if (now.get(virtualServerKey(server)) === JSON.stringify(servingReals(server))) return result;
    return { server, verdict: { verdict: 'Unsure', message: 'it was changed meanwhile' } };
  });
}
