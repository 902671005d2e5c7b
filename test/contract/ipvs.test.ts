// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import type { Ipvs, RealServer, VirtualServer } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  loadModule(): Promise<void>;
  unloadModule(): Promise<void>;
  moduleLoaded(): Promise<boolean>;
}

/** Modules of IPVS that are loaded, those that use ip_vs before it. */
async function loadedModules(): Promise<readonly string[]> {
  const names = (await readFile('/proc/modules', 'utf8')).match(/^ip_vs\w*/gm) ?? [];
  return names.sort((a, b) => b.length - a.length);
}

async function unloadAll(): Promise<void> {
  const names = await loadedModules();
  if (names.length === 0) return;
  await exec('ipvsadm', ['-C']);
  await exec('rmmod', names);
}

async function realSubject(): Promise<Subject<Ipvs, Outside>> {
  await unloadAll();
  const port = new NetlinkIpvs();
  const outside: Outside = {
    loadModule: async () => void (await exec('modprobe', ['ip_vs'])),
    unloadModule: unloadAll,
    moduleLoaded: async () => (await loadedModules()).length > 0,
  };
  const cleanup = async (): Promise<void> => {
    await port.close();
    await unloadAll();
  };
  return { port, outside, cleanup };
}

async function fakeSubject(): Promise<Subject<Ipvs, Outside>> {
  const { ipvs, modules } = fakeMachine();
  const outside: Outside = {
    loadModule: async () => modules.probe('ip_vs'),
    unloadModule: async () => {
      for (const name of modules.loaded.filter((loaded) => loaded.startsWith('ip_vs')).reverse()) {
        await modules.remove(name);
      }
    },
    moduleLoaded: async () => modules.loaded.includes('ip_vs'),
  };
  return { port: ipvs, outside, cleanup: async () => undefined };
}

const ALL_BITS = 0xffffffff;

function realServer(address: string, port: number, more: Partial<RealServer> = {}): RealServer {
  return {
    family: address.includes(':') ? 'IPv6' : 'IPv4',
    address,
    port,
    forwardingMethod: 0,
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
    tunnelType: 0,
    tunnelPort: 0,
    tunnelFlags: 0,
    ...more,
  };
}

function virtualServer(more: Partial<VirtualServer>): VirtualServer {
  const netmask = more.family === 'IPv6' ? 128 : ALL_BITS;
  const base = { family: 'IPv4', scheduler: 'rr', flags: 2, timeoutSeconds: 0, realServers: [] } as const;
  return { ...base, netmask, ...more };
}

/** One of each kind that `ipvsadm` can make. */
const TABLE: readonly VirtualServer[] = [
  virtualServer({ fwmark: 7, scheduler: 'wrr', realServers: [realServer('10.0.0.2', 80, { weight: 5 })] }),
  virtualServer({
    family: 'IPv6',
    fwmark: 8,
    realServers: [
      realServer('fd00::2', 0, { forwardingMethod: 3 }),
      realServer('fd00::1', 0, { forwardingMethod: 3 }),
    ],
  }),
  virtualServer({ protocol: 'SCTP', address: '192.0.2.10', port: 3868, scheduler: 'lc' }),
  virtualServer({
    protocol: 'TCP',
    address: '192.0.2.10',
    port: 443,
    scheduler: 'sh',
    flags: 2 | 8 | 16,
    realServers: [
      realServer('10.0.0.3', 8443, {
        forwardingMethod: 2,
        tunnelType: 1,
        tunnelPort: 6080,
        tunnelFlags: 1,
        weight: 100,
      }),
    ],
  }),
  virtualServer({
    protocol: 'TCP',
    address: '192.0.2.10',
    port: 80,
    scheduler: 'wlc',
    flags: 1 | 2,
    timeoutSeconds: 600,
    netmask: 0xffffff00,
    realServers: [
      realServer('10.0.0.2', 8080, { weight: 0 }),
      realServer('10.0.0.1', 8080, { weight: 65535, upperThreshold: 1000, lowerThreshold: 750 }),
    ],
  }),
  virtualServer({
    family: 'IPv6',
    protocol: 'TCP',
    address: '2001:db8::10',
    port: 80,
    flags: 1 | 2,
    timeoutSeconds: 60,
    netmask: 64,
    realServers: [realServer('fd00::1', 80), realServer('10.0.0.9', 80, { forwardingMethod: 2 })],
  }),
  virtualServer({
    protocol: 'UDP',
    address: '192.0.2.10',
    port: 53,
    flags: 2 | 4,
    realServers: [realServer('10.0.0.2', 53)],
  }),
  virtualServer({
    protocol: 'UDP',
    address: '192.0.2.10',
    port: 5060,
    flags: 1 | 2,
    timeoutSeconds: 300,
    persistenceEngine: 'sip',
    realServers: [realServer('10.0.0.2', 5060)],
  }),
];

