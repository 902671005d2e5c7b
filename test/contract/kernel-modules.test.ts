// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { ProcKernelModules } from '../../src/adapters/kmod.ts';
import type { KernelModules, LoadedModule } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  /** Path of a file of ip_vs that fits the kernel. */
  readonly file: string;
  /** Lets the kernel itself load a module, as it does for a new virtual server. */
  autoload(name: string): Promise<void>;
  addVirtualServer(): Promise<void>;
  removeVirtualServers(): Promise<void>;
}

const BLOCK_DIRECTORY = '/run/modprobe.d';

/** The in-tree ip_vs as a plain file: distributions compress theirs, or do not. */
async function unpackModule(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'modules-'));
  const packed = (await exec('modinfo', ['-F', 'filename', 'ip_vs'])).stdout.trim();
  const file = join(directory, 'ip_vs.ko');
  await exec('sh', ['-c', 'case "$1" in *.xz) xz -dc "$1" ;; *) cat "$1" ;; esac >"$2"', 'sh', packed, file]);
  return file;
}

let unpacked: Promise<string> | undefined;
afterAll(async () => {
  if (unpacked !== undefined) await rm(dirname(await unpacked), { recursive: true });
});

async function realSubject(): Promise<Subject<KernelModules, Outside>> {
  unpacked ??= unpackModule();
  const port = new ProcKernelModules();
  const outside: Outside = {
    file: await unpacked,
    autoload: async (name) => void (await exec('modprobe', [name]).catch(() => undefined)),
    addVirtualServer: async () => void (await exec('ipvsadm', ['-A', '-t', '192.0.2.1:80', '-s', 'rr'])),
    removeVirtualServers: async () => void (await exec('ipvsadm', ['-C'])),
  };
  const cleanup = async (): Promise<void> => {
    await port.unblockAutoload('ip_vs');
    await port.unblockAutoload('ip_vs_rr');
    const loaded = (await port.list()).map((module) => module.name);
    if (loaded.includes('ip_vs')) await exec('ipvsadm', ['-C']);
    for (const name of ['ip_vs_rr', 'ip_vs']) if (loaded.includes(name)) await port.remove(name);
  };
  return { port, outside, cleanup };
}

