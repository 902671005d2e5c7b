// SPDX-License-Identifier: Apache-2.0
import { copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildModule } from '../../kernel-module/build.ts';
import { hashOf, repository } from '../../scripts/cache.ts';
import { run } from '../../scripts/exec.ts';
import { type KernelSeries, kernelElf, kernelFor } from '../../scripts/kernels.ts';
import { settingsFile } from '../vm/command.ts';
import { counterArgs } from '../vm/counter.ts';
import { initramfsFor } from '../vm/initramfs.ts';
import { kernelArgs, processor, share } from '../vm/qemu.ts';
import type { ApiClient } from './api-client.ts';
import { channelBinary } from './channel.ts';
import { place } from './control-plane.ts';
import { serverPackages } from './debian.ts';
import { kubernetesBinary } from './go.ts';
import { imageStore } from './image-store.ts';
import { testImages } from './images.ts';
import { hasIpv6, ofFamilies } from './ip-families.ts';
import {
  addresses,
  addresses6,
  type Layout,
  maxNodes,
  type NodeIdentity,
  nodeIdentities,
  statePaths,
} from './layout.ts';
import { nodeManifests } from './manifests.ts';
import { ensureNodeNetwork, insideOf, removeNodeNetwork } from './network.ts';
import { cniConfig, containerdConfig, kubeletConfig, podRoutes } from './node-files.ts';
import { ensureRunning, runningPid, stop } from './processes.ts';
import type { Settings } from './settings.ts';
import { waitFor } from './wait.ts';

/** Builds and downloads all that a node runs. */
export async function buildNodes(settings: Settings): Promise<void> {
  for (const name of ['kubelet', 'kube-proxy'] as const) await kubernetesBinary(name, settings.kubernetes);
  await imageStore([...(await testImages(settings.kubernetes)), ...settings.images]);
  for (const series of new Set(nodeIdentities(settings.nodes).map((node) => kernelOf(settings, node)))) {
    const kernel = await kernelFor(series);
    await kernelElf(kernel);
    await initramfsFor(kernel);
    // Nodes see build/ as the directory that has the modules of their kernels.
    await buildModule(kernel);
  }
}

function kernelOf({ kernel, nodeKernels }: Settings, { name }: NodeIdentity): KernelSeries {
  return nodeKernels[name] ?? kernel;
}

/** Starts machines that do not run, ends those that are too many; does not wait for them. */
export async function ensureNodes(layout: Layout, settings: Settings): Promise<void> {
  const all = nodeIdentities(maxNodes);
  for (const node of all.slice(settings.nodes)) await removeNode(layout, settings, node);
  const wanted = all.slice(0, settings.nodes);
  if (wanted.length === 0) return;
  await kubectl(layout, settings, ['apply', '-f', '-'], nodeManifests(wanted, settings.ipFamilies));
  for (const node of wanted) {
    if ((await runningPid(machine(node), place(layout))) !== undefined) continue;
    await ensureNodeNetwork(layout, node, settings.ipFamilies);
    await writeNodeFolder(layout, settings, node);
    const command = insideOf(layout.netns, await qemuCommand(layout, settings, node));
    await ensureRunning({ name: machine(node), command }, place(layout));
  }
}

interface NodeList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  }[];
}

/** Names of the nodes whose kubelets say that they are ready. */
export async function readyNodes(api: ApiClient): Promise<string[]> {
  const { items } = (await api.read('/api/v1/nodes')) as NodeList;
  return items
    .filter(({ status }) =>
      status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    )
    .map(({ metadata }) => metadata.name);
}

export async function waitForNodes(layout: Layout, settings: Settings, api: ApiClient): Promise<void> {
  const wanted = nodeIdentities(settings.nodes);
  await waitFor('the nodes', 300_000, async () => {
    for (const node of wanted) {
      if ((await runningPid(machine(node), place(layout))) === undefined) {
        throw new Error(`the machine ${node.name} ended; see ${statePaths(layout.stateDir).node(node.name)}`);
      }
    }
    const ready = await readyNodes(api);
    return wanted.every(({ name }) => ready.includes(name));
  });
}

/** In the folder that a machine has as /run/vm: what its kube-proxy reads its mode from when it starts. */
export const PROXY_MODE_FILE = 'proxy-mode';

/** Socket of QEMU's monitor, in a node's folder. */
export const MONITOR = 'monitor';

/** Name of the daemon that is a node's machine. */
export function machine(node: NodeIdentity): string {
  return `node-${node.name}`;
}

async function removeNode(layout: Layout, settings: Settings, node: NodeIdentity): Promise<void> {
  const folder = statePaths(layout.stateDir).node(node.name);
  const known = await readdir(folder).catch(() => undefined);
  if (known === undefined) return;
  await stop(machine(node), place(layout), 0);
  await removeNodeNetwork(layout, node, settings.ipFamilies);
  await kubectl(layout, settings, ['delete', 'node', node.name, '--ignore-not-found']);
  await rm(folder, { recursive: true, force: true });
}