/** What ipvsadm says; its own -S leaves thresholds out. */
async function asShown(): Promise<readonly string[]> {
  const shown: string[] = [];
  for (const args of [
    ['-S', '-n'],
    ['-L', '-n', '--nosort'],
    ['-L', '-n', '--thresholds'],
    ['-L', '-n', '--tun-info'],
  ]) {
    shown.push((await exec('ipvsadm', args)).stdout);
  }
  return shown;
}

function sorted(servers: readonly VirtualServer[]): readonly VirtualServer[] {
  const name = (server: object): string => JSON.stringify(server);
  return servers
    .map((server) => ({
      ...server,
      realServers: server.realServers.toSorted((a, b) => (name(a) < name(b) ? -1 : 1)),
    }))
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
}

function nameOf(server: VirtualServer): string {
  return `${server.protocol} ${server.address} ${server.port} ${server.fwmark}`;
}

describe.each([ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject }])(
  'Ipvs ($name)',
  ({ make }) => {
    let subject: Subject<Ipvs, Outside>;
    beforeEach(async () => {
      subject = await make();
    });
    afterEach(() => subject.cleanup());

    it('says whether IPVS is there and never loads it', async () => {
      expect(await subject.port.available()).toBe(false);
      expect(await subject.outside.moduleLoaded()).toBe(false);
      await expect(subject.port.virtualServers()).rejects.toMatchObject({ code: 'NotFound' });
      expect(await subject.outside.moduleLoaded()).toBe(false);
      await subject.outside.loadModule();
      expect(await subject.port.available()).toBe(true);
      expect(await subject.port.virtualServers()).toEqual([]);
      expect(await subject.port.daemons()).toEqual([]);
    });

    it('restores every kind of virtual server as it was listed', async () => {
      await subject.outside.loadModule();
      await subject.port.restore(TABLE);
      const listed = await subject.port.virtualServers();
      expect(sorted(listed)).toEqual(sorted(TABLE));
      await subject.port.flush();
      expect(await subject.port.virtualServers()).toEqual([]);
      await subject.port.restore(listed);
      expect(await subject.port.virtualServers()).toEqual(listed);
    });

    it('lists what was edited since the last listing, and thresholds too when it has to be exact', async () => {
      await subject.outside.loadModule();
      const address = { protocol: 'TCP', address: '192.0.2.1', port: 80 } as const;
      const other = virtualServer({ ...address, port: 81, realServers: [realServer('10.0.0.1', 80)] });
      const edits = [{ weight: 1 }, { weight: 0 }, { weight: 7 }, { forwardingMethod: 2 }] as const;
      for (const edit of edits) {
        const server = virtualServer({ ...address, realServers: [realServer('10.0.0.1', 80, edit)] });
        await subject.port.restore([server, other]);
        expect(await subject.port.virtualServers()).toEqual([server, other]);
      }
      const limited = { forwardingMethod: 2, upperThreshold: 9, lowerThreshold: 3 };
      const server = virtualServer({ ...address, realServers: [realServer('10.0.0.1', 80, limited)] });
      await subject.port.restore([server]);
      expect(await subject.port.virtualServers({ exact: true })).toEqual([server, other]);
      expect(await subject.port.virtualServers()).toEqual([server, other]);
      await subject.port.remove(server);
      await subject.port.restore([virtualServer(address)]);
      expect(await subject.port.virtualServers()).toEqual([virtualServer(address), other]);
    });

    it('works after the module was loaded again', async () => {
      await subject.outside.loadModule();
      await subject.port.restore(TABLE);
      const listed = await subject.port.virtualServers();
      await subject.port.flush();
      await subject.outside.unloadModule();
      expect(await subject.port.available()).toBe(false);
      await subject.outside.loadModule();
      expect(await subject.port.virtualServers()).toEqual([]);
      await subject.port.restore(listed);
      expect(await subject.port.virtualServers()).toEqual(listed);
    });

    it('edits what is there and keeps what is not in the list', async () => {
      await subject.outside.loadModule();
      const address = { protocol: 'TCP', address: '192.0.2.1', port: 80 } as const;
      await subject.port.restore([
        virtualServer({ ...address, realServers: [realServer('10.0.0.1', 80), realServer('10.0.0.2', 80)] }),
      ]);
      await subject.port.restore([
        virtualServer({
          ...address,
          scheduler: 'wrr',
          realServers: [realServer('10.0.0.2', 80, { weight: 9 })],
        }),
      ]);
      const expected = virtualServer({
        ...address,
        scheduler: 'wrr',
        realServers: [realServer('10.0.0.1', 80), realServer('10.0.0.2', 80, { weight: 9 })],
      });
      expect(sorted(await subject.port.virtualServers())).toEqual(sorted([expected]));
    });

    it('restores a large table, whether its entries are there or not', async () => {
      await subject.outside.loadModule();
      const table = (weight: number) =>
        Array.from({ length: 150 }, (_, i) =>
          virtualServer({
            protocol: i % 2 === 0 ? 'TCP' : 'UDP',
            address: '192.0.2.1',
            port: 1000 + i,
            realServers: [
              realServer('10.0.0.1', 80, { weight }),
              realServer('10.0.0.2', 80, { weight: weight + i }),
            ],
          }),
        );
      for (const weight of [1, 2]) {
        await subject.port.restore(table(weight));
        expect(sorted(await subject.port.virtualServers())).toEqual(sorted(table(weight)));
      }
      const absent = virtualServer({ protocol: 'TCP', address: '192.0.2.2', port: 80, scheduler: 'nosuch' });
      await expect(subject.port.restore([...table(3), absent])).rejects.toThrow(/nosuch|ENOENT/);
      await subject.port.flush();
    });

    it('sets the timeouts that are not 0', async () => {
      await subject.outside.loadModule();
      const before = await subject.port.timeouts();
      expect(before).toEqual({ tcpSeconds: 900, tcpFinSeconds: 120, udpSeconds: 300 });
      await subject.port.setTimeouts({ tcpSeconds: 901, tcpFinSeconds: 0, udpSeconds: 31 });
      expect(await subject.port.timeouts()).toEqual({ tcpSeconds: 901, tcpFinSeconds: 120, udpSeconds: 31 });
      await subject.port.setTimeouts(before);
    });

    it('refuses a scheduler that does not exist', async () => {
      await subject.outside.loadModule();
      const server = virtualServer({ protocol: 'TCP', address: '192.0.2.1', port: 80, scheduler: 'nosuch' });
      await expect(subject.port.restore([server])).rejects.toThrow(/nosuch|ENOENT/);
      expect(await subject.port.virtualServers()).toEqual([]);
    });

    if (ON_REAL_KERNEL) {
      it('leaves the table as ipvsadm shows it', async () => {
        await subject.outside.loadModule();
        await subject.port.restore(TABLE);
        const saved = (await exec('ipvsadm', ['-S', '-n'])).stdout;
        expect(saved.split('\n').filter((line) => line.startsWith('-A'))).toHaveLength(TABLE.length);
        const before = await asShown();
        const listed = await subject.port.virtualServers();
        await subject.port.flush();
        expect((await exec('ipvsadm', ['-S', '-n'])).stdout).toBe('');
        await subject.port.restore(listed);
        expect(await asShown()).toEqual(before);
      });

      it('lists a running synchronisation daemon', async () => {
        await subject.outside.loadModule();
        await exec('ip', ['link', 'set', 'lo', 'up']);
        await exec('ipvsadm', ['--start-daemon', 'master', '--mcast-interface', 'lo', '--syncid', '5']);
        expect(await subject.port.daemons()).toEqual([{ state: 'master', interface: 'lo', syncId: 5 }]);
        await exec('ipvsadm', ['--stop-daemon', 'master']);
      });
    }
  },
);