async function fakeSubject(): Promise<Subject<KernelModules, Outside>> {
  const { modules, ipvs } = fakeMachine();
  const file = '/lib/ip_vs.ko';
  const inTree = modules.tree.get('ip_vs');
  if (inTree !== undefined) modules.files.set(file, inTree);
  const outside: Outside = {
    file,
    autoload: async (name) => {
      if (!modules.blocked.has(name)) modules.probe(name);
    },
    addVirtualServer: async () =>
      ipvs.seed({
        family: 'IPv4',
        protocol: 'TCP',
        address: '192.0.2.1',
        port: 80,
        scheduler: 'rr',
        flags: 2,
        timeoutSeconds: 0,
        netmask: 0xffffffff,
        realServers: [],
      }),
    removeVirtualServers: () => ipvs.flush(),
  };
  return { port: modules, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('KernelModules ($name)', ({ make }) => {
  let modules: KernelModules;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: modules, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  async function find(name: string): Promise<LoadedModule | undefined> {
    return (await modules.list()).find((module) => module.name === name);
  }

  it('reads a module file without loading it', async () => {
    const info = await modules.info(outside.file);
    expect(info.vermagic.split(' ')[0]).toBe(await modules.release());
    expect(await find('ip_vs')).toBeUndefined();
    await expect(modules.info('/nosuch.ko')).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('reads ahead what is loaded next, by file and by name', async () => {
    await modules.readAhead(outside.file);
    await modules.readAhead('ip_vs');
    expect(await find('ip_vs')).toBeUndefined();
    await expect(modules.readAhead('/nosuch.ko')).rejects.toMatchObject({ code: 'NotFound' });
    await expect(modules.readAhead('ip_vs_nosuch')).rejects.toMatchObject({ code: 'CommandFailed' });
  });

  it('inserts a file with what it depends on, once', async () => {
    await modules.insertFile(outside.file);
    const loaded = await find('ip_vs');
    expect(loaded).toMatchObject({ name: 'ip_vs', refCount: 0, holders: [] });
    expect((await find('nf_conntrack'))?.holders).toContain('ip_vs');
    await expect(modules.insertFile(outside.file)).rejects.toMatchObject({ code: 'ModuleExists' });
    await modules.remove('ip_vs');
    expect(await find('ip_vs')).toBeUndefined();
    await expect(modules.remove('ip_vs')).rejects.toMatchObject({ code: 'ModuleNotFound' });
  });

  it.each([
    ['by file', () => modules.insertFile(outside.file, ['conn_tab_bits=10'])],
    ['by name', () => modules.load('ip_vs', ['conn_tab_bits=10'])],
  ])('loads a module with parameters, %s', async (_, load) => {
    await load();
    expect(await find('ip_vs')).toMatchObject({ parameters: ['conn_tab_bits=10'] });
    await modules.remove('ip_vs');
    await modules.load('ip_vs');
    expect(await find('ip_vs')).toMatchObject({ parameters: ['conn_tab_bits=12'] });
    await modules.remove('ip_vs');
  });

  it('does not remove a module that others or virtual servers use', async () => {
    await modules.load('ip_vs_rr');
    expect(await find('ip_vs')).toMatchObject({ refCount: 2, holders: ['ip_vs_rr'] });
    await expect(modules.remove('ip_vs')).rejects.toMatchObject({ code: 'ModuleInUse', retry: true });
    await outside.addVirtualServer();
    expect(await find('ip_vs')).toMatchObject({ refCount: 3 });
    await expect(modules.remove('ip_vs_rr')).rejects.toMatchObject({ code: 'ModuleInUse' });
    await outside.removeVirtualServers();
    await modules.remove('ip_vs_rr');
    await modules.remove('ip_vs');
  });

  it('does not find a module that does not exist', async () => {
    await expect(modules.load('ip_vs_nosuch')).rejects.toMatchObject({ code: 'ModuleNotFound' });
    expect(await modules.isBuiltIn('ip_vs')).toBe(false);
  });

  it('keeps the kernel from loading a module, but not itself', async () => {
    await modules.blockAutoload('ip_vs');
    await modules.blockAutoload('ip_vs');
    await outside.autoload('ip_vs');
    expect(await find('ip_vs')).toBeUndefined();
    await modules.insertFile(outside.file);
    // A scheduler depends on ip_vs, which is there: the block is no matter for it.
    await modules.load('ip_vs_rr');
    expect(await find('ip_vs')).toMatchObject({ holders: ['ip_vs_rr'] });
    await modules.remove('ip_vs_rr');
    await modules.remove('ip_vs');
    await modules.unblockAutoload('ip_vs');
    await modules.unblockAutoload('ip_vs');
    await outside.autoload('ip_vs');
    expect(await find('ip_vs')).toBeDefined();
  });

  if (ON_REAL_KERNEL) {
    it('keeps the kernel from loading ip_vs for ipvsadm, and leaves no file', async () => {
      const before = (await exec('sh', ['-c', `ls -A ${BLOCK_DIRECTORY} 2>&1 || true`])).stdout;
      await modules.blockAutoload('ip_vs');
      await modules.blockAutoload('ip_vs_rr');
      await expect(outside.addVirtualServer()).rejects.toThrow();
      expect(await find('ip_vs')).toBeUndefined();
      await modules.unblockAutoload('ip_vs');
      await modules.unblockAutoload('ip_vs_rr');
      expect((await exec('sh', ['-c', `ls -A ${BLOCK_DIRECTORY} 2>&1 || true`])).stdout).toBe(before);
      await outside.addVirtualServer();
      expect(await find('ip_vs')).toBeDefined();
    });

    it('names the srcversion and the taint of what is loaded', async () => {
      await modules.load('ip_vs');
      const { srcversion } = await modules.info(outside.file);
      const loaded = await find('ip_vs');
      expect(loaded?.srcversion ?? '').toBe(srcversion);
      expect(loaded?.taint).toBe('');
    });

    it('knows what is built in', async () => {
      const [first = ''] = (await readFile(`/lib/modules/${release()}/modules.builtin`, 'utf8')).split('\n');
      expect(await modules.isBuiltIn(basename(first, '.ko'))).toBe(true);
      expect(await modules.isBuiltIn('printk')).toBe(true);
      expect(await modules.isBuiltIn('nosuch')).toBe(false);
    });
  }
});
