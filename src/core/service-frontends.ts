// SPDX-License-Identifier: Apache-2.0
/** The addresses and ports at which clients reach a Service, as virtual servers, and whose requests are translated. */
import type { PolicySpec, SliceService } from '../api/resources.ts';
import type { Protocol } from '../ports.ts';
import { endText, isLinkLocal, unmapped } from './addresses.ts';
import type { ClusterService, ServicePort } from './cluster-facts.ts';
import type { RejectReason } from './reasons.ts';

/** Numbers and names; undefined: all ports. */
export type PortSelection = readonly (number | string)[] | undefined;

export interface Dropped {
  readonly reason: RejectReason;
  readonly message: string;
}

type SnatMode = PolicySpec['snat']['mode'];
type Group = SliceService['virtualServers'][number];

export interface Frontends {
  readonly virtualServers: readonly Group[];
  readonly nodePorts: SliceService['nodePorts'];
  /** What stays on the native path. */
  readonly dropped: readonly Dropped[];
}

/** The ports that the whitelist means, and those that it names in vain. */
export function selectedPorts(
  service: ClusterService,
  selection: PortSelection,
): { readonly ports: readonly ServicePort[]; readonly problem?: Dropped } {
  const all = service.spec?.ports ?? [];
  if (selection === undefined) return { ports: all };
  const means = (port: ServicePort, wanted: number | string): boolean =>
    typeof wanted === 'number' ? port.port === wanted : port.name === wanted;
  const missing = selection.filter((wanted) => !all.some((port) => means(port, wanted)));
  const ports = all.filter((port) => selection.some((wanted) => means(port, wanted)));
  if (missing.length === 0) return { ports };
  const known = all.map(({ name, port }) => (name === undefined ? `${port}` : `${name} (${port})`));
  const message = `It has no port ${missing.join(', ')}; its ports are ${known.join(', ') || 'none'}.`;
  return { ports, problem: { reason: 'PortNotFound', message } };
}

/**
 * The virtual servers of a Service for these of its ports. `taken` holds those of earlier Services, and gets those of
 * this one.
 */
export function serviceFrontends(
  service: ClusterService,
  ports: readonly ServicePort[],
  snatMode: SnatMode,
  taken: Set<string>,
): Frontends {
  const dropped: Dropped[] = [];
  const virtual = ports.map(({ port, protocol }) => ({ port, protocol: protocolOf(protocol) }));
  const { spec } = service;
  const cluster = texts((spec?.clusterIPs ?? [spec?.clusterIP ?? '']).filter((address) => address !== ''));
  const external = texts(externalAddresses(service)).filter((address) => !cluster.includes(address));
  const fromOutside: SnatMode = spec?.externalTrafficPolicy === 'Local' ? 'Never' : 'Always';
  const virtualServers =
    virtual.length === 0
      ? []
      : [
          group(cluster, virtual, snatMode, taken, dropped),
          group(external, virtual, fromOutside, taken, dropped),
        ].filter(({ addresses }) => addresses.length > 0);
  const nodePorts = ports.flatMap(({ nodePort, protocol }) =>
    nodePort === undefined || nodePort === 0
      ? []
      : [{ port: nodePort, protocol: protocolOf(protocol), snatMode: fromOutside }],
  );
  return { virtualServers, nodePorts, dropped };
}

/** A load balancer's address with ipMode Proxy is the balancer's own: kube-proxy makes no virtual server of it. */
function externalAddresses({ spec, status }: ClusterService): readonly string[] {
  const ingress = spec?.type === 'LoadBalancer' ? (status?.loadBalancer?.ingress ?? []) : [];
  const balancer = ingress.flatMap(({ ip, ipMode }) => (ip === undefined || ipMode === 'Proxy' ? [] : [ip]));
  return [...(spec?.externalIPs ?? []), ...balancer];
}

/** Each once, and as IPVS and the whitelist have it; what is no address stays as it is. */
function texts(addresses: readonly string[]): readonly string[] {
  return [...new Set(addresses.map((address) => virtualAddress(address) ?? address))];
}

function group(
  addresses: readonly string[],
  ports: Group['ports'],
  snatMode: SnatMode,
  taken: Set<string>,
  dropped: Dropped[],
): Group {
  const kept: string[] = [];
  for (const address of addresses) {
    const refusal = refuse(address, ports, taken);
    if (refusal === undefined) {
      for (const { port, protocol } of ports) taken.add(`${protocol} ${address} ${port}`);
      kept.push(address);
    } else dropped.push(refusal);
  }
  // A copy has no room to grow: of many Services each keeps one.
  return { addresses: [...kept], ports, snatMode };
}

function refuse(address: string, ports: Group['ports'], taken: ReadonlySet<string>): Dropped | undefined {
  if (virtualAddress(address) === undefined) {
    return { reason: 'NoAddress', message: `"${address}" is no address.` };
  }
  if (isLinkLocal(address)) {
    const message = `Its link-local address ${address} stays on the native path.`;
    return { reason: 'LinkLocalAddress', message };
  }
  const used = ports.find(({ port, protocol }) => taken.has(`${protocol} ${address} ${port}`));
  if (used === undefined) return undefined;
  return {
    reason: 'AddressInUse',
    message: `Another Service of the whitelist has ${endText(address, used.port)} (${used.protocol}) too.`,
  };
}

/** As kube-proxy takes it, to which ::ffff:192.0.2.1 is 192.0.2.1; undefined if it is no address. */
function virtualAddress(address: string): string | undefined {
  try {
    return unmapped(address);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function protocolOf(protocol: string | undefined): Protocol {
  return protocol === 'UDP' || protocol === 'SCTP' ? protocol : 'TCP';
}