async function kubectl(
  layout: Layout,
  settings: Settings,
  args: readonly string[],
  input = '',
): Promise<string> {
  const program = await kubernetesBinary('kubectl', settings.kubernetes);
  return run(program, ['--kubeconfig', statePaths(layout.stateDir).kubeconfig, ...args], { input });
}

/** The folder that the machine has as /run/vm. What a former machine of this name kept in it stays. */
async function writeNodeFolder(layout: Layout, settings: Settings, node: NodeIdentity): Promise<void> {
  const paths = statePaths(layout.stateDir);
  const folder = join(paths.node(node.name), 'guest');
  for (const name of ['log', 'kept']) await mkdir(join(folder, name), { recursive: true });
  await copyFile(join(import.meta.dirname, 'node-init.sh'), join(folder, 'guest-init.sh'));
  await copyFile(join(paths.pki, 'ca.crt'), join(folder, 'ca.crt'));
  await copyFile(paths.kubeconfigOf(`kubelet-${node.name}`), join(folder, 'kubelet.kubeconfig'));
  await copyFile(paths.kubeconfigOf('kube-proxy'), join(folder, 'kube-proxy.kubeconfig'));
  const servers = await serverPackages();
  await writeFile(join(folder, 'containerd.toml'), containerdConfig(servers));
  await writeFile(join(folder, 'cni.conflist'), cniConfig(node, settings.ipFamilies));
  await writeFile(join(folder, 'kubelet.json'), kubeletConfig(settings.ipFamilies));
  await writeFile(join(folder, PROXY_MODE_FILE), 'ipvs');
  await writeFile(join(folder, 'resolv.conf'), `nameserver ${addresses.controlPlane}\n`);
  await writeFile(join(folder, 'settings.sh'), settingsFile(await nodeSettings(settings, node, servers)));
}

async function nodeSettings(
  settings: Settings,
  node: NodeIdentity,
  servers: string,
): Promise<Record<string, string>> {
  const kernel = await kernelFor(kernelOf(settings, node));
  return {
    NODE_NAME: node.name,
    ADDRESS: node.address,
    PREFIX_LENGTH: String(addresses.prefixLength),
    CONTROL_PLANE: addresses.controlPlane,
    PODS: ofFamilies(settings.ipFamilies, addresses.pods, addresses6.pods).join(','),
    POD_ROUTES: podRoutes(node, nodeIdentities(maxNodes), settings.ipFamilies),
    NODE_IPS: ofFamilies(settings.ipFamilies, node.address, node.address6).join(','),
    ...(hasIpv6(settings.ipFamilies) ? ipv6Settings(node) : {}),
    MACHINE_ID: hashOf(node.name).slice(0, 32),
    COMMAND_PORT: String(addresses.commandPort),
    RELEASE: kernel.release,
    MODULES: join(kernel.imageDir, 'lib/modules', kernel.release),
    BUILD: join(repository, 'build'),
    SERVERS: servers,
    IMAGE_STORE: await imageStore([...(await testImages(settings.kubernetes)), ...settings.images]),
    CHANNEL: await channelBinary(),
    KUBELET: await kubernetesBinary('kubelet', settings.kubernetes),
    KUBE_PROXY: await kubernetesBinary('kube-proxy', settings.kubernetes),
  };
}

function ipv6Settings({ address6 }: NodeIdentity): Record<string, string> {
  return {
    ADDRESS6: address6,
    PREFIX_LENGTH6: String(addresses6.prefixLength),
    CONTROL_PLANE6: addresses6.controlPlane,
  };
}

async function qemuCommand(layout: Layout, settings: Settings, node: NodeIdentity): Promise<string[]> {
  const folder = statePaths(layout.stateDir).node(node.name);
  const build = join(repository, 'build');
  await mkdir(build, { recursive: true });
  const kernel = await kernelFor(kernelOf(settings, node));
  // kube-proxy does all of its work once more for IPv6 where the kernel has it.
  const ipv6 = hasIpv6(settings.ipFamilies) ? [] : ['ipv6.disable=1'];
  const hangs = ['sysctl.kernel.hung_task_timeout_secs=120', 'unknown_nmi_panic'];
  const append = [...kernelArgs, await counterArgs(), ...hangs, ...ipv6].join(' ');
  return [
    'qemu-system-x86_64',
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-machine', 'pc'],
    ...processor({ icount: false }),
    // With more processors at once one boot in a hundred ends, or hangs, while the kernel patches itself: test/vm/machine.ts.
    ...['-smp', '1', '-m', String(settings.memoryMb), '-accel', 'tcg,thread=single'],
    ...['-kernel', await kernelElf(kernel), '-initrd', await initramfsFor(kernel), '-append', append],
    ...['-serial', `file:${join(folder, 'console.log')}`],
    ...['-monitor', `unix:${join(folder, MONITOR)},server=on,wait=off`],
    ...['-netdev', `tap,id=net,ifname=${node.name},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,mac=${node.mac}`],
    ...share('root', '/', 'readonly=on'),
    ...share('job', join(folder, 'guest'), 'readonly=off'),
    ...share('build', build, 'readonly=on'),
  ];
}
