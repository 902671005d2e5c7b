// SPDX-License-Identifier: Apache-2.0
/** Wiring: adapters, environment, signals. The only file that constructs adapters. */

import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { firstProcessRoot, HostBootFiles } from '../adapters/boot-files.ts';
import { KernelConnections } from '../adapters/connections.ts';
import { BpfDatapath } from '../adapters/datapath.ts';
import { FileHost } from '../adapters/host.ts';
import { NetlinkIpvs } from '../adapters/ipvs.ts';
import { NetlinkIpvsTraffic } from '../adapters/ipvs-traffic.ts';
import { ProcKernelModules } from '../adapters/kmod.ts';
import { ProcKubeProxy } from '../adapters/kube-proxy.ts';
import { NetlinkLinks } from '../adapters/links.ts';
import { VethOutageProbe } from '../adapters/outage-probe.ts';
import { VethSelfCheck } from '../adapters/self-check.ts';
import { VethServiceProbe } from '../adapters/service-probe.ts';
import { StateFiles } from '../adapters/state-files.ts';
import type { Cluster } from '../cluster-ports.ts';
import type { Clock, NodeMemories } from '../ports.ts';
import type { IpvsTraffic } from '../traffic-ports.ts';
import { killPoint } from './kill-point.ts';
import type { Log } from './log.ts';
import type { Node } from './reconcile.ts';

export interface NodeOptions {
  /** Default /var/lib/ipvs-bpf */
  readonly stateDirectory: string;
  /** Where `npm run build` put bpf/ipvs_tc.bpf.o and RELEASE/ip_vs.ko. */
  readonly buildDirectory: string;
  /** Where RELEASE/ip_vs.ko is, if not in the build directory. */
  readonly moduleDirectory?: string;
  readonly log: Log;
}

const clock: Clock = {
  now: () => Number(process.hrtime.bigint() / 1000n) / 1000,
  date: () => `${new Date().toISOString().slice(0, 19)}Z`,
  sleep: async (milliseconds) => {
    await sleep(milliseconds);
  },
};

/** The machine that this process runs on. */
export function createNode(
  options: NodeOptions,
): Node & { readonly memories: NodeMemories; readonly traffic: IpvsTraffic } {
  const { stateDirectory, buildDirectory, moduleDirectory = buildDirectory, log } = options;
  const links = new NetlinkLinks();
  const ipvs = new NetlinkIpvs();
  // Also where agents of a chart have modules by default: `node down` is run on their nodes, too, from the image.
  const helpers = (release: string) =>
    [moduleDirectory, join(stateDirectory, 'modules')].map((directory) =>
      join(directory, release, 'ipvs_bpf_family_id.ko'),
    );
  // Of every command: whoever runs one in the agent's container finds the node there, too.
  const { IPVS_BPF_SYSCTL_DIR: sysctls = '/proc/sys', IPVS_BPF_HOST_ROOT: hostRoot } = process.env;
  const datapath = new BpfDatapath({
    objectPath: join(buildDirectory, 'bpf', 'ipvs_tc.bpf.o'),
    controls: join(sysctls, 'net/ipv4/vs'),
    onRefusal: (reason) =>
      log.warn('kfuncs refused, tc programs that do not call the module run', { reason }),
  });
  const records = new StateFiles(stateDirectory);
  return {
    log,
    memories: records.memories,
    traffic: new NetlinkIpvsTraffic(),
    killPoint: killPoint(process.env.IPVS_BPF_KILL_AT, () => process.kill(process.pid, 'SIGKILL')),
    defaultModuleFile: (kernelRelease) => join(moduleDirectory, kernelRelease, 'ip_vs.ko'),
    ports: {
      modules: new ProcKernelModules({
        familyIdHelpers: helpers,
        deliveredDirectory: join(stateDirectory, 'delivered'),
      }),
      ipvs,
      connections: new KernelConnections(),
      host: new FileHost({ sysctls, hostRoot }),
      links,
      datapath,
      records,
      selfCheck: new VethSelfCheck({ links, ipvs, datapath }),
      serviceProbe: new VethServiceProbe({ links, datapath, clock }),
      outageProbe: new VethOutageProbe({ links, ipvs, clock }),
      kubeProxy: new ProcKubeProxy(),
      boot: new HostBootFiles({ root: firstProcessRoot(), directory: join(resolve(stateDirectory), 'boot') }),
      clock,
    },
  };
}

/** Sleeps; wake() ends the sleep as SIGHUP does. */
export interface Pause {
  (milliseconds: number): Promise<'elapsed' | 'reload' | 'stop'>;
  wake(): void;
}

/** Resolves after the time, or at once when a signal came in, also one that came between two pauses. */
export function signalPause(): Pause {
  let pending: 'reload' | 'stop' | undefined;
  let wake = (): void => {};
  const on = (signal: NodeJS.Signals, meaning: 'reload' | 'stop'): void => {
    process.on(signal, () => {
      // Once it was told to stop, a reload no longer matters.
      if (pending !== 'stop') pending = meaning;
      wake();
    });
  };
  on('SIGHUP', 'reload');
  on('SIGTERM', 'stop');
  on('SIGINT', 'stop');
  const pause = async (milliseconds: number): Promise<'elapsed' | 'reload' | 'stop'> => {
    if (pending === undefined) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const woken = pending ?? 'elapsed';
    pending = undefined;
    return woken;
  };
  return Object.assign(pause, {
    wake: () => {
      pending ??= 'reload';
      wake();
    },
  });
}

/** The API server, and what ends the connections to it. Loaded only where it is asked for. */
export async function createCluster(options: {
  readonly instance: string;
  readonly component: string;
  /** "https://10.0.0.1:6443", if not the one of the environment. */
  readonly host?: string | undefined;
}): Promise<{ readonly cluster: Cluster; readonly close: () => Promise<void> }> {
  const { KubernetesCluster } = await import('../adapters/kubernetes.ts');
  const { loadKubeConfig } = await import('../adapters/kubernetes-client.ts');
  const config = loadKubeConfig({ host: options.host });
  const { component, instance } = options;
  return { cluster: new KubernetesCluster({ config, component, instance }), close: () => config.close() };
}
