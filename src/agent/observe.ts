// SPDX-License-Identifier: Apache-2.0
/** All reads of a reconciliation: ports in, facts out. */
import type { BootFiles } from '../boot-ports.ts';
import type { Connections } from '../connection-ports.ts';
import { isNotFound } from '../core/errors.ts';
import type { DatapathFacts, IpvsFacts, KubeProxyFacts, ModuleFileFacts, NodeFacts } from '../core/facts.ts';
import { needsRoutes } from '../core/interfaces.ts';
import type { Datapath } from '../datapath-ports.ts';
import type {
  Clock,
  Host,
  Ipvs,
  KernelModules,
  KubeProxy,
  Links,
  NodeRecords,
  OutageProbe,
  Route,
  SelfCheck,
  ServiceProbe,
} from '../ports.ts';

/** Everything that the agent acts on. */
export interface NodePorts {
  readonly modules: KernelModules;
  readonly ipvs: Ipvs;
  readonly connections: Connections;
  readonly host: Host;
  readonly links: Links;
  readonly datapath: Datapath;
  readonly records: NodeRecords;
  readonly selfCheck: SelfCheck;
  readonly serviceProbe: ServiceProbe;
  readonly outageProbe: OutageProbe;
  readonly kubeProxy: KubeProxy;
  readonly boot: BootFiles;
  readonly clock: Clock;
}

const VS = 'net/ipv4/vs';

/** `moduleFile` tells where the patched module for a kernel release is; without it (down) the file is not read. */
export async function observe(
  ports: NodePorts,
  moduleFile?: (kernelRelease: string) => string,
): Promise<NodeFacts> {
  const { modules, host, links, datapath } = ports;
  const kernelRelease = await modules.release();
  const ipvs = await observeIpvs(ports);
  const maps = await observeDatapath(datapath);
  return {
    kernelRelease,
    bootId: await host.bootId(),
    missingPrivileges: host.missingPrivileges(),
    hasBtf: await host.hasBtf(),
    requiresSignedModules: await host.requiresSignedModules(),
    modules: await modules.list(),
    ipVsBuiltIn: await modules.isBuiltIn('ip_vs'),
    ...(moduleFile === undefined
      ? {}
      : {
          moduleFile: await observeModuleFile(modules, moduleFile(kernelRelease)),
          objectFileHash: await datapath.objectFileHash(),
        }),
    ...(ipvs === undefined ? {} : { ipvs }),
    sysctls: await observeSysctls(host),
    ipForward: (await host.readSysctl('net/ipv4/ip_forward')) === '1',
    ip6Forward: (await host.readSysctl('net/ipv6/conf/all/forwarding')) === '1',
    localPortRange: (await host.readSysctl('net/ipv4/ip_local_port_range')) ?? '',
    localReservedPorts: (await host.readSysctl('net/ipv4/ip_local_reserved_ports')) ?? '',
    ...(await observeLinks(links, hasIpv6(ipvs, maps))),
    ...(maps === undefined ? {} : { datapath: maps }),
    attachments: await datapath.attachments(),
    foreignPrograms: moduleFile === undefined ? [] : await datapath.foreignPrograms(),
    otherNamespaces: moduleFile === undefined ? [] : await host.namespacesUsingIpvs(),
    kubeProxy: await observeKubeProxy(ports.kubeProxy),
    canAimFamilyId: await modules.canAimFamilyId(),
    boot: await ports.boot.state(),
  };
}

export async function observeModuleFile(modules: KernelModules, path: string): Promise<ModuleFileFacts> {
  try {
    const { vermagic, srcversion, signed } = await modules.info(path);
    return { state: 'Found', path, vermagic, srcversion, signed };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { state: isNotFound(error) ? 'Missing' : 'Unreadable', path, message };
  }
}

async function observeIpvs(ports: NodePorts): Promise<IpvsFacts | undefined> {
  const { ipvs } = ports;
  const familyId = await ipvs.familyId();
  if (familyId === undefined) return undefined;
  return {
    familyId,
    virtualServers: await ipvs.virtualServers(),
    timeouts: await ipvs.timeouts(),
    daemons: await ipvs.daemons(),
  };
}

/** True if IPVS has IPv6 virtual servers, or the whitelist, which may have them before IPVS. */
function hasIpv6(ipvs: IpvsFacts | undefined, maps: DatapathFacts | undefined): boolean {
  const isIpv6 = ({ address = '' }: { readonly address?: string }): boolean => address.includes(':');
  return (ipvs?.virtualServers.some(isIpv6) ?? false) || (maps?.services.some(isIpv6) ?? false);
}

/** The routes of a node that is up: those of IPv6 only if it has virtual servers of it. */
export async function routesFor({ ipvs, datapath }: NodeFacts, links: Links): Promise<readonly Route[]> {
  const four = await links.routes('IPv4');
  return hasIpv6(ipvs, datapath) ? [...four, ...(await links.routes('IPv6'))] : four;
}

/** A router may have a million routes: they are read only where they are needed. */
async function observeLinks(
  ports: Links,
  ipv6: boolean,
): Promise<Pick<NodeFacts, 'links' | 'addresses' | 'routes'>> {
  const links = await ports.list();
  const addresses = await ports.addresses();
  const routes: Route[] = [];
  for (const family of ipv6 ? (['IPv4', 'IPv6'] as const) : (['IPv4'] as const)) {
    if (needsRoutes(links, addresses, family)) routes.push(...(await ports.routes(family)));
  }
  return { links, addresses, routes };
}

async function observeKubeProxy(kubeProxy: KubeProxy): Promise<KubeProxyFacts> {
  const processes = await kubeProxy.processes();
  const mode = processes.length === 0 ? undefined : await kubeProxy.mode();
  return { processes, ...(mode === undefined ? {} : { mode }) };
}

async function observeSysctls(host: Host): Promise<Readonly<Record<string, string>>> {
  const entries: [string, string][] = [];
  for (const name of await host.listSysctls(VS)) {
    const value = await host.readSysctl(`${VS}/${name}`);
    if (value !== undefined) entries.push([name, value]);
  }
  return Object.fromEntries(entries);
}

async function observeDatapath(datapath: Datapath): Promise<DatapathFacts | undefined> {
  const state = await datapath.state();
  if (state === undefined) return undefined;
  return {
    state,
    services: await datapath.services(),
    snatAddresses: await datapath.snatAddresses(),
    snatInterfaces: await datapath.snatInterfaces(),
    clusterPrefixes: await datapath.clusterPrefixes(),
    peerInterfaces: await datapath.peerInterfaces(),
    sessionCount: await datapath.sessionCount(),
    counters: await datapath.counters(),
  };
}
