// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { run } from '../../scripts/exec.ts';
import { hasIpv6, type IpFamilies } from './ip-families.ts';
import { addresses, addresses6, type Layout, type NodeIdentity } from './layout.ts';

const { bridge, controlPlane, client, prefixLength } = addresses;

/** Both namespaces, the bridge and the client's link; what is there already stays. */
export async function ensureNetwork(layout: Layout, families: IpFamilies): Promise<void> {
  await ensureNamespace(layout.netns);
  await ensureNamespace(layout.clientNetns);
  // One script in the namespace: each `ip netns exec` costs more than what it runs.
  await inNamespace(
    layout.netns,
    `
    ip link set lo up
    ip link show ${bridge} >/dev/null 2>&1 || ip link add ${bridge} type bridge
    ip addr replace ${controlPlane}/${prefixLength} dev ${bridge}
    ip link set ${bridge} up
    sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.ping_group_range='0 2147483647'
    ${ipv6Only(families, [
      'sysctl -q -w net.ipv6.conf.all.forwarding=1',
      `ip addr replace ${addresses6.controlPlane}/${addresses6.prefixLength} dev ${bridge} nodad`,
    ])}`,
  );
  await inNamespace(
    layout.clientNetns,
    `
    ip link set lo up
    ip link show eth0 >/dev/null 2>&1 || ip link add eth0 type veth peer name client netns ${layout.netns}
    ip addr replace ${client}/${prefixLength} dev eth0
    ip link set eth0 up
    ${ipv6Only(families, [`ip addr replace ${addresses6.client}/${addresses6.prefixLength} dev eth0 nodad`])}`,
  );
  await inNamespace(layout.netns, `ip link set client master ${bridge} up`);
}

/** Lines of a script for clusters that have IPv6. */
function ipv6Only(families: IpFamilies, lines: readonly string[]): string {
  return hasIpv6(families) ? lines.join('\n') : '';
}

/** The tap of a node's machine, and the way to its pods. */
export async function ensureNodeNetwork(
  layout: Layout,
  node: NodeIdentity,
  families: IpFamilies,
): Promise<void> {
  await inNamespace(
    layout.netns,
    `
    ip link show ${node.name} >/dev/null 2>&1 || ip tuntap add ${node.name} mode tap
    ip link set ${node.name} master ${bridge} up
    ip route replace ${node.podRange} via ${node.address}
    ${ipv6Only(families, [`ip -6 route replace ${node.podRange6} via ${node.address6}`])}`,
  );
}

export async function removeNodeNetwork(
  layout: Layout,
  node: NodeIdentity,
  families: IpFamilies,
): Promise<void> {
  await inNamespace(
    layout.netns,
    `
    ! ip link show ${node.name} >/dev/null 2>&1 || ip link del ${node.name}
    ip route flush ${node.podRange}
    ${ipv6Only(families, [`ip -6 route flush ${node.podRange6}`])}`,
  );
}

/** Removes both namespaces with all that is in them; no process may be left there. */
export async function removeNetwork(layout: Layout): Promise<void> {
  for (const name of [layout.clientNetns, layout.netns]) {
    if (namespaceExists(name)) await run('ip', ['netns', 'delete', name]);
  }
}

/** Ids of all processes in the cluster's namespaces. */
export async function processesInside(layout: Layout): Promise<number[]> {
  const found: number[] = [];
  for (const name of [layout.netns, layout.clientNetns]) {
    if (!namespaceExists(name)) continue;
    const text = await run('ip', ['netns', 'pids', name]);
    found.push(...text.split('\n').filter(Boolean).map(Number));
  }
  return found;
}

export function namespaceExists(name: string): boolean {
  return existsSync(`/run/netns/${name}`);
}

/** Words that run a command in a namespace. */
export function insideOf(netns: string, command: readonly string[]): [string, ...string[]] {
  return ['ip', 'netns', 'exec', netns, ...command];
}

async function ensureNamespace(name: string): Promise<void> {
  // an `ip netns add` that was interrupted leaves a file that is no namespace
  if (namespaceExists(name) && (await isNamespace(name))) return;
  if (namespaceExists(name)) await run('ip', ['netns', 'delete', name]);
  await run('ip', ['netns', 'add', name]);
}

function isNamespace(name: string): Promise<boolean> {
  return run('ip', ['netns', 'exec', name, 'true']).then(
    () => true,
    () => false,
  );
}

async function inNamespace(netns: string, script: string): Promise<void> {
  await run('ip', ['netns', 'exec', netns, 'sh', '-e', '-c', script]);
}
