// SPDX-License-Identifier: Apache-2.0
import type { BootResult } from '../../src/boot-ports.ts';
import { Calls } from './calls.ts';
import { FakeBootFiles } from './fake-boot-files.ts';
import { FakeConnections } from './fake-connections.ts';
import { FakeDatapath } from './fake-datapath.ts';
import { FakeHost } from './fake-host.ts';
import { FakeIpvs } from './fake-ipvs.ts';
import { FAKE_RELEASE, FAKE_VERMAGIC, FakeKernelModules } from './fake-kernel-modules.ts';
import { FakeKubeProxy } from './fake-kube-proxy.ts';
import { FakeLinks } from './fake-links.ts';

/** All fakes of one host, wired together: what one changes, the others show. */
export interface FakeMachine {
  readonly calls: Calls;
  readonly modules: FakeKernelModules;
  readonly ipvs: FakeIpvs;
  readonly connections: FakeConnections;
  readonly links: FakeLinks;
  readonly host: FakeHost;
  readonly datapath: FakeDatapath;
  readonly kubeProxy: FakeKubeProxy;
  readonly boot: FakeBootFiles;
  /** Path of the patched module's file, which fits the running kernel. */
  readonly patchedModule: string;
}

export const PATCHED_SRCVERSION = 'PATCHED0123456789ABCDEF';

/**
 * Another boot: the module that the host's files say is loaded (`trouble`: what keeps it from that), and then kube-proxy
 * makes the table that there was.
 */
export function reboot(machine: FakeMachine, trouble?: Exclude<BootResult, 'Loaded'> | 'NotRun'): void {
  const { host, modules, datapath, ipvs, boot, kubeProxy } = machine;
  const { table } = ipvs;
  boots += 1;
  host.boot = `boot-${boots}`;
  modules.reboot();
  datapath.reboot();
  boot.boot(host.boot, trouble);
  if (table.length > 0) ipvs.seed(...table);
  kubeProxy.reboot();
}

let boots = 0;

/** A director with eth0 (192.0.2.1/24) and eth1 (198.51.100.1/24, 2001:db8:1::1/64), and no module loaded. */
export function fakeMachine(): FakeMachine {
  const calls = new Calls();
  const modules = new FakeKernelModules(calls);
  const ipvs = new FakeIpvs(calls, modules);
  const connections = new FakeConnections(calls, ipvs);
  const host = new FakeHost(calls, modules);
  const links = new FakeLinks(calls);
  links.add({ name: 'eth0' }, '192.0.2.1/24');
  links.add({ name: 'eth1' }, '198.51.100.1/24', '2001:db8:1::1/64');
  const datapath = new FakeDatapath(calls, host, links);
  const table = modules.users.get('ip_vs');
  modules.users.set('ip_vs', () => (table?.() ?? 0) + (datapath.usesModule ? 1 : 0));
  const patchedModule = `/usr/lib/ipvs-bpf/${FAKE_RELEASE}/ip_vs.ko`;
  modules.files.set(patchedModule, {
    name: 'ip_vs',
    srcversion: PATCHED_SRCVERSION,
    vermagic: FAKE_VERMAGIC,
    depends: ['nf_conntrack', 'nf_defrag_ipv6', 'libcrc32c'],
    patched: true,
  });
  const kubeProxy = new FakeKubeProxy(calls);
  const boot = new FakeBootFiles(calls, modules);
  return { calls, modules, ipvs, connections, links, host, datapath, kubeProxy, boot, patchedModule };
}
