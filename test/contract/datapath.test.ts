// SPDX-License-Identifier: Apache-2.0
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import type { Datapath, ServiceEntry } from '../../src/datapath-ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  /** An interface of its own; answers its index. */
  addInterface(name: string): Promise<number>;
  removeInterface(name: string): Promise<void>;
  /** Removes what is attached there, as another program would by mistake. */
  strip(name: string): Promise<void>;
  /** The object file on disk becomes another version. */
  replaceObject(): Promise<void>;
  /** A session that a module which was removed has left. */
  leaveSession(): Promise<void>;
  /** A module says that it offers kfuncs, and the kernel knows none of them. */
  offerUnknownKfuncs(): Promise<void>;
  /** What was said of programs that the kernel has refused. */
  readonly refusals: readonly string[];
}

/** Of struct ipvs_session_key, or ipvs_reply_key, and ipvs_session: bpf/abi.h. */
const SESSION_KEY_BYTES = 24;
const SESSION_BYTES = 128;
const BUILT = resolve(import.meta.dirname, '../../build/bpf');

async function realSubject(attachKind?: 'Clsact'): Promise<Subject<Datapath, Outside>> {
  const { BpfDatapath } = await import('../../src/adapters/datapath.ts');
  const directory = await mkdtemp(join(tmpdir(), 'datapath-'));
  const objectPath = join(directory, 'ipvs_tc.bpf.o');
  for (const name of ['ipvs_tc.bpf.o', 'ipvs_tc_kfuncs.bpf.o'])
    await copyFile(join(BUILT, name), join(directory, name));
  const pinRoot = '/sys/fs/bpf/contract';
  const refusals: string[] = [];
  const port = new BpfDatapath({
    objectPath,
    pinRoot,
    controls: directory,
    onRefusal: (reason) => refusals.push(reason),
    ...(attachKind === undefined ? {} : { attachKind }),
  });
  const names = new Set<string>();
  const outside: Outside = {
    addInterface: async (name) => {
      names.add(name);
      await exec('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`]);
      const links = JSON.parse((await exec('ip', ['-json', 'link', 'show', name])).stdout) as {
        ifindex: number;
      }[];
      return links[0]?.ifindex ?? 0;
    },
    removeInterface: async (name) => {
      names.delete(name);
      await exec('ip', ['link', 'delete', name]);
    },
    strip: async (name) => {
      for (const pin of (await exec('sh', ['-c', `ls -d ${pinRoot}/links/* || true`])).stdout.split('\n')) {
        if (pin !== '') await exec('bpftool', ['link', 'detach', 'pinned', pin]);
      }
      const qdiscs = (await exec('tc', ['qdisc', 'show', 'dev', name])).stdout;
      if (qdiscs.includes('clsact')) await exec('tc', ['qdisc', 'delete', 'dev', name, 'clsact']);
    },
    // Bytes behind the end of an ELF file mean nothing, and give it another hash.
    replaceObject: async () => void (await exec('sh', ['-c', `echo >>${objectPath}`])),
    leaveSession: async () => {
      const entries = [
        ['ipvs_sessions', SESSION_KEY_BYTES, SESSION_BYTES],
        ['ipvs_replies', SESSION_KEY_BYTES, SESSION_KEY_BYTES],
      ] as const;
      for (const [map, key, value] of entries) {
        const bytes = (count: number): string[] => Array<string>(count).fill('1');
        const entry = ['key', ...bytes(key), 'value', ...bytes(value)];
        await exec('bpftool', ['map', 'update', 'pinned', `${pinRoot}/${map}`, ...entry]);
      }
    },
    offerUnknownKfuncs: () => writeFile(join(directory, 'bpf_kfuncs'), '1\n'),
    refusals,
  };
  const cleanup = async (): Promise<void> => {
    await port.unload();
    await port.close();
    for (const name of names) await exec('ip', ['link', 'delete', name]);
    await rm(directory, { recursive: true });
  };
  return { port, outside, cleanup };
}

async function fakeSubject(): Promise<Subject<Datapath, Outside>> {
  const { datapath, host, links } = fakeMachine();
  const indexOf = async (name: string): Promise<number> =>
    (await links.list()).find((link) => link.name === name)?.index ?? 0;
  const outside: Outside = {
    addInterface: async (name) => links.add({ name }),
    removeInterface: async (name) => void links.drop(name),
    strip: async (name) => datapath.strip(await indexOf(name)),
    replaceObject: async () => {
      datapath.objectHash = 'b'.repeat(64);
    },
    leaveSession: async () => {
      datapath.sessions += 1;
    },
    offerUnknownKfuncs: async () => {
      host.sysctls.set('net/ipv4/vs/bpf_kfuncs', '1');
      datapath.refusesKfuncs = true;
    },
    refusals: datapath.refusals,
  };
  return { port: datapath, outside, cleanup: async () => undefined };
}

const CONSTANTS = {
  portRanges: [
    { first: 1024, last: 29999 },
    { first: 61000, last: 65535 },
  ],
};
const LOAD = { sessionMapMaxEntries: 1000, constants: CONSTANTS };

interface Named {
  readonly name: string;
  make(): Promise<Subject<Datapath, Outside>>;
}

async function realSubjects(): Promise<readonly Named[]> {
  const { tcxSupported } = await import('libbpf-ts');
  const clsact = { name: 'kernel, clsact', make: () => realSubject('Clsact') };
  // Before 6.6 the kernel has nothing but clsact.
  return [{ name: 'kernel', make: () => realSubject() }, ...(tcxSupported() ? [clsact] : [])];
}

const subjects = ON_REAL_KERNEL ? await realSubjects() : [{ name: 'fake', make: fakeSubject }];

describe.each(subjects)('Datapath ($name)', ({ make }) => {
  let subject: Subject<Datapath, Outside>;
  let port: Datapath;
  beforeEach(async () => {
    subject = await make();
    port = subject.port;
  });
  afterEach(() => subject.cleanup());

  it('holds packets back and lets them go, and has no sessions then', async () => {
    await port.release();
    await port.load(LOAD);
    const end = { protocol: 'TCP', address: '192.0.2.1', port: 80 } as const;
    await port.hold([end, { ...end, protocol: 'UDP' }, { ...end, address: '2001:db8::1' }], 1000);
    await port.hold([end], 1000);
    await port.release();
    await port.release();
    expect(await port.sessionEnds()).toEqual([]);
  });

  it('has no sessions that nobody has, once packets are let go', async () => {
    await port.load(LOAD);
    await subject.outside.leaveSession();
    await port.hold([], 1000);
    expect(await port.sessionCount()).toBe(1);
    await port.release();
    expect(await port.sessionCount()).toBe(0);
  });

  it('has no state before it is loaded', async () => {
    expect(await port.state()).toBeUndefined();
    expect(await port.attachments()).toEqual([]);
    await expect(port.services()).rejects.toMatchObject({ code: 'NotFound' });
    await expect(port.attach(1, 'Ingress')).rejects.toMatchObject({ code: 'NotFound' });
    await port.unload();
  });

  it('loads once: the second time changes no id', async () => {
    const first = await port.load(LOAD);
    expect(first).toMatchObject({ ...LOAD, objectHash: await port.objectFileHash() });
    expect(Object.keys(first.mapIds)).toContain('ipvs_sessions');
    expect(await port.load(LOAD)).toEqual(first);
    expect(await port.state()).toEqual(first);
    await port.unload();
    expect(await port.state()).toBeUndefined();
  });

  it('keeps the maps and replaces attached programs when the object is another', async () => {
    const index = await subject.outside.addInterface('dp0');
    const before = await port.load(LOAD);
    await port.attach(index, 'Ingress');
    await port.putClusterPrefix('10.1.2.3/8');
    await subject.outside.replaceObject();
    const after = await port.load(LOAD);
    expect(after.mapIds).toEqual(before.mapIds);
    expect(after.objectHash).not.toBe(before.objectHash);
    expect(after.programIds.ingress).not.toBe(before.programIds.ingress);
    const [attached, ...others] = await port.attachments();
    expect(attached).toMatchObject({ ifindex: index, programId: after.programIds.ingress, current: true });
    expect(others).toEqual([]);
    expect(await port.clusterPrefixes()).toEqual(['10.0.0.0/8']);

    for (const ifindex of [9, 7, 8]) await port.putPeerInterface(ifindex);
    await port.removePeerInterface(8);
    await port.removePeerInterface(8);
    expect(await port.peerInterfaces()).toEqual([7, 9]);
  });

  it('loads programs with other constants, and session maps of another size, anew', async () => {
    const first = await port.load(LOAD);
    const constants = { portRanges: [{ first: 2000, last: 2999 }] };
    const second = await port.load({ ...LOAD, constants });
    expect(second.constants).toEqual(constants);
    expect(second.mapIds).toEqual(first.mapIds);
    await port.putClusterPrefix('fd00::/8');
    const third = await port.load({ sessionMapMaxEntries: 2000, constants });
    expect(third.sessionMapMaxEntries).toBe(2000);
    expect(third.mapIds.ipvs_sessions).not.toBe(first.mapIds.ipvs_sessions);
    expect(third.mapIds.ipvs_services).toBe(first.mapIds.ipvs_services);
    expect(third.programIds.ingress).not.toBe(second.programIds.ingress);
    expect(await port.clusterPrefixes()).toEqual(['fd00::/8']);
  });

  it('loads programs that do not call the module where the kernel refuses the others, which it tries once', async () => {
    const plain = await port.objectFileHash();
    await subject.outside.offerUnknownKfuncs();
    expect(await port.objectFileHash()).not.toBe(plain);
    const first = await port.load(LOAD);
    expect(first).toMatchObject({ ...LOAD, usesModule: false, objectHash: plain });
    expect(await port.objectFileHash()).toBe(plain);
    expect(await port.load(LOAD)).toEqual(first);
    const constants = { portRanges: [{ first: 2000, last: 2999 }] };
    expect(await port.load({ ...LOAD, constants })).toMatchObject({ constants, usesModule: false });
    expect(subject.outside.refusals).toEqual([expect.stringContaining('bpf_ip_vs_begin')]);
    await port.unload();
    await port.load(LOAD);
    expect(subject.outside.refusals).toHaveLength(2);
  });

  it('refuses port ranges that overlap', async () => {
    const portRanges = [
      { first: 10, last: 20 },
      { first: 20, last: 30 },
    ];
    await expect(port.load({ ...LOAD, constants: { portRanges } })).rejects.toThrow(RangeError);
    expect(await port.state()).toBeUndefined();
  });

  it('attaches, heals and detaches', async () => {
    const index = await subject.outside.addInterface('dp0');
    const { programIds } = await port.load(LOAD);
    await port.attach(index, 'Ingress');
    await port.attach(index, 'Egress');
    const both = [
      { ifindex: index, direction: 'Ingress', programId: programIds.ingress, current: true },
      { ifindex: index, direction: 'Egress', programId: programIds.egress, current: true },
    ];
    expect(await port.attachments()).toMatchObject(both);
    await port.attach(index, 'Ingress');
    expect(await port.attachments()).toMatchObject(both);
    expect(await port.foreignPrograms()).toEqual([]);
    await subject.outside.strip('dp0');
    expect(await port.attachments()).toEqual([]);
    await port.attach(index, 'Ingress');
    await port.attach(index, 'Egress');
    expect(await port.attachments()).toMatchObject(both);
    await port.detach(index, 'Ingress');
    await port.detach(index, 'Ingress');
    expect(await port.attachments()).toMatchObject(both.slice(1));
    await subject.outside.removeInterface('dp0');
    expect(await port.attachments()).toEqual([]);
    // Pods come and go while a node is put back.
    await port.detach(index, 'Egress');
    await expect(port.attach(index, 'Ingress')).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('keeps services, addresses, interfaces and prefixes', async () => {
    await port.load(LOAD);
    const services: ServiceEntry[] = [
      { address: '192.0.2.1', port: 80, protocol: 'TCP', id: 1, snat: 'External', dropOnFull: true },
      { address: '2001:db8::1', port: 53, protocol: 'UDP', id: 0xffffff, snat: 'Never', dropOnFull: false },
    ];
    for (const service of services) await port.putService(service);
    const byId = (a: ServiceEntry, b: ServiceEntry): number => a.id - b.id;
    expect([...(await port.services())].sort(byId)).toEqual(services);
    const [first, second] = services as [ServiceEntry, ServiceEntry];
    await port.putService({ ...first, snat: 'Always' });
    await port.removeService(second);
    await port.removeService(second);
    expect(await port.services()).toEqual([{ ...first, snat: 'Always' }]);
    await expect(port.putService({ ...first, id: 0 })).rejects.toThrow(RangeError);

    await port.putSnatAddress({ id: 1, address: '192.0.2.1' });
    await port.putSnatAddress({ id: 1023, address: '2001:db8::1' });
    await port.putSnatAddress({ id: 1, address: '192.0.2.2' });
    expect(await port.snatAddresses()).toEqual([
      { id: 1, address: '192.0.2.2' },
      { id: 1023, address: '2001:db8::1' },
    ]);
    await expect(port.putSnatAddress({ id: 1024, address: '192.0.2.3' })).rejects.toThrow(RangeError);

    const entry = { ifindex: 7, family: 'IPv4', addressId: 1 } as const;
    await port.putSnatInterface(entry);
    await port.putSnatInterface({ ...entry, family: 'IPv6', addressId: 1023 });
    expect(await port.snatInterfaces()).toHaveLength(2);
    await port.removeSnatInterface({ ...entry, family: 'IPv6' });
    expect(await port.snatInterfaces()).toEqual([entry]);

    await port.putClusterPrefix('10.0.0.0/8');
    await port.putClusterPrefix('fd00::1/8');
    expect(await port.clusterPrefixes()).toEqual(['10.0.0.0/8', 'fd00::/8']);
    await port.removeClusterPrefix('fd00::/8');
    expect(await port.clusterPrefixes()).toEqual(['10.0.0.0/8']);

    expect(await port.sessionCount()).toBe(0);
    expect([...(await port.sessionsByService())]).toEqual([]);
    expect([...(await port.forwardedByService())]).toEqual([]);
    expect(await port.counters()).toMatchObject({ Snat: 0, DropRewrite: 0 });
  });

  it('cannot give maps to a module that is not there', async () => {
    await port.load(LOAD);
    await expect(port.giveMapsToModule()).rejects.toMatchObject({ code: 'NotFound' });
  });

  if (ON_REAL_KERNEL) {
    it('leaves programs of others, and their qdisc, alone', async () => {
      const index = await subject.outside.addInterface('dp0');
      await exec('tc', ['qdisc', 'add', 'dev', 'dp0', 'clsact']);
      await exec('tc', ['filter', 'add', 'dev', 'dp0', 'ingress', 'prio', '7', 'matchall', 'action', 'pass']);
      const before = (await exec('tc', ['filter', 'show', 'dev', 'dp0', 'ingress'])).stdout;
      await port.load(LOAD);
      await port.attach(index, 'Ingress');
      expect(await port.foreignPrograms()).toMatchObject([
        { ifindex: index, direction: 'Ingress', kind: 'Clsact', priority: 7, name: 'matchall' },
      ]);
      await port.detach(index, 'Ingress');
      expect((await exec('tc', ['filter', 'show', 'dev', 'dp0', 'ingress'])).stdout).toBe(before);
      await exec('tc', ['filter', 'delete', 'dev', 'dp0', 'ingress']);
      await port.attach(index, 'Egress');
      await port.detach(index, 'Egress');
      expect((await exec('tc', ['qdisc', 'show', 'dev', 'dp0'])).stdout).toContain('clsact');
    });

    it.each(['programs/*/ingress', 'programs/*/rodata', 'ipvs_frags', 'programs'])(
      'loads what is missing when %s was lost',
      async (lost) => {
        const index = await subject.outside.addInterface('dp0');
        const before = await port.load(LOAD);
        await port.attach(index, 'Ingress');
        await exec('sh', ['-c', `rm -r /sys/fs/bpf/contract/${lost}`]);
        expect(await port.state()).toBeUndefined();
        const after = await port.load(LOAD);
        expect(after.mapIds.ipvs_sessions).toBe(before.mapIds.ipvs_sessions);
        expect(await port.attachments()).toMatchObject([
          { programId: after.programIds.ingress, current: true },
        ]);
      },
    );

    it('makes maps of another abi.h anew and keeps the program attached', async () => {
      const index = await subject.outside.addInterface('dp0');
      const before = await port.load(LOAD);
      await port.attach(index, 'Ingress');
      await exec('sh', ['-c', 'rmdir /sys/fs/bpf/contract/abi_* && mkdir /sys/fs/bpf/contract/abi_0']);
      expect(await port.state()).toBeUndefined();
      const after = await port.load(LOAD);
      expect(Object.values(after.mapIds).filter((id) => Object.values(before.mapIds).includes(id))).toEqual(
        [],
      );
      expect(await port.attachments()).toMatchObject([
        { programId: after.programIds.ingress, current: true },
      ]);
    });

    it('keeps nothing of interfaces that are gone', async () => {
      const gone = await subject.outside.addInterface('dp0');
      const before = await port.load(LOAD);
      await port.attach(gone, 'Ingress');
      await subject.outside.removeInterface('dp0');
      await subject.outside.replaceObject();
      await port.load(LOAD);
      const show = `bpftool prog show id ${before.programIds.ingress} 2>&1 || true`;
      await expect
        .poll(async () => (await exec('sh', ['-c', show])).stdout)
        .toContain('No such file or directory');
      await port.attach(await subject.outside.addInterface('dp1'), 'Egress');
      await subject.outside.removeInterface('dp1');
      const index = await subject.outside.addInterface('dp2');
      await port.attach(index, 'Egress');
      const pins = (await exec('sh', ['-c', 'cd /sys/fs/bpf/contract && ls links qdiscs || true'])).stdout;
      expect(pins.match(/\d+(?=_|\n)/g)).toEqual([String(index)]);
    });

    it('leaves no trace', async () => {
      const index = await subject.outside.addInterface('dp0');
      const before = (await exec('tc', ['qdisc', 'show'])).stdout;
      await port.load(LOAD);
      await port.attach(index, 'Ingress');
      await port.attach(index, 'Egress');
      await port.unload();
      expect((await exec('tc', ['qdisc', 'show'])).stdout).toBe(before);
      expect((await exec('ls', ['/sys/fs/bpf'])).stdout).not.toContain('contract');
      const programs = (await exec('sh', ['-c', 'bpftool prog show | grep ipvs_tc || true'])).stdout;
      expect(programs).toBe('');
    });
  }
});
