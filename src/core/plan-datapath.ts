// SPDX-License-Identifier: Apache-2.0
/** From the config to what maps, programs and sysctls should hold, as the steps that are still to be done. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type {
  DatapathConstants,
  LoadOptions,
  ServiceEntry,
  SnatInterface,
  TcDirection,
} from '../datapath-ports.ts';
import type { AddressFamily, Link, VirtualServer } from '../ports.ts';
import { addressFamily } from './abi.ts';
import { type DatapathFacts, ipVs, mapsOfModule, type NodeFacts, type NodeRecord } from './facts.ts';
import { coveredLinks, LOOPBACK, planSnat, type SnatPlan } from './interfaces.ts';
import { snatPortRanges } from './port-pool.ts';
import { withoutMapped } from './prefixes.ts';
import type { Step } from './steps.ts';
import { addressesOf, desiredServices, diffServices } from './virtual-servers.ts';

export const DIRECTIONS: readonly TcDirection[] = ['Ingress', 'Egress'];

/** Config field → sysctl under net.ipv4.vs. */
const SYSCTLS = [
  ['connReuseMode', 'conn_reuse_mode'],
  ['expireNodestConn', 'expire_nodest_conn'],
  ['expireQuiescentTemplate', 'expire_quiescent_template'],
] as const;

export interface DesiredSysctl {
  readonly name: string;
  readonly value: number;
}

/** The sysctls that the config sets; unset ones are left alone. */
export function desiredSysctls(config: NodeConfig): readonly DesiredSysctl[] {
  return SYSCTLS.flatMap(([field, name]) => {
    const value = config.ipvs[field];
    return value === undefined ? [] : [{ name, value }];
  });
}

/** What the maps and programs are to be loaded with. */
export function desiredOptions(config: NodeConfig, facts: NodeFacts): LoadOptions {
  const constants: DatapathConstants = {
    portRanges: snatPortRanges(facts.localPortRange, facts.localReservedPorts),
  };
  return { sessionMapMaxEntries: config.datapath.sessionMapMaxEntries, constants };
}

/** True if maps of another size are pinned, or none: what they hold begins anew. */
export function needsNewMaps(config: NodeConfig, facts: NodeFacts): boolean {
  return facts.datapath?.state.sessionMapMaxEntries !== config.datapath.sessionMapMaxEntries;
}

/** True if the module holds other maps than the ones that are pinned, or that will be. */
export function moduleHoldsOtherMaps(config: NodeConfig, facts: NodeFacts): boolean {
  const held = mapsOfModule(facts);
  if (held === undefined) return false;
  if (needsNewMaps(config, facts)) return true;
  const pinned = facts.datapath?.state.mapIds ?? {};
  return Object.entries(held).some(([name, id]) => pinned[name] !== id);
}

/** Maps and programs, then everything in them, then the interfaces. `freshModule`: it has no maps yet. */
export function planDatapath(
  config: NodeConfig,
  facts: NodeFacts,
  record: NodeRecord,
  freshModule: boolean,
): readonly Step[] {
  const options = desiredOptions(config, facts);
  const previous = facts.datapath?.state;
  // A new module may offer kfuncs, or others than the one before.
  const reload = freshModule || needsNewMaps(config, facts) || !isRightObject(facts, options);
  // Before modules are exchanged, programs are loaded that hold packets back.
  const loaded = previous ?? (freshModule && ipVs(facts) !== undefined ? options : undefined);
  const held = freshModule ? undefined : mapsOfModule(facts);
  const contents = needsNewMaps(config, facts) ? undefined : facts.datapath;
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  return [
    ...(reload ? [loadStep(options, loaded, freshModule)] : []),
    ...(held === undefined ? ([{ kind: 'giveMaps' }] as const) : []),
    ...planSnatTables(config, facts, record, { contents, covered }),
    ...planPrefixes(config, contents),
    ...planAttachments(facts, covered, { reload, attached: freshModule && loaded !== undefined }),
    ...planPeers(facts, covered, contents),
    ...planServices(config, facts, record, contents),
    ...planDetachments(facts, covered),
  ];
}

