// SPDX-License-Identifier: Apache-2.0
/** The agent with many Services on the in-memory kernel of the unit tests, with real state files. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { repository } from '../scripts/cache.ts';
import { StateFiles } from '../src/adapters/state-files.ts';
import { type FakeNode, fakeNode } from '../test/fakes/fake-node.ts';
import { realServer, virtualServer } from '../test/unit/builders.ts';
import { AgentRun, type Figures, PODS, virtualAddress } from './agent-run.ts';

/** A node of kube-proxy's ipvs mode, with as many pods as it takes. */
function nodeWith(services: number): FakeNode {
  const node = fakeNode();
  const { ipvs, links, kubeProxy } = node.machine;
  for (let i = 0; i < PODS; i += 1) {
    links.add({ name: `veth${i}`, type: 'veth' });
    links.addRoute(`10.244.1.${i + 1}/32`, `veth${i}`);
  }
  links.addRoute('0.0.0.0/0', 'eth0', true);
  const dummy = links.add({ name: 'kube-ipvs0', type: 'dummy', up: false });
  for (let i = 0; i < services; i += 1) {
    links.addAddress(dummy, `${virtualAddress(i)}/32`);
    const realServers = [realServer(`10.244.1.${(i % 250) + 1}`), realServer(`10.244.2.${(i % 250) + 1}`)];
    ipvs.seed(virtualServer(virtualAddress(i), { realServers }));
  }
  kubeProxy.start(4711);
  return node;
}

/** Runs the agent `repeats` times each way. */
export async function measureNative(services: number, repeats: number): Promise<Figures> {
  const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-bench-'));
  try {
    const node = nodeWith(services);
    const files = new StateFiles(directory);
    const ports = { ...node.ports, records: files };
    return await new AgentRun({ ...node, ports, memories: files.memories }, services).measure(
      repeats,
      join(repository, 'dist/agent.mjs'),
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
