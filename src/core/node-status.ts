// SPDX-License-Identifier: Apache-2.0
/** What `status` reports, made from the config and what is observed. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { NodeStatus, VirtualServerReason, VirtualServerStatus } from '../api/node-status.ts';
import { API_VERSION } from '../api/schema.ts';
import type { VirtualServer } from '../ports.ts';
import { ipVs, isModuleControl, moduleOrigin, type NodeFacts, switchIsOn } from './facts.ts';
import { coveredLinks } from './interfaces.ts';
import { DIRECTIONS, desiredSysctls } from './plan-datapath.ts';
import { namedObstacle, obstacle, virtualServerKey } from './virtual-servers.ts';

/** The status of a machine under this config. */
export function nodeStatus(config: NodeConfig, facts: NodeFacts): NodeStatus {
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
    virtualServers: virtualServers(config, facts),
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
  const named = new Set(config.services.virtualServers.map(virtualServerKey));
  return status.virtualServers.filter(
    (server) =>
      !server.accelerated &&
      server.protocol !== 'FirewallMark' &&
      named.has(`${server.protocol} ${server.address} ${server.port}`),
  );
}

function virtualServers(config: NodeConfig, facts: NodeFacts): VirtualServerStatus[] {
  const table = facts.ipvs?.virtualServers ?? [];
  const known = new Set(table.map(virtualServerKey));
  const reasonOf = reasonFinder(config, facts);
  const missing = config.services.virtualServers
    .filter((server) => !known.has(virtualServerKey(server)))
    .map(({ address, port, protocol }): VirtualServerStatus => {
      const reason = namedObstacle({ address, protocol }) ?? 'NoSuchVirtualServer';
      return { address, port, protocol, accelerated: false, reason };
    });
  const present = table.map((server): VirtualServerStatus => {
    const reason = reasonOf(server);
    return { ...endOf(server), accelerated: reason === 'Accelerated', reason };
  });
  return [...present, ...missing];
}

function endOf(server: VirtualServer): Pick<VirtualServerStatus, 'address' | 'port' | 'protocol'> {
  if (obstacle(server) === 'FirewallMark') {
    return { address: `fwmark ${server.fwmark}`, port: 0, protocol: 'FirewallMark' };
  }
  return { address: server.address ?? '', port: server.port ?? 0, protocol: server.protocol ?? 'TCP' };
}

/** What holds for every virtual server is found out once: there are thousands of them. */
function reasonFinder(config: NodeConfig, facts: NodeFacts): (server: VirtualServer) => VirtualServerReason {
  const named = new Set(config.services.virtualServers.map(virtualServerKey));
  const listed = new Set((facts.datapath?.services ?? []).map(virtualServerKey));
  const ofAll = reasonOfAll(config, facts);
  return (server) => {
    const key = virtualServerKey(server);
    if (!config.services.all && !named.has(key)) return 'NotWhitelisted';
    const cannot = obstacle(server);
    if (cannot !== undefined) return cannot;
    if (ofAll === 'ModuleNotPatched' || ofAll === 'SwitchOff') return ofAll;
    return listed.has(key) ? ofAll : 'NotInMap';
  };
}

/** What becomes of a virtual server that is in the map. */
function reasonOfAll(
  config: NodeConfig,
  facts: NodeFacts,
): 'ModuleNotPatched' | 'SwitchOff' | 'ProgramsNotAttached' | 'Accelerated' {
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
