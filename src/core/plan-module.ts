// SPDX-License-Identifier: Apache-2.0
/** Exchanging the in-tree ip_vs for the patched one and back, with the IPVS table carried over. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { VirtualServer } from '../ports.ts';
import {
  companionsSince,
  ipVs,
  isModuleControl,
  moduleOrigin,
  type NodeFacts,
  type NodeRecord,
  type SavedTable,
  switchIsOn,
  toldParameters,
} from './facts.ts';
import { coveredLinks } from './interfaces.ts';
import { CARRY_CONNECTIONS, detachLoopback, prepareFirstHold } from './plan-hold.ts';
import { isTestServer } from './self-check-network.ts';
import type { Step } from './steps.ts';
import { virtualServerKey } from './virtual-servers.ts';

const IP_VS = 'ip_vs';
const HELPER = 'ip_vs_';
/** The probe ends with whatever table it was in. */
const RESTORE: readonly Step[] = [
  { kind: 'restoreTable' },
  { kind: 'restoreConnections' },
  { kind: 'releaseTraffic' },
  { kind: 'stopOutageProbe' },
];

/** True if the loaded module is the one in the module file. */
export function isRightModule(facts: NodeFacts): boolean {
  return (
    moduleOrigin(facts) === 'Patched' &&
    facts.moduleFile?.state === 'Found' &&
    ipVs(facts)?.srcversion === facts.moduleFile.srcversion
  );
}

/** Swaps whatever is loaded for the patched module. */
export function swapToPatched(config: NodeConfig, facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const file = facts.moduleFile;
  if (file?.state !== 'Found') return [];
  const table = tableToCarry(facts, record);
  const exchange = withoutProxy(facts, record, [
    { kind: 'blockAutoload' },
    ...removeLoaded(facts, table, file.path),
    { kind: 'insertModule', file: file.path, srcversion: file.srcversion, ...asBefore(facts, table) },
    ...loadHelpers(table),
    ...(isWorthSaving(table) ? RESTORE : []),
    { kind: 'unblockAutoload' },
    ...(isWorthSaving(table) ? ([{ kind: 'forgetTable' }] as const) : []),
  ]);
  if (ipVs(facts) === undefined) return exchange;
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  return [...prepareFirstHold(config, facts), ...exchange, ...detachLoopback(facts, covered)];
}

/**
 * The steps while kube-proxy stands still. It goes on to use the id of the IPVS family that it looked up at its
 * start, and would take an incomplete table for the truth.
 */
export function withoutProxy(facts: NodeFacts, record: NodeRecord, steps: readonly Step[]): readonly Step[] {
  const known = [...facts.kubeProxy.processes, ...(record.frozen?.processes ?? [])];
  const byIdentity = new Map(known.map((process) => [`${process.pid} ${process.startTime}`, process]));
  const processes = [...byIdentity.values()];
  if (processes.length === 0) return steps;
  return [{ kind: 'freezeProxy', processes }, ...steps, { kind: 'thawProxy', processes }];
}

/** The id that the family is to have again, if that can be had. */
function wantedId(facts: NodeFacts, { familyId }: SavedTable): { readonly familyId?: number } {
  return familyId === undefined || !facts.canAimFamilyId ? {} : { familyId };
}

interface Told {
  readonly parameters?: readonly string[];
}

/** What a module of this name was told when it was loaded, if anything. */
function parametersOf({ parameters = {} }: SavedTable, name: string): Told {
  const told = parameters[name] ?? [];
  return told.length === 0 ? {} : { parameters: told };
}

/** What ip_vs is to have again, whichever build of it. */
function asBefore(facts: NodeFacts, table: SavedTable): Told & { readonly familyId?: number } {
  return { ...wantedId(facts, table), ...parametersOf(table, IP_VS) };
}

/** Brings the in-tree module back, or leaves none where there was none and nothing needs it. */
export function swapToInTree(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const { baseline } = record;
  const carried = tableToCarry(facts, record);
  const wasLoaded = baseline === undefined || baseline.modules.includes('ip_vs');
  const needed = wasLoaded || carried.virtualServers.length > 0;
  const before = baseline?.modules.filter((name) => name.startsWith(HELPER)) ?? carried.helpers;
  const helpers = [...new Set([...before, ...schedulersOf(carried.virtualServers)])].sort();
  const table: SavedTable = {
    ...carried,
    helpers,
    sysctls: { ...carried.sysctls, ...baseline?.managedSysctls },
  };
  const restore = needed && isWorthSaving(table);
  const load = { kind: 'loadModule', name: IP_VS, wasLoaded: false, ...asBefore(facts, table) } as const;
  return withoutProxy(facts, record, [
    ...removeLoaded(facts, table, restore ? 'ip_vs' : undefined),
    { kind: 'unblockAutoload' },
    ...(needed ? [load] : []),
    ...(needed ? loadHelpers(table) : []),
    ...(restore ? RESTORE : []),
    ...(isWorthSaving(table) ? ([{ kind: 'forgetTable' }] as const) : []),
  ]);
}

/**
 * The right module is in place; what a killed run left of the table on disk goes back into the kernel, and modprobe
 * is no longer kept from loading ip_vs.
 */
