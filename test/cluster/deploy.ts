// SPDX-License-Identifier: Apache-2.0
/** The image of this checkout in the nodes, and the chart's release. */
import { cp, link, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from '../../scripts/cache.ts';
import { inherit, run, say } from '../../scripts/exec.ts';
import { channelBinary } from './channel.ts';
import { runningSettings } from './cluster.ts';
import { helmBinary } from './go.ts';
import { addresses, type Layout, type NodeIdentity, nodeIdentities, statePaths } from './layout.ts';
import { insideOf } from './network.ts';
import { type OwnImage, ownImage } from './own-image.ts';

export const chart = join(repository, 'charts/ipvs-bpf');
/** Of the chart. */
export const release = 'ipvs-bpf';
export const namespace = 'ipvs-bpf-system';

/** Emulated machines that share two cores can be silent for longer than the chart's defaults take for dead. */
const patience = [
  'operator.leaderElection.leaseSeconds=60',
  'operator.leaderElection.renewSeconds=45',
  'operator.leaderElection.retrySeconds=5',
].flatMap((value) => ['--set', value]);

/** Builds the image, loads it into all nodes, installs or upgrades the chart. */
export async function deploy(layout: Layout, image?: OwnImage): Promise<void> {
  const { nodes, images } = await runningSettings(layout);
  const { archive, repository: name, tag } = image ?? (await ownImage());
  const helm = await helmBinary();
  if (!images.includes(archive)) {
    await Promise.all(nodeIdentities(nodes).map((node) => loadImage(layout, node, archive)));
  }
  say(`installing the chart with ${name}:${tag}`);
  const values = ['--set', `image.repository=${name}`, '--set-string', `image.tag=${tag}`];
  // A second one would take an emulated processor's time and do nothing.
  const replicas = ['--set', 'operator.replicas=1'];
  // Nobody but this machine reaches the nodes.
  const metrics = ['--set', 'agent.metrics.enabled=true'];
  const where = ['--kubeconfig', statePaths(layout.stateDir).kubeconfig, '--namespace', namespace];
  const status = await inherit(helm, [
    'upgrade',
    release,
    chart,
    '--install',
    '--create-namespace',
    ...where,
    ...values,
    ...replicas,
    ...metrics,
    ...patience,
  ]);
  if (status !== 0) throw new Error(`helm: exit status ${status}`);
}

/** Removes the chart's release; nothing happens if there is none. */
export async function undeploy(layout: Layout): Promise<void> {
  await runningSettings(layout);
  const where = ['--kubeconfig', statePaths(layout.stateDir).kubeconfig, '--namespace', namespace];
  const args = ['uninstall', release, '--ignore-not-found', '--wait', ...where];
  const status = await inherit(await helmBinary(), args);
  if (status !== 0) throw new Error(`helm: exit status ${status}`);
}

/** Imports an image archive on a node, through the node's folder on the host. */
async function loadImage(layout: Layout, node: NodeIdentity, archive: string): Promise<void> {
  say(`loading the image into ${node.name}`);
  const folder = join(statePaths(layout.stateDir).node(node.name), 'guest/images');
  await mkdir(folder, { recursive: true });
  const name = 'deployed.tar';
  await rm(join(folder, name), { force: true });
  await link(archive, join(folder, name)).catch(() => cp(archive, join(folder, name)));
  const channel = [await channelBinary(), 'run', node.address, String(addresses.commandPort)];
  const importing = ['ctr', '-n', 'k8s.io', 'images', 'import', `/run/vm/images/${name}`];
  const [program, ...args] = insideOf(layout.netns, [...channel, ...importing]);
  await run(program, args, { timeoutMs: 600_000 });
}
