// SPDX-License-Identifier: Apache-2.0
import { createServer, type Server } from 'node:net';
import { release } from 'node:os';
import { resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import { ProcKernelModules } from '../../src/adapters/kmod.ts';
import { NetlinkLinks } from '../../src/adapters/links.ts';
import { NetworkNamespace } from '../../src/adapters/network-namespace.ts';
import { VethServiceProbe } from '../../src/adapters/service-probe.ts';
import { virtualServerKey } from '../../src/core/virtual-servers.ts';
import type { Datapath, ServiceEntry } from '../../src/datapath-ports.ts';
import type { ServiceProbe, VirtualServer } from '../../src/ports.ts';
import { fakeNode } from '../fakes/fake-node.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  readonly datapath: Datapath;
  /** Accelerated replies do not come back any more; nothing else changes. */
  breakPath(): Promise<void>;
  /** Names of interfaces. */
  links(): Promise<readonly string[]>;
  virtualServers(): Promise<readonly VirtualServer[]>;
  /** How connections to the real server ended. */
  readonly ended: { inOrder: number; reset: number };
}

const BUILD = resolve(import.meta.dirname, '../../build');
const VIP = '10.77.1.1';
const NODE = '10.77.0.1';
const REAL = '10.77.0.2';
const VIP6 = 'fd77:1::1';
const NODE6 = 'fd77::1';
const REAL6 = 'fd77::2';
const LOAD = { sessionMapMaxEntries: 1000, constants: { portRanges: [{ first: 1024, last: 29999 }] } };

/** The one at 80 has a real server that listens, the one at 81 has none. */
function serverAt(port: number): VirtualServer {
  const real = { family: 'IPv4', address: REAL, port: port + 8000, forwardingMethod: 0, weight: 1 } as const;
  return {
    family: 'IPv4',
    protocol: 'TCP',
    address: VIP,
    port,
    scheduler: 'rr',
    flags: 0,
    timeoutSeconds: 0,
    netmask: 0xffffffff,
    realServers: [{ ...real, upperThreshold: 0, lowerThreshold: 0 }],
  };
}

const GOOD = serverAt(80);
const DEAF = serverAt(81);
const GOOD6: VirtualServer = {
  ...GOOD,
  family: 'IPv6',
  address: VIP6,
  netmask: 128,
  realServers: GOOD.realServers.map((real) => ({ ...real, family: 'IPv6', address: REAL6 })),
};
const ALL = [GOOD, DEAF, GOOD6];

function entryOf(server: VirtualServer): ServiceEntry {
  const { address = '', port = 0 } = server;
  const id = ALL.indexOf(server) + 1;
  return { address, port, protocol: 'TCP', id, snat: 'Always', dropOnFull: true };
}

async function realSubject(): Promise<Subject<ServiceProbe, Outside>> {
  const { BpfDatapath } = await import('../../src/adapters/datapath.ts');
  const links = new NetlinkLinks();
  const ipvs = new NetlinkIpvs();
  const datapath = new BpfDatapath({
    objectPath: `${BUILD}/bpf/ipvs_tc.bpf.o`,
    pinRoot: '/sys/fs/bpf/contract',
  });
  const modules = new ProcKernelModules();
  const clock = { now: () => performance.now(), date: () => '', sleep: async () => undefined };
  await exec('sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  await modules.insertFile(`${BUILD}/${release()}/ip_vs.ko`);
  await modules.load('ip_vs_rr');
  await datapath.load(LOAD);
  await datapath.giveMapsToModule();
  const namespace = NetworkNamespace.create();
  await links.createVeth({
    name: 'sp0',
    peer: 'server',
    addresses: [`${NODE}/24`, `${VIP}/32`, `${NODE6}/64`, `${VIP6}/128`, 'fe80::1/64'],
    peerNetns: namespace.path,
    peerAddresses: [`${REAL}/24`, `${REAL6}/64`],
    peerGateways: [NODE, NODE6],
  });
  const ended = { inOrder: 0, reset: 0 };
  const listeners = await namespace.run(() => Promise.all([REAL, REAL6].map((host) => listen(host, ended))));
  const index = (await links.list()).find(({ name }) => name === 'sp0')?.index ?? 0;
  await datapath.attach(index, 'Ingress');
  await datapath.attach(index, 'Egress');
  await datapath.putSnatAddress({ id: 1, address: NODE });
  await datapath.putSnatInterface({ ifindex: index, family: 'IPv4', addressId: 1 });
  await datapath.putSnatAddress({ id: 2, address: NODE6 });
  await datapath.putSnatInterface({ ifindex: index, family: 'IPv6', addressId: 2 });
  await ipvs.restore(ALL);
  for (const server of ALL) await datapath.putService(entryOf(server));
  await exec('sysctl', ['-qw', 'net.ipv4.vs.bpf_mode=1']);
  const outside: Outside = {
    datapath,
    // Replies then stay with the SNAT end, which is an address of the director itself.
    breakPath: () => datapath.detach(index, 'Ingress'),
    links: async () => (await links.list()).map(({ name }) => name),
    virtualServers: () => ipvs.virtualServers(),
    ended,
  };
  const cleanup = async (): Promise<void> => {
    await exec('sysctl', ['-qw', 'net.ipv4.vs.bpf_mode=0']);
    await ipvs.flush();
    for (const listener of listeners) listener.close();
    await datapath.unload();
    await links.remove('sp0');
    namespace.close();
    await ipvs.close();
    await exec('rmmod', ['ip_vs_rr', 'ip_vs']);
  };
  return { port: new VethServiceProbe({ links, datapath, clock }), outside, cleanup };
}

function listen(host: string, ended: Outside['ended']): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {
      ended.reset += 1;
    });
    socket.on('end', () => {
      ended.inOrder += 1;
    });
    // Read or not, it must not make a reset of the other end's close.
    socket.write('welcome');
    socket.resume();
  });
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen({ host, port: 8080 }, () => done(server));
  });
}

