// SPDX-License-Identifier: Apache-2.0
/** What the end-to-end tests ask the cluster that they share. */
import { expect, inject } from 'vitest';
import { endText } from '../../src/core/addresses.ts';
import { CAPABILITIES } from '../../src/core/capabilities.ts';
import { ofFamilies } from '../cluster/ip-families.ts';
import { nodeNamed } from '../cluster/layout.ts';
import { moduleRepository } from '../cluster/own-image.ts';
import { ClusterSession } from '../cluster/session.ts';
import { HTTP_PORT, NAMESPACE, NODE_PORT } from '../cluster/shop.ts';
import {
  applyPolicy as applyShopPolicy,
  type Condition,
  conditionOf,
  nodeListing,
  nodeResource,
  type Reported,
  requestsFromAPod,
  requestsFromOutside,
  syncKubeProxy,
  thePolicy,
} from '../cluster/shop-session.ts';
import { CLUSTER, IP_FAMILIES, NODES } from './settings.ts';

export const session = ClusterSession.attach(CLUSTER);
export const RELEASE_NAMESPACE = 'ipvs-bpf-system';
/** What an emulated machine may take for what a real one does within seconds. */
export const PATIENCE_MS = 480_000;

/** Where the modules of all kernels come from; `suffix` names another build of them. */
export function fromImages(suffix = '') {
  const image = `${moduleRepository}:$` + `{KERNEL_FULL_VERSION}${suffix}`;
  return { kernelMappings: [{ regexp: '.*', image }] };
}

/** Asks for these Services of the shop, by default with the modules from images. */
export function applyPolicy(include: readonly string[], spec: object = {}): Promise<void> {
  return applyShopPolicy(session, include, { module: fromImages(), ...spec });
}

/** Requests from outside through each node, and what of them nf_conntrack knows. */
export async function outside(
  count = 20,
  port = NODE_PORT,
): Promise<{ readonly answered: number; readonly tracked: number }> {
  const all = [];
  for (const node of NODES) all.push(await requestsFromOutside(session, { count, node, nodes: NODES, port }));
  return {
    answered: all.reduce((sum, { answered }) => sum + answered, 0),
    tracked: all.reduce((sum, { tracked }) => sum + tracked, 0),
  };
}

export function fromAPod(service: 'web' | 'other', count = 5) {
  return requestsFromAPod(session, { count, service, nodes: NODES });
}

/** "True Accelerating" of the policy, or of a node; undefined while there is none for the newest generation. */
export async function condition(type: string, node?: string): Promise<string | undefined> {
  return conditionOf(await (node === undefined ? thePolicy(session) : nodeResource(session, node)), type);
}

export async function untilCondition(type: string, wanted: string, node?: string): Promise<void> {
  await session.until(`${node ?? 'policy'}: ${type}=${wanted}`, PATIENCE_MS, async () =>
    (await condition(type, node)) === wanted ? true : undefined,
  );
}

/** Waits until every replica of operator and agent is the newest, and ready. */
export async function untilAllRun(): Promise<void> {
  for (const what of ['daemonset/ipvs-bpf-agent', 'deployment/ipvs-bpf-operator']) {
    await session.until(what, 2 * PATIENCE_MS, async () => {
      const words = ['rollout', 'status', what, '-n', RELEASE_NAMESPACE, '--watch=false'];
      const out = await session.kubectl(words).catch(() => '');
      return /successfully rolled out/.test(out) ? true : undefined;
    });
  }
}

export async function messageOf(type: string, node?: string): Promise<string> {
  const object = await (node === undefined ? thePolicy(session) : nodeResource(session, node));
  return object?.status?.conditions?.find((each: Condition) => each.type === type)?.message ?? '';
}

/** Of each node, what a policy may change of it, in lines. */
async function listings(): Promise<readonly (readonly string[])[]> {
  const found = await Promise.all(NODES.map((node) => nodeListing(session, node)));
  return found.map(comparable);
}

/** The same, before there was a policy. */
function nativeListings(): readonly (readonly string[])[] {
  const found = inject('nativeListings');
  return NODES.map((node) => comparable(found[node] ?? ''));
}

type Lines = readonly string[];

/**
 * Until the nodes are what they were before there was a policy. Not at once: kube-proxy may have seen the addresses of
 * the agent's probe, serves node ports there, and takes that back with its next sync.
 */
export async function untilNative(of: (lines: Lines) => Lines = (lines) => lines): Promise<void> {
  const wanted = nativeListings().map(of);
  const now = async () => (await listings()).map(of);
  await syncKubeProxy(session);
  await expect.poll(now, { timeout: 90_000, interval: 5_000 }).toEqual(wanted);
}

/** An application's pod as a real server, by the node that it is on. */
const POD = new RegExp(
  `\\b10\\.244\\.(\\d+)\\.\\d+:${HTTP_PORT}\\b|\\[fd10:244:0:(\\d+)::[0-9a-f]+\\]:${HTTP_PORT}\\b`,
  'g',
);

