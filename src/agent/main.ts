// SPDX-License-Identifier: Apache-2.0
/** Wiring: adapters, environment, signals. The only file that constructs adapters. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BpfDatapath } from '../adapters/datapath.ts';
import { FileHost } from '../adapters/host.ts';
import { NetlinkIpvs } from '../adapters/ipvs.ts';
import { ProcKernelModules } from '../adapters/kmod.ts';
import { ProcKubeProxy } from '../adapters/kube-proxy.ts';
import { NetlinkLinks } from '../adapters/links.ts';
import { VethSelfCheck } from '../adapters/self-check.ts';
import { StateFiles } from '../adapters/state-files.ts';
import type { Clock } from '../ports.ts';
import { killPoint } from './kill-point.ts';
import type { Log } from './log.ts';
import type { Node } from './reconcile.ts';

export interface NodeOptions {
  /** Default /var/lib/ipvs-bpf */
  readonly stateDirectory: string;
  /** Where `npm run build` put bpf/ipvs_tc.bpf.o and RELEASE/ip_vs.ko. */
  readonly buildDirectory: string;
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
export function createNode({ stateDirectory, buildDirectory, log }: NodeOptions): Node {
  const links = new NetlinkLinks();
  const ipvs = new NetlinkIpvs();
  const helper = (release: string) => join(buildDirectory, release, 'ipvs_bpf_family_id.ko');
  const datapath = new BpfDatapath({ objectPath: join(buildDirectory, 'bpf', 'ipvs_tc.bpf.o') });
  return {
    log,
    killPoint: killPoint(process.env.IPVS_BPF_KILL_AT, () => process.kill(process.pid, 'SIGKILL')),
    defaultModuleFile: (kernelRelease) => join(buildDirectory, kernelRelease, 'ip_vs.ko'),
    ports: {
      modules: new ProcKernelModules({ familyIdHelper: helper }),
      ipvs,
      host: new FileHost(),
      links,
      datapath,
      records: new StateFiles(stateDirectory),
      selfCheck: new VethSelfCheck({ links, ipvs, datapath }),
      kubeProxy: new ProcKubeProxy(),
      clock,
    },
  };
}

/** Resolves after the time, or at once when a signal came in, also one that came between two pauses. */
export function signalPause(): (milliseconds: number) => Promise<'elapsed' | 'reload' | 'stop'> {
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
  return async (milliseconds) => {
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
}