async function fakeSubject(): Promise<Subject<ServiceProbe, Outside>> {
  const { machine, serviceProbe } = fakeNode();
  const { datapath, host, ipvs, links, modules } = machine;
  await modules.insertFile(machine.patchedModule);
  await datapath.load(LOAD);
  await datapath.giveMapsToModule();
  ipvs.seed(...ALL);
  for (const server of ALL) await datapath.putService(entryOf(server));
  await host.writeSysctl('net/ipv4/vs/bpf_mode', '1');
  serviceProbe.silent.add(`${REAL}:8081`);
  const outside: Outside = {
    datapath,
    breakPath: async () => {
      for (const server of ALL) serviceProbe.broken.add(virtualServerKey(server));
    },
    links: async () => (await links.list()).map(({ name }) => name),
    virtualServers: async () => ipvs.table,
    ended: { inOrder: 1, reset: 0 },
  };
  return { port: serviceProbe, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('ServiceProbe ($name)', ({ make }) => {
  let probe: ServiceProbe;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: probe, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  it('passes for a virtual server that works, closes in order, and leaves nothing behind', async () => {
    const before = { links: await outside.links(), table: await outside.virtualServers() };
    expect(await probe.run([GOOD])).toEqual([{ verdict: 'Passed' }]);
    expect(outside.ended).toEqual({ inOrder: 1, reset: 0 });
    expect({ links: await outside.links(), table: await outside.virtualServers() }).toEqual(before);
    expect(await probe.run([])).toEqual([]);
  });

  it('fails where real servers answer and the accelerated path does not, and there only', async () => {
    await outside.breakPath();
    const links = await outside.links();
    const begun = performance.now();
    const [broken] = await probe.run([GOOD]);
    // Some five seconds; a virtual machine without hardware support is slower.
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(broken).toMatchObject({ verdict: 'Failed' });
    expect(await outside.links()).toEqual(links);
    await outside.datapath.removeService(entryOf(GOOD));
    expect(await probe.run([GOOD])).toEqual([{ verdict: 'Passed' }]);
  });

  it('tells of virtual servers of both families', async () => {
    const both = [GOOD6, GOOD];
    expect((await probe.run(both)).map(({ verdict }) => verdict)).toEqual(['Passed', 'Passed']);
    await outside.breakPath();
    expect((await probe.run([GOOD6])).map(({ verdict }) => verdict)).toEqual(['Failed']);
  });

  it('is unsure where a real server does not listen, whatever else is wrong', async () => {
    const verdicts = (await probe.run([GOOD, DEAF])).map(({ verdict }) => verdict);
    expect(verdicts).toEqual(['Passed', 'Unsure']);
    await outside.breakPath();
    expect(await probe.run([DEAF])).toMatchObject([{ verdict: 'Unsure' }]);
  });

  it('is unsure without a real server', async () => {
    expect(await probe.run([{ ...GOOD, port: 82, realServers: [] }])).toMatchObject([{ verdict: 'Unsure' }]);
  });
});
