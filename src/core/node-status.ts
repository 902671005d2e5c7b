// SPDX-License-Identifier: Apache-2.0
/** What `status` reports, made from the config and what is observed. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { NodeStatus, VirtualServerReason, VirtualServerStatus } from '../api/node-status.ts';
import { API_VERSION } from '../api/schema.ts';
import type { ServiceEntry } from '../datapath-ports.ts';
import type { VirtualServer } from '../ports.ts';
import { ipVs, isModuleControl, moduleOrigin, type NodeFacts, switchIsOn } from './facts.ts';
import { coveredLinks } from './interfaces.ts';
import { DIRECTIONS, desiredSysctls } from './plan-datapath.ts';
import { rememberLast } from './remember.ts';
import { byKey, familyObstacle, namedObstacle, obstacle } from './virtual-servers.ts';

/** The status of a machine under this config. */
export function nodeStatus(config: NodeConfig, facts: NodeFacts): NodeStatus {
  const { interfaces, counters, sysctls, ...rest } = machineStatus(config, facts);
  return { ...rest, virtualServers: virtualServers(config, facts), interfaces, counters, sysctls };
}

/** All of it but the virtual servers. */
export function machineStatus(config: NodeConfig, facts: NodeFacts): Omit<NodeStatus, 'virtualServers'> {
  return {
    apiVersion: API_VERSION,
    kind: 'NodeStatus',
    mode: config.mode,
    module: {
      origin: moduleOrigin(facts),
      srcversion: ipVs(facts)?.srcversion ?? '',
      kernelRelease: facts.kernelRelease,
    },
    switch: switchIsOn(facts) ? 'On' : 'Off',
    sessions: {
      entries: facts.datapath?.sessionCount ?? 0,
      maxEntries: facts.datapath?.state.sessionMapMaxEntries ?? 0,
    },
    interfaces: interfaces(config, facts),
    counters: Object.entries(facts.datapath?.counters ?? {}).map(([reason, packets]) => ({
      reason,
      packets,
    })),
    sysctls: desiredSysctls(config).map(({ name, value }) => {
      const actual = isModuleControl(name) ? undefined : facts.sysctls[name];
      return { name, desired: value, actual: actual === undefined ? null : Number(actual) };
    }),
  };
}

/** The virtual servers that the config names and that do not run accelerated. */
export function notAccelerated(config: NodeConfig, status: NodeStatus): readonly VirtualServerStatus[] {
  if (config.mode === 'Disabled') return [];
  const named = byKey(config.services.virtualServers);
  return status.virtualServers.filter(
    (server) =>
      !server.accelerated &&
      server.protocol !== 'FirewallMark' &&
      named.has(`${server.protocol} ${server.address} ${server.port}`),
  );
}

/** By virtualServerKey(): first all that IPVS has, then those that the config names and IPVS does not have. */
export function virtualServerReasons(
  config: NodeConfig,
  facts: NodeFacts,
): ReadonlyMap<string, VirtualServerReason> {
  const { services } = config;
  const table = facts.ipvs?.virtualServers ?? NONE;
  const listed = facts.datapath?.services ?? NONE;
  const ofAll = reasonOfAll(config, facts);
  return findReasons(table, services.virtualServers, listed, services.all, ofAll, facts.ip6Forward);
}

const NONE: readonly never[] = [];

const findReasons = rememberLast(
  (
    table: readonly VirtualServer[],
    named: NodeConfig['services']['virtualServers'],
    listed: readonly ServiceEntry[],
    all: boolean,
    ofAll: ReasonOfAll,
    ip6Forward: boolean,
  ): ReadonlyMap<string, VirtualServerReason> => {
    const known = byKey(table);
    const whitelist = byKey(named);
    const inMap = byKey(listed);
    const reasons = new Map<string, VirtualServerReason>();
    const reasonOf = (key: string, server: VirtualServer): VirtualServerReason => {
      if (!all && !whitelist.has(key)) return 'NotWhitelisted';
      const cannot = obstacle(server) ?? familyObstacle(server, ip6Forward);
      if (cannot !== undefined) return cannot;
      if (ofAll === 'ModuleNotPatched' || ofAll === 'SwitchOff') return ofAll;
      return inMap.has(key) ? ofAll : 'NotInMap';
    };
    for (const [key, server] of known) reasons.set(key, reasonOf(key, server));
    for (const [key, server] of whitelist) {
      if (!known.has(key)) reasons.set(key, namedObstacle(server) ?? 'NoSuchVirtualServer');
    }
    return reasons;
  },
);

function virtualServers(config: NodeConfig, facts: NodeFacts): VirtualServerStatus[] {
  const known = byKey(facts.ipvs?.virtualServers ?? []);
  const named = byKey(config.services.virtualServers);
  return [...virtualServerReasons(config, facts)].flatMap(([key, reason]): VirtualServerStatus[] => {
    const server = known.get(key);
    const end = server === undefined ? named.get(key) : endOf(server);
    if (end === undefined) return [];
    const { address, port, protocol } = end;
    return [{ address, port, protocol, accelerated: reason === 'Accelerated', reason }];
  });
}

function endOf(server: VirtualServer): Pick<VirtualServerStatus, 'address' | 'port' | 'protocol'> {
  if (obstacle(server) === 'FirewallMark') {
    return { address: `fwmark ${server.fwmark}`, port: 0, protocol: 'FirewallMark' };
  }
  return { address: server.address ?? '', port: server.port ?? 0, protocol: server.protocol ?? 'TCP' };
}

type ReasonOfAll = 'ModuleNotPatched' | 'SwitchOff' | 'ProgramsNotAttached' | 'Accelerated';

/** What becomes of a virtual server that is in the map: found out once, there are thousands of them. */
function reasonOfAll(config: NodeConfig, facts: NodeFacts): ReasonOfAll {
  if (moduleOrigin(facts) !== 'Patched') return 'ModuleNotPatched';
  if (!switchIsOn(facts)) return 'SwitchOff';
  const covered = coveredLinks(config.datapath.interfaces, facts.links);
  const attached = covered.every(({ index }) =>
    DIRECTIONS.every((direction) =>
      facts.attachments.some((at) => at.ifindex === index && at.direction === direction && at.current),
    ),
  );
  return attached && covered.length > 0 ? 'Accelerated' : 'ProgramsNotAttached';
}

/** Interfaces that should have the programs, and those that have them. */
function interfaces(config: NodeConfig, facts: NodeFacts): NodeStatus['interfaces'] {
  const covered = new Set(
    config.mode === 'Disabled'
      ? []
      : coveredLinks(config.datapath.interfaces, facts.links).map(({ index }) => index),
  );
  return facts.links
    .map(({ index, name }) => ({
      index,
      name,
      at: facts.attachments.filter(({ ifindex }) => ifindex === index),
    }))
    .filter(({ index, at }) => covered.has(index) || at.length > 0)
    .map(({ name, at }) => ({
      name,
      attach: at[0]?.kind ?? 'None',
      ingress: at.some(({ direction, current }) => direction === 'Ingress' && current),
      egress: at.some(({ direction, current }) => direction === 'Egress' && current),
    }));
}
