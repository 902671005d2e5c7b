// SPDX-License-Identifier: Apache-2.0
/** A node with kube-proxy and two virtual servers, its object in the API server, and agents that look after it. */
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { virtualServer } from '../builders.ts';
import { agentOf, type Disk, NOW, OneNode, VIP } from './one-node.ts';

export const MODE = 'net/ipv4/vs/bpf_mode';
export const SYSCTL = 'net/ipv4/vs/expire_nodest_conn';

export let node: FakeNode;
export let api: OneNode;
export let disk: Disk;

/** For each test a node that nothing has been done to. */
export function freshScene(): void {
  node = fakeNode();
  api = new OneNode();
  disk = { memory: {} };
  node.machine.ipvs.seed(virtualServer(VIP), virtualServer('192.0.2.1', { port: 30080 }));
  node.machine.kubeProxy.start(4711);
}

export async function look(agent: KubernetesAgent, times = 1): Promise<void> {
  for (let i = 0; i < times; i += 1) await agent.look();
}

export async function started(now = NOW): Promise<KubernetesAgent> {
  const agent = agentOf(node, api, disk, now);
  await agent.start();
  return agent;
}

/** srcversion of the ip_vs that is loaded. */
export const origin = () => node.machine.modules.loadedFile('ip_vs')?.srcversion;
export const modeOf = () => node.machine.host.sysctls.get(MODE);