/** Without what reboots change: addresses and interfaces of pods, link-local addresses, and the order of addresses. */
function comparable(listing: string): readonly string[] {
  const words = (line: string) => line.split(/ +/).filter((word) => !word.startsWith('fe80:'));
  return listing
    .split('\n')
    .filter((line) => !/\bveth[0-9a-f]{8}\b/.test(line))
    .map((line) => words(line.replace(POD, 'pod-of-n$1$2')).sort().join(' '))
    .sort();
}

/**
 * Ids of all that carries packets on a node: another one means that something was loaded anew. Not those of the
 * interfaces of pods, which come and go.
 */
export async function identities(node: string): Promise<string> {
  return session.onNode(
    node,
    'cat /sys/module/ip_vs/srcversion; for d in eth0 cni0; do bpftool -j net show dev $d; done; bpftool -j map show | grep -o \'"id":[0-9]*,"type":"[a-z_]*","name":"ipvs_[a-z]*"\'',
  );
}

/** Undefined if there is no IpvsBpfNode of this name. */
export async function nodeStatus(node: string) {
  return (await nodeResource(session, node))?.status;
}

/** Ids of the processes of a component on a node. */
export async function processes(node: string, component: 'agent' | 'operator'): Promise<readonly string[]> {
  const out = await session.onNode(node, `pgrep -f 'ipvs-bpf.mjs ${component}$' || true`);
  return out.split('\n').filter(Boolean);
}

/** Bits of linux/capability.h. */
const SYSLOG = 34;

/** What a process may do: the names of its capabilities, others as numbers, and how its root directory is mounted. */
export async function privileges(node: string, pid: string) {
  const script = `sed -n 's/^CapEff:\\t//p' /proc/${pid}/status; grep -m 1 ' / / ' /proc/${pid}/mountinfo || true`;
  const [mask = '', mount = ''] = (await session.onNode(node, script)).split('\n');
  const known = Object.entries({ ...CAPABILITIES, SYSLOG });
  const names = new Map(known.map(([name, bit]) => [bit, name]));
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter(
    (bit) => (BigInt(`0x${mask}`) >> BigInt(bit)) & 1n,
  );
  const effective = bits.map((bit) => names.get(bit) ?? String(bit)).sort();
  return { effective, rootOptions: mount.split(' ')[5]?.split(',') ?? [] };
}

/** Memory of a process (RSS), in MiB. */
export async function residentMiB(node: string, pid: string): Promise<number> {
  const kilobytes = await session.onNode(
    node,
    `sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/${pid}/status`,
  );
  return Number(kilobytes) / 1024;
}

/** kill -9, if it is still there. */
export async function kill(node: string, pid: string): Promise<void> {
  await session.onNode(node, `kill -9 ${pid} || true`);
}

/** Name of the ready pod of the application on a node. */
export async function webPodOn(node: string): Promise<{ readonly name: string; readonly address: string }> {
  const pods = await session.list<Reported & { readonly spec: { readonly nodeName: string } }>(
    'pods',
    ...['-n', NAMESPACE, '-l', 'app=web'],
  );
  const pod = pods.find(({ spec }) => spec.nodeName === node);
  return { name: pod?.metadata.name ?? '', address: String(pod?.status?.podIP ?? '') };
}

/**
 * Runs a script on a node on which `systemctl stop kubelet` does what it says: the first process of these machines,
 * which starts kubelets, is not systemd.
 */
export function onNodeWithServices(node: string, script: string): Promise<string> {
  const services = `systemctl() {
    case $1 in
    stop) mkdir -p /run/stopped && touch "/run/stopped/$2" && pkill -x "$2" ;;
    start) rm -f "/run/stopped/$2" ;;
    *) echo "systemctl $*: not known here" >&2 && return 1 ;;
    esac
  }`;
  return session.onNode(node, `set -e\n${services}\n${script}`);
}

/** Where a Service of the application's namespace answers in the cluster, an end for each family. */
export async function clusterEnds(service: string, port: number): Promise<readonly string[]> {
  const found = await session.get<{ readonly spec: { readonly clusterIPs: readonly string[] } }>(
    'service',
    service,
    NAMESPACE,
  );
  return (found?.spec.clusterIPs ?? []).map((address) => endText(address, port));
}

/** A node port of a node, an end for each family. */
export function nodeEnds(node: string, port: number): readonly string[] {
  const { address, address6 } = nodeNamed(node);
  return ofFamilies(IP_FAMILIES, address, address6).map((each) => endText(each, port));
}

/** Runs a script in a pod of the application's namespace. */
export function inPod(pod: string, script: string): Promise<string> {
  return session.kubectl(['exec', '-n', NAMESPACE, pod, '--', 'sh', '-c', script]);
}

export function addressOf(node: string): string {
  return nodeNamed(node).address;
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, milliseconds));
}
