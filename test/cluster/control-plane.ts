// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../scripts/exec.ts';
import { ApiClient } from './api-client.ts';
import { channelBinary } from './channel.ts';
import {
  apiServerArgs,
  type ControlPlaneFiles,
  controllerManagerArgs,
  corefile,
  etcdArgs,
  schedulerArgs,
} from './control-plane-args.ts';
import { serverPackages } from './debian.ts';
import { coreDnsBinary, kubernetesBinary } from './go.ts';
import { addresses, type Layout, maxNodes, nodeIdentities, statePaths } from './layout.ts';
import { dnsManifests } from './manifests.ts';
import { insideOf } from './network.ts';
import { ensurePki } from './pki.ts';
import { type Daemon, ensureRunning, logTail, type Place, runningPid } from './processes.ts';
import type { Settings } from './settings.ts';
import { componentUsers, internalServer, kubeconfig, kubeletUser, tokenFile, type User } from './users.ts';
import { waitFor } from './wait.ts';

/** Starts what of the control plane does not run, and waits until it serves. */
export async function ensureControlPlane(layout: Layout, settings: Settings): Promise<ApiClient> {
  const paths = statePaths(layout.stateDir);
  await ensurePki(paths.pki);
  const files: ControlPlaneFiles = {
    pki: paths.pki,
    tokens: join(layout.stateDir, 'tokens.csv'),
    etcd: paths.etcd,
    kubeconfigOf: paths.kubeconfigOf,
  };
  await ensureCredentials(layout, settings, files);
  const api = await ApiClient.of(paths.kubeconfig);
  await startAndWait(
    layout,
    await firstDaemons(layout, settings, files),
    () => api.isReady(),
    'the API server',
  );
  const rest = await laterDaemons(layout, settings, files);
  await startAndWait(
    layout,
    rest,
    () => api.exists('/api/v1/namespaces/default/serviceaccounts/default'),
    'the controllers',
  );
  return api;
}

/** The DNS server of the cluster, which needs the API server. */
export async function ensureDns(layout: Layout, settings: Settings): Promise<void> {
  const paths = statePaths(layout.stateDir);
  const file = join(layout.stateDir, 'Corefile');
  await writeFile(file, corefile({ kubeconfigOf: paths.kubeconfigOf }, settings.ipFamilies));
  const kubectl = await kubernetesBinary('kubectl', settings.kubernetes);
  const input = dnsManifests(settings.ipFamilies);
  await run(kubectl, ['--kubeconfig', paths.kubeconfig, 'apply', '-f', '-'], { input });
  const command = insideOf(layout.netns, [await coreDnsBinary(), '-conf', file]);
  await ensureRunning({ name: 'coredns', command }, place(layout));
}

export function place(layout: Layout): Place {
  const { run, log } = statePaths(layout.stateDir);
  return { run, log };
}

/** Every program of the control plane that has to be built, the longest first. */
export async function buildControlPlane(kubernetes: string): Promise<void> {
  await serverPackages();
  await channelBinary();
  for (const name of ['kube-apiserver', 'kubectl', 'kube-controller-manager', 'kube-scheduler'] as const) {
    await kubernetesBinary(name, kubernetes);
  }
}

async function firstDaemons(layout: Layout, settings: Settings, files: ControlPlaneFiles): Promise<Daemon[]> {
  const etcd = join(await serverPackages(), 'usr/bin/etcd');
  const apiServer = await kubernetesBinary('kube-apiserver', settings.kubernetes);
  const inside = (name: string, command: readonly string[]): Daemon => ({
    name,
    command: insideOf(layout.netns, command),
  });
  const target = [addresses.controlPlane, String(addresses.apiPort)];
  const netnsFile = `/run/netns/${layout.netns}`;
  return [
    inside('etcd', [etcd, ...etcdArgs(files)]),
    inside('kube-apiserver', [apiServer, ...apiServerArgs(files, settings.ipFamilies)]),
    {
      name: 'api-forward',
      command: [await channelBinary(), 'forward', netnsFile, String(settings.apiPort), ...target],
    },
  ];
}

async function laterDaemons(layout: Layout, settings: Settings, files: ControlPlaneFiles): Promise<Daemon[]> {
  const manager = await kubernetesBinary('kube-controller-manager', settings.kubernetes);
  const scheduler = await kubernetesBinary('kube-scheduler', settings.kubernetes);
  return [
    {
      name: 'kube-controller-manager',
      command: insideOf(layout.netns, [manager, ...controllerManagerArgs(files)]),
    },
    { name: 'kube-scheduler', command: insideOf(layout.netns, [scheduler, ...schedulerArgs(files)]) },
  ];
}

async function startAndWait(
  layout: Layout,
  daemons: readonly Daemon[],
  ready: () => Promise<boolean>,
  what: string,
): Promise<void> {
  for (const daemon of daemons) await ensureRunning(daemon, place(layout));
  await waitFor(what, 60_000, async () => {
    for (const { name } of daemons) {
      if ((await runningPid(name, place(layout))) === undefined) {
        throw new Error(`${name} ended:\n${await logTail(name, place(layout))}`);
      }
    }
    return ready();
  });
}

/** Tokens, and a kubeconfig for everybody who has one. They are made once in a cluster's life. */
async function ensureCredentials(
  layout: Layout,
  settings: Settings,
  files: ControlPlaneFiles,
): Promise<void> {
  const paths = statePaths(layout.stateDir);
  const kubelets = nodeIdentities(maxNodes).map(({ name }) => kubeletUser(name));
  const users = [...componentUsers, ...kubelets];
  if (existsSync(files.tokens)) return;
  const tokens = new Map(users.map((user) => [user, randomBytes(16).toString('hex')]));
  const tokenOf = (user: User) => tokens.get(user) ?? '';
  const caPem = await readFile(join(files.pki, 'ca.crt'), 'utf8');
  await mkdir(layout.stateDir, { recursive: true });
  for (const user of users) {
    const text = kubeconfig({ server: internalServer, caPem, token: tokenOf(user) });
    await writeFile(files.kubeconfigOf(user.id), text, { mode: 0o600 });
  }
  const [administrator] = componentUsers;
  if (administrator === undefined) throw new Error('there is no administrator');
  const server = `https://127.0.0.1:${settings.apiPort}`;
  const own = kubeconfig({ server, caPem, token: tokenOf(administrator) });
  await writeFile(paths.kubeconfig, own, { mode: 0o600 });
  await writeFile(`${files.tokens}.new`, tokenFile(users, tokenOf), { mode: 0o600 });
  // last: where this file is, the others are
  await rename(`${files.tokens}.new`, files.tokens);
}
