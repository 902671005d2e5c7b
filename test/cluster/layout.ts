// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';

/** Names, addresses and paths of one cluster. All its interfaces lie in its own network namespaces. */
export interface Layout {
  readonly name: string;
  /** Everything of a running cluster that is not cached; gone after `down`. */
  readonly stateDir: string;
  /** Network namespace of the control plane, the bridge and the machines' taps. */
  readonly netns: string;
  /** Network namespace of a host outside of the cluster, on the same bridge. */
  readonly clientNetns: string;
}

export const addresses = {
  bridge: 'br0',
  /** Control plane and DNS server, on the bridge. */
  controlPlane: '10.10.0.1',
  client: '10.10.0.100',
  prefixLength: 24,
  services: '10.96.0.0/16',
  kubernetesService: '10.96.0.1',
  dnsService: '10.96.0.10',
  pods: '10.244.0.0/16',
  apiPort: 6443,
  /** TCP port of the command channel on each node. */
  commandPort: 1022,
} as const;

/** The same of IPv6, for clusters that have it. */
export const addresses6 = {
  controlPlane: 'fd10:10::1',
  client: 'fd10:10::100',
  prefixLength: 64,
  services: 'fd10:96::/112',
  kubernetesService: 'fd10:96::1',
  dnsService: 'fd10:96::a',
  pods: 'fd10:244::/48',
} as const;

/** Machines that fit between the control plane's and the client's addresses. */
export const maxNodes = 9;

const stateRoot = '/run/ipvs-bpf-cluster';

/**
 * @param checkout distinguishes the clusters of several checkouts
 * @param name a further cluster of this checkout; lower case letters, digits and dashes, up to 20
 */
export function layoutOf(checkoutHash: string, name = ''): Layout {
  if (name !== '' && !/^[a-z0-9][a-z0-9-]{0,19}$/.test(name)) {
    throw new Error(`cluster name ${name}: lower case letters, digits and dashes are allowed, 20 at most`);
  }
  const id = [checkoutHash.slice(0, 8), ...(name === '' ? [] : [name])].join('-');
  return {
    name: id,
    stateDir: join(stateRoot, id),
    netns: `ipvs-bpf-${id}`,
    clientNetns: `ipvs-bpf-${id}-client`,
  };
}

/** What a machine is known by; `index` counts from 1. */
export interface NodeIdentity {
  readonly name: string;
  readonly index: number;
  readonly address: string;
  readonly address6: string;
  readonly mac: string;
  readonly podRange: string;
  readonly podRange6: string;
}

export function nodeIdentity(index: number): NodeIdentity {
  if (!Number.isInteger(index) || index < 1 || index > maxNodes) {
    throw new Error(`node ${index}: a cluster has 0 to ${maxNodes} nodes`);
  }
  return {
    name: `n${index}`,
    index,
    address: `10.10.0.${10 + index}`,
    address6: `fd10:10::${10 + index}`,
    mac: `52:54:00:10:00:0${index}`,
    podRange: `10.244.${index}.0/24`,
    podRange6: `fd10:244:0:${index}::/64`,
  };
}

export function nodeIdentities(count: number): NodeIdentity[] {
  return Array.from({ length: count }, (_, index) => nodeIdentity(index + 1));
}

/** @throws Error if no cluster has a node of this name */
export function nodeNamed(name: string): NodeIdentity {
  const node = nodeIdentities(maxNodes).find((each) => each.name === name);
  if (node === undefined) throw new Error(`no node ${name}; nodes are n1 to n${maxNodes}`);
  return node;
}

/** Files below a state directory. */
export function statePaths(stateDir: string) {
  return {
    pki: join(stateDir, 'pki'),
    etcd: join(stateDir, 'etcd'),
    log: join(stateDir, 'log'),
    run: join(stateDir, 'run'),
    settings: join(stateDir, 'cluster.json'),
    /** For this machine: the API server by way of a port of 127.0.0.1. */
    kubeconfig: join(stateDir, 'kubeconfig'),
    /** For processes in the cluster's namespace and on nodes. */
    kubeconfigOf: (user: string) => join(stateDir, `${user}.kubeconfig`),
    node: (name: string) => join(stateDir, 'nodes', name),
  };
}
