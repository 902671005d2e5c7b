// SPDX-License-Identifier: Apache-2.0
/** What the guest of the agent's benchmark needs, in build/bench: the agent in one piece, and what the kernel is given. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { bundling, lowMemory } from '../scripts/build-cli.ts';
import { repository } from '../scripts/cache.ts';
import { PODS, virtualAddress } from './agent-run.ts';

const directory = join(repository, 'build/bench');

/** For `ipvsadm -R`. */
function table(services: number): readonly string[] {
  return Array.from({ length: services }, (_, i) => {
    const end = `-t ${virtualAddress(i)}:80`;
    const realServer = (net: number) => `-a ${end} -r 10.244.${net}.${(i % 250) + 1}:8080 -m`;
    return [`-A ${end} -s rr`, realServer(1), realServer(2)];
  }).flat();
}

/** For `ip -batch`: kube-proxy's interface with all virtual addresses, and pods in the namespace "pods". */
function links(services: number): readonly string[] {
  const pods = Array.from({ length: PODS }, (_, i) => [
    `link add pod${i} type veth peer name eth${i} netns pods`,
    `link set pod${i} up`,
    `route add 10.244.1.${i + 1}/32 dev pod${i}`,
  ]);
  const address = (_: unknown, i: number) => `address add ${virtualAddress(i)}/32 dev kube-ipvs0`;
  return ['link add kube-ipvs0 type dummy', ...pods.flat(), ...Array.from({ length: services }, address)];
}

/** Makes them for so many Services. */
export async function prepareAgentGuest(counts: readonly number[]): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  await build({ ...bundling, entryPoints: [join(repository, 'bench/agent-guest.ts')], outdir: directory });
  const environment = Object.entries(lowMemory.environment).map(([name, value]) => `${name}=${value}`);
  const command = [
    'env',
    ...environment,
    'node_modules/.bin/node',
    ...lowMemory.flags,
    `--max-semi-space-size=${lowMemory.youngMiB.agent}`,
  ];
  await writeFile(join(directory, 'node'), `#!/bin/sh\nexec ${command.join(' ')} "$@"\n`, { mode: 0o755 });
  for (const count of counts) {
    await writeFile(join(directory, `table-${count}`), `${table(count).join('\n')}\n`);
    await writeFile(join(directory, `links-${count}`), `${links(count).join('\n')}\n`);
  }
}