function isRightObject({ datapath, objectFileHash }: NodeFacts, { constants }: LoadOptions): boolean {
  const state = datapath?.state;
  return (
    state?.objectHash === objectFileHash && JSON.stringify(state?.constants) === JSON.stringify(constants)
  );
}

function loadStep(options: LoadOptions, previous: LoadOptions | undefined, freshModule: boolean): Step {
  if (previous === undefined) return { kind: 'loadDatapath', options };
  // Taken back, the module has to go as well.
  const without = freshModule ? { withoutModule: true } : {};
  return { kind: 'loadDatapath', options, previous: { ...optionsOf(previous), ...without } };
}

/** What these programs were loaded with. */
export function optionsOf({ sessionMapMaxEntries, constants }: LoadOptions): LoadOptions {
  return { sessionMapMaxEntries, constants };
}

/** Families of the virtual servers that the config names, or that this table has. */
export function usedFamilies(
  { services }: NodeConfig,
  table: readonly VirtualServer[],
): ReadonlySet<AddressFamily> {
  const named = services.virtualServers.map(({ address }) => addressFamily(address));
  return new Set([...named, ...table.map(({ family }) => family)]);
}

/** What the programs need to find the address that stands for clients. */
export interface SnatScope {
  /** What the maps hold that will be used. */
  readonly contents: DatapathFacts | undefined;
  readonly covered: readonly Link[];
  /** Of the virtual servers. */
  readonly used: ReadonlySet<AddressFamily>;
}

/** Which address stands for clients on which interface. A machine without IPv6 virtual servers needs none of IPv6. */
export function desiredSnat(
  { ipvs, links, addresses, routes }: NodeFacts,
  { contents, covered, used }: SnatScope,
): SnatPlan {
  const virtualAddresses = addressesOf(ipvs?.virtualServers ?? []);
  const existing = contents?.snatAddresses ?? [];
  const families: readonly AddressFamily[] = used.has('IPv6') ? ['IPv4', 'IPv6'] : ['IPv4'];
  return planSnat({ families, covered, links, addresses, routes, virtualAddresses, existing });
}

function planSnatTables(
  config: NodeConfig,
  facts: NodeFacts,
  record: NodeRecord,
  { contents, covered }: Omit<SnatScope, 'used'>,
): Step[] {
  const used = usedFamilies(config, tableInTheEnd(facts, record));
  const plan = desiredSnat(facts, { contents, covered, used });
  const keyOf = ({ ifindex, family }: SnatInterface): string => `${ifindex} ${family}`;
  const actual = contents?.snatInterfaces ?? [];
  const byKey = new Map(actual.map((entry) => [keyOf(entry), entry]));
  const wanted = new Set(plan.interfaces.map(keyOf));
  const changed = plan.interfaces.filter((entry) => byKey.get(keyOf(entry))?.addressId !== entry.addressId);
  return [
    ...plan.newAddresses.map((entry) => ({ kind: 'putSnatAddress', entry }) as const),
    ...changed.map((entry): Step => {
      const previous = byKey.get(keyOf(entry));
      return { kind: 'putSnatInterface', entry, ...(previous === undefined ? {} : { previous }) };
    }),
    ...actual
      .filter((entry) => !wanted.has(keyOf(entry)))
      .map((entry) => ({ kind: 'removeSnatInterface', entry }) as const),
  ];
}

function planPrefixes(config: NodeConfig, contents: DatapathFacts | undefined): Step[] {
  const actual = contents?.clusterPrefixes ?? [];
  const desired = [...new Set(config.snat.clusterCIDRs.flatMap(withoutMapped))];
  return [
    ...desired
      .filter((prefix) => !actual.includes(prefix))
      .map((prefix) => ({ kind: 'putClusterPrefix', prefix }) as const),
    ...actual
      .filter((prefix) => !desired.includes(prefix))
      .map((prefix) => ({ kind: 'removeClusterPrefix', prefix }) as const),
  ];
}

/** `attached`: at ingress, by the steps before (prepareFirstHold). */
function planAttachments(
  facts: NodeFacts,
  covered: readonly Link[],
  { reload, attached }: { readonly reload: boolean; readonly attached: boolean },
): Step[] {
  return covered.flatMap(({ index, name }) =>
    DIRECTIONS.flatMap((direction): Step[] => {
      const existing = facts.attachments.find((at) => at.ifindex === index && at.direction === direction);
      if ((existing?.current === true && !reload) || (attached && direction === 'Ingress')) return [];
      return [{ kind: 'attach', ifindex: index, name, direction, wasAttached: existing !== undefined }];
    }),
  );
}

