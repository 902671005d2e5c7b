// SPDX-License-Identifier: Apache-2.0
/**
 * The part of the agent's benchmark inside the virtual machine: agent-guest.ts WHAT SERVICES [REPEATS].
 * WHAT is "table" (prints lines for `ipvsadm -R`), "links" (prints lines for `ip -batch`), or "measure": the agent on
 * this kernel, Figures as one line of JSON.
 */
import { join } from 'node:path';
import { createNode } from '../src/agent/main.ts';
import { LineLogger } from '../src/runtime/logger.ts';
import { AgentRun, PODS, virtualAddress } from './agent-run.ts';

const [what = '', services = Number.NaN, repeats = 5] = process.argv
  .slice(2)
  .map((word, at) => (at === 0 ? word : Number(word))) as [string, number, number];

function table(): readonly string[] {
  return Array.from({ length: services }, (_, i) => {
    const end = `-t ${virtualAddress(i)}:80`;
    const realServer = (pod: number) => `-a ${end} -r 10.244.${pod}.${(i % 250) + 1}:8080 -m`;
    return [`-A ${end} -s rr`, realServer(1), realServer(2)];
  }).flat();
}

/** kube-proxy's interface with all virtual addresses, and pods in the namespace "pods". */
function links(): readonly string[] {
  const pods = Array.from({ length: PODS }, (_, i) => [
    `link add pod${i} type veth peer name eth${i} netns pods`,
    `link set pod${i} up`,
    `route add 10.244.1.${i + 1}/32 dev pod${i}`,
  ]);
  const address = (_: unknown, i: number) => `address add ${virtualAddress(i)}/32 dev kube-ipvs0`;
  return ['link add kube-ipvs0 type dummy', ...pods.flat(), ...Array.from({ length: services }, address)];
}

async function measure(): Promise<string> {
  const log = new LineLogger({ level: 'warn', format: 'text' });
  const buildDirectory = join(import.meta.dirname, '../build');
  const node = createNode({ stateDirectory: '/var/lib/ipvs-bpf', buildDirectory, log });
  return JSON.stringify(await new AgentRun(node, services).measure(repeats));
}

const text = what === 'measure' ? await measure() : (what === 'table' ? table() : links()).join('\n');
process.stdout.write(`${text}\n`);