export function finishInterrupted(facts: NodeFacts, record: NodeRecord): readonly Step[] {
  const unblock: readonly Step[] = record.unfinished === undefined ? [] : [{ kind: 'unblockAutoload' }];
  if (record.saved === undefined) return unblock;
  if (!record.saved.flushed) return [...unblock, { kind: 'forgetTable' }];
  const table = tableToCarry(facts, record);
  const loaded = new Set(facts.modules.map(({ name }) => name));
  return withoutProxy(facts, record, [
    { kind: 'saveTable', table },
    ...loadHelpers(table, loaded),
    ...RESTORE,
    ...unblock,
    { kind: 'forgetTable' },
  ]);
}

/** Modules that came along with ip_vs and were not there before. */
export function removeUnused(record: NodeRecord): readonly Step[] {
  const { baseline } = record;
  if (baseline === undefined) return [];
  const names = companionsSince(baseline);
  return names.length > 0 ? [{ kind: 'removeUnused', names }] : [];
}

/**
 * What must be in the kernel in the end. While the kernel holds all of its table that one counts; after a flush the
 * saved one counts, and what was added to the kernel's since.
 */
function tableToCarry(facts: NodeFacts, record: NodeRecord): SavedTable {
  const { saved } = record;
  const current: SavedTable = {
    bootId: facts.bootId,
    flushed: false,
    virtualServers: (facts.ipvs?.virtualServers ?? []).filter((server) => !isTestServer(server)),
    ...(facts.ipvs === undefined ? {} : { timeouts: facts.ipvs.timeouts, familyId: facts.ipvs.familyId }),
    sysctls: Object.fromEntries(Object.entries(facts.sysctls).filter(([name]) => !isModuleControl(name))),
    helpers: facts.modules.map(({ name }) => name).filter((name) => name.startsWith(HELPER)),
    parameters: toldParameters(facts.modules),
  };
  if (saved === undefined || !saved.flushed) return withSchedulers(current);
  const keys = new Set(saved.virtualServers.map(virtualServerKey));
  const added = current.virtualServers.filter((server) => !keys.has(virtualServerKey(server)));
  return withSchedulers({
    ...saved,
    virtualServers: [...saved.virtualServers, ...added].filter((server) => !isTestServer(server)),
    helpers: [...new Set([...saved.helpers, ...current.helpers])],
    parameters: { ...current.parameters, ...saved.parameters },
  });
}

function withSchedulers(table: SavedTable): SavedTable {
  const helpers = [...new Set([...table.helpers, ...schedulersOf(table.virtualServers)])].sort();
  return { ...table, helpers };
}

function schedulersOf(virtualServers: readonly VirtualServer[]): readonly string[] {
  return virtualServers.flatMap(({ scheduler, persistenceEngine }) => [
    ...(scheduler === '' || scheduler === 'none' ? [] : [`${HELPER}${scheduler}`]),
    ...(persistenceEngine === undefined || persistenceEngine === ''
      ? []
      : [`${HELPER}pe_${persistenceEngine}`]),
  ]);
}

/** A table that holds anything at all; an absent ip_vs has none. */
function isWorthSaving(table: SavedTable): boolean {
  return table.timeouts !== undefined || table.virtualServers.length > 0;
}

/** `next`: file or name of the module that the table comes back with, if it does. */
function removeLoaded(facts: NodeFacts, table: SavedTable, next: string | undefined): readonly Step[] {
  const { familyId } = wantedId(facts, table);
  // Before the flush, although the id is still in use then: none of this belongs to the outage.
  const save: readonly Step[] = [
    ...(next === undefined ? [] : startOutageProbe(table)),
    ...(isWorthSaving(table) ? ([{ kind: 'saveTable', table, fresh: !table.flushed }] as const) : []),
    ...(familyId === undefined ? [] : ([{ kind: 'aimFamilyId', id: familyId }] as const)),
  ];
  if (ipVs(facts) === undefined) return save;
  const helpers = facts.modules.filter(({ name }) => name.startsWith(HELPER)).map(({ name }) => name);
  return [
    ...save,
    ...(switchIsOn(facts) ? ([{ kind: 'setSwitch', on: false, wasOn: true }] as const) : []),
    ...(next === undefined ? [] : ([{ kind: 'readModule', module: next }, ...CARRY_CONNECTIONS] as const)),
    { kind: 'flush' },
    ...helpers.map((name) => ({ kind: 'removeModule', name, ...parametersOf(table, name) }) as const),
    { kind: 'removeModule', name: IP_VS, ...asBefore(facts, table) },
  ];
}

/** Before the table is saved: the probe's virtual server comes back with the others. */
function startOutageProbe({ flushed, virtualServers }: SavedTable): readonly Step[] {
  const scheduler = virtualServers
    .map((server) => server.scheduler)
    .find((name) => !['', 'none'].includes(name));
  return flushed || scheduler === undefined ? [] : [{ kind: 'startOutageProbe', scheduler }];
}

/** All but those that are there. */
function loadHelpers(table: SavedTable, loaded: ReadonlySet<string> = new Set()): readonly Step[] {
  const missing = table.helpers.filter((name) => !loaded.has(name));
  return missing.map((name) => ({
    kind: 'loadModule',
    name,
    wasLoaded: false,
    ...parametersOf(table, name),
  }));
}
