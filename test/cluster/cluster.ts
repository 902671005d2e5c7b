// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { hashOf, repository } from '../../scripts/cache.ts';
import { say } from '../../scripts/exec.ts';
import { buildControlPlane, ensureControlPlane, ensureDns, place } from './control-plane.ts';
import { installClusterPackages } from './debian.ts';
import { freePort } from './free-port.ts';
import { coreDnsBinary } from './go.ts';
import { type Layout, layoutOf, statePaths } from './layout.ts';
import { withLock } from './lock.ts';
import { ensureNetwork, processesInside, removeNetwork } from './network.ts';
import { buildNodes, ensureNodes, waitForNodes } from './nodes.ts';
import { endProcesses, knownDaemons, stop } from './processes.ts';
import { mergeSettings, readSettings, type Settings, type Wish, writeSettings } from './settings.ts';
import { defaultKubernetes, kubernetesVersion } from './versions.ts';

/** The cluster of this checkout; IPVS_BPF_CLUSTER names a further one beside it. */
export function ownLayout(): Layout {
  return layoutOf(hashOf(repository), process.env.IPVS_BPF_CLUSTER);
}

/** Builds and starts what is missing; changes nothing of what runs, but for the number of nodes. */
export async function up(layout: Layout, wish: Wish): Promise<Settings> {
  await installClusterPackages();
  return withLock(lockFile(layout), async () => {
    const paths = statePaths(layout.stateDir);
    const present = await readSettings(paths.settings);
    const settings = mergeSettings(wish, present, {
      kubernetes: kubernetesVersion(defaultKubernetes),
      apiPort: present?.apiPort ?? (await freePort()),
    });
    await buildControlPlane(settings.kubernetes);
    if (settings.nodes > 0) {
      await coreDnsBinary();
      await buildNodes(settings);
    }
    await writeSettings(paths.settings, settings);
    await ensureNetwork(layout, settings.ipFamilies);
    say('starting the control plane');
    const api = await ensureControlPlane(layout, settings);
    if (settings.nodes > 0) say(`starting ${settings.nodes} nodes`);
    await ensureNodes(layout, settings);
    if (settings.nodes > 0) await ensureDns(layout, settings);
    await waitForNodes(layout, settings, api);
    return settings;
  });
}

/** Ends and removes everything of the cluster but what is cached. */
export async function down(layout: Layout): Promise<void> {
  await withLock(lockFile(layout), async () => {
    for (const name of await knownDaemons(place(layout))) {
      // Nothing of theirs is kept: there is no point in letting them end in order.
      await stop(name, place(layout), 0);
    }
    // what was started a moment before its pid file would have been written, and commands of `client`
    await endProcesses(await processesInside(layout), 500);
    await removeNetwork(layout);
    await rm(layout.stateDir, { recursive: true, force: true });
  });
  await removeIfEmpty(dirname(layout.stateDir));
}

/** @throws Error when no cluster was started */
export async function runningSettings(layout: Layout): Promise<Settings> {
  const settings = await readSettings(statePaths(layout.stateDir).settings);
  if (settings === undefined) throw new Error('there is no cluster: start one with "npm run cluster -- up"');
  return settings;
}

function lockFile(layout: Layout): string {
  return `${layout.stateDir}.lock`;
}

async function removeIfEmpty(directory: string): Promise<void> {
  if (existsSync(directory) && (await readdir(directory)).length === 0) await rmdir(directory);
}
