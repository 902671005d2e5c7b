// SPDX-License-Identifier: Apache-2.0
/** From what the operator asks of a node to the config that its agent works by. */
import type { NodeConfig } from '../api/generated/node-config-types.ts';
import type { NodeSpec, SliceService } from '../api/resources.ts';
import { API_VERSION } from '../api/schema.ts';
import { canonicalAddress } from './abi.ts';
import { isLinkLocal } from './addresses.ts';
import { canonicalJson, sameValue, shortHash } from './canonical.ts';
import { keyOf } from './kube-object.ts';
import { remember } from './remember.ts';
import { virtualServerKey } from './virtual-servers.ts';

type VirtualServer = NodeConfig['services']['virtualServers'][number];

/**
 * The config of a node. `addresses` are the node's own, at which kube-proxy has node ports, link-local ones aside; an
 * address of which a Service has a virtual server of the same port and protocol is that Service's.
 */
export function nodeConfigOf(
  spec: Pick<NodeSpec, 'mode' | 'snat' | 'ipvs' | 'datapath' | 'module'>,
  services: readonly SliceService[],
  addresses: readonly string[],
): NodeConfig {
  return {
    apiVersion: API_VERSION,
    kind: 'NodeConfig',
    mode: spec.mode,
    services: {
      all: false,
      virtualServers: whitelistOf(services, addresses).servers,
    },
    snat: spec.snat,
    ipvs: spec.ipvs,
    datapath: spec.datapath,
    module: spec.module,
  };
}

/** A virtual server with the Service that it is of. */
export interface NamedServer {
  /** virtualServerKey() */
  readonly key: string;
  readonly server: VirtualServer;
  readonly namespace: string;
  readonly name: string;
}

interface Whitelist {
  readonly named: readonly NamedServer[];
  readonly servers: VirtualServer[];
}

/** What was made of a whitelist last. The node's addresses seldom change, and each look asks several times. */
const lastOf = remember((_: readonly SliceService[]): { addresses: string; whitelist?: Whitelist } => ({
  addresses: '',
}));

function whitelistOf(services: readonly SliceService[], addresses: readonly string[]): Whitelist {
  const last = lastOf(services);
  const text = addresses.join();
  if (last.whitelist === undefined || last.addresses !== text) {
    const named = findServers(services, addresses);
    last.addresses = text;
    last.whitelist = { named, servers: named.map(({ server }) => server) };
  }
  return last.whitelist;
}

/** The virtual servers of these Services on a node with these addresses, each with the Service that it is of. */
export function virtualServersOf(
  services: readonly SliceService[],
  addresses: readonly string[],
): readonly NamedServer[] {
  return whitelistOf(services, addresses).named;
}

function findServers(services: readonly SliceService[], addresses: readonly string[]): NamedServer[] {
  const own = [...new Set(addresses.map(canonicalAddress))].filter((address) => !isLinkLocal(address));
  const found = new Map<string, NamedServer>();
  const add = ({ namespace, name }: SliceService, { address, port, protocol, snat }: VirtualServer): void => {
    const key = virtualServerKey({ protocol, address, port });
    if (found.has(key)) return;
    const server = { address, port, protocol, ...(snat === undefined ? {} : { snat }) };
    found.set(key, { key, server, namespace, name });
  };
  for (const service of services) {
    for (const { addresses: virtual, ports, snatMode } of service.virtualServers) {
      for (const address of virtual)
        for (const port of ports) add(service, { address, ...port, snat: { mode: snatMode } });
    }
  }
  for (const service of services) {
    for (const { port, protocol, snatMode } of service.nodePorts) {
      for (const address of own) add(service, { address, port, protocol, snat: { mode: snatMode } });
    }
  }
  return [...found.values()];
}

const signatureOf = remember(
  (service: SliceService) => `${keyOf(service)} ${shortHash(canonicalJson(service))}`,
);

/** Names a whitelist, whichever way it is cut into slices. Status of policies and nodes gives it. */
export const whitelistRevision: (services: readonly SliceService[]) => string = remember((services) =>
  shortHash(services.map(signatureOf).sort().join()),
);

/** True if both say the same of the same Services in the same order. */
export function sameServices(a: readonly SliceService[], b: readonly SliceService[]): boolean {
  return sameValue(a, b);
}