/** Devices that are one of a pair. */
const PAIRS: ReadonlySet<string> = new Set(['veth', 'netkit']);

/**
 * Packets may skip tc egress of an interface where no program but ours is: that of somebody else may be a CNI's
 * policy, or bandwidth. Everything else that makes a peer right or wrong is the module's to see.
 */
function planPeers(
  { links, foreignPrograms }: NodeFacts,
  covered: readonly Link[],
  contents: DatapathFacts | undefined,
): Step[] {
  const others = new Set(
    foreignPrograms.flatMap(({ direction, ifindex }) => (direction === 'Egress' ? [ifindex] : [])),
  );
  const wanted = covered.filter(({ type, index }) => PAIRS.has(type) && !others.has(index));
  const wantedIndexes = new Set(wanted.map(({ index }) => index));
  const actual = contents?.peerInterfaces ?? [];
  const nameOf = (ifindex: number): string =>
    links.find(({ index }) => index === ifindex)?.name ?? `interface ${ifindex}`;
  return [
    ...actual
      .filter((ifindex) => !wantedIndexes.has(ifindex))
      .map((ifindex) => ({ kind: 'removePeerInterface', ifindex, name: nameOf(ifindex) }) as const),
    ...wanted
      .filter(({ index }) => !actual.includes(index))
      .map(({ index, name }) => ({ kind: 'putPeerInterface', ifindex: index, name }) as const),
  ];
}

function planDetachments(facts: NodeFacts, covered: readonly Link[]): Step[] {
  const kept = new Set(covered.map(({ index }) => index));
  // That of the loopback device goes with the exchange that it was for.
  return detachSteps(facts).filter(
    (step) => step.kind !== 'detach' || (!kept.has(step.ifindex) && step.name !== LOOPBACK),
  );
}

/** Takes our programs off every interface. */
export function detachSteps(facts: NodeFacts): readonly Step[] {
  const names = new Map(facts.links.map(({ index, name }) => [index, name]));
  return facts.attachments.map(({ ifindex, direction }) => ({
    kind: 'detach',
    ifindex,
    name: names.get(ifindex) ?? `interface ${ifindex}`,
    direction,
  }));
}

function planServices(
  config: NodeConfig,
  facts: NodeFacts,
  record: NodeRecord,
  contents: DatapathFacts | undefined,
): Step[] {
  const desired = desiredServices(config, tableInTheEnd(facts, record), facts);
  const { put, remove } = diffServices(desired, contents?.services ?? [], record.lastServiceId);
  const isNew = ({ previous }: { readonly previous?: ServiceEntry }): boolean => previous === undefined;
  const [first, last] = [put.find(isNew), put.findLast(isNew)];
  return [
    ...remove.map((entry) => ({ kind: 'removeService', entry }) as const),
    ...put.map((change): Step => {
      const step = { kind: 'putService', ...change } as const;
      return change === first && last !== undefined ? { ...step, lastId: last.entry.id } : step;
    }),
  ];
}

/** The table as it will be once a pending restore is done. */
function tableInTheEnd(
  facts: NodeFacts,
  record: NodeRecord,
): NonNullable<NodeFacts['ipvs']>['virtualServers'] {
  const table = facts.ipvs?.virtualServers ?? [];
  return record.saved?.flushed === true ? [...table, ...record.saved.virtualServers] : table;
}

/** Sysctls that do not have the value that the config asks for. */
export function planSysctls(config: NodeConfig, facts: NodeFacts, record: NodeRecord): readonly Step[] {
  return desiredSysctls(config).flatMap(({ name, value }): Step[] => {
    const before = record.saved?.flushed === true ? record.saved.sysctls[name] : facts.sysctls[name];
    if (before === String(value)) return [];
    const previous = before === undefined ? {} : { previous: before };
    return [{ kind: 'writeSysctl', name, value: String(value), ...previous }];
  });
}
