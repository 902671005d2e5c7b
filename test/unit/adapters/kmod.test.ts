// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProcKernelModules } from '../../../src/adapters/kmod.ts';
import { moduleFile } from '../../fakes/module-file.ts';

let root: string;
let modules: ProcKernelModules;

async function put(path: string, data: string | Buffer): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), data);
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kmod-'));
  modules = new ProcKernelModules({
    root,
    release: '6.1.0',
    blockFile: join(root, 'run/modprobe.d/own.conf'),
    familyIdHelpers: (release) =>
      ['build', 'modules'].map((directory) => join(root, directory, release, 'ipvs_bpf_family_id.ko')),
    deliveredDirectory: join(root, 'delivered'),
  });
});
afterEach(() => rm(root, { recursive: true }));

const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex');

describe('a module with a manifest', () => {
  const strings = ['srcversion=ABC', 'depends=', 'name=ip_vs', 'vermagic=6.1.0 SMP '];
  const module = moduleFile(...strings);
  const helper = moduleFile('name=ipvs_bpf_family_id', 'vermagic=6.1.0 SMP ', 'depends=');
  const manifest = {
    srcversion: 'ABC',
    vermagic: '6.1.0 SMP',
    sha256: sha256(module),
    familyIdSha256: sha256(helper),
  };
  const deliver = async (content: object | string, key = 'a'): Promise<string> => {
    const directory = `delivered/6.1.0/${key}`;
    await put(`${directory}/ip_vs.ko`, module);
    await put(`${directory}/ipvs_bpf_family_id.ko`, helper);
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    await put(`${directory}/manifest.json`, text);
    return join(root, directory, 'ip_vs.ko');
  };

  it('is taken when it is what the manifest says', async () => {
    expect(await modules.info(await deliver(manifest))).toMatchObject({ srcversion: 'ABC' });
  });

  it.each([
    ['srcversion is ABC, not ABD', { ...manifest, srcversion: 'ABD' }],
    ['vermagic is 6.1.0 SMP, not 6.12.0 SMP', { ...manifest, vermagic: '6.12.0 SMP' }],
    [`sha256 is ${manifest.sha256}, not 00`, { ...manifest, sha256: '00' }],
    [
      `sha256 of ipvs_bpf_family_id.ko is ${manifest.familyIdSha256}, not 00`,
      { ...manifest, familyIdSha256: '00' },
    ],
    ['is no JSON object', '{'],
  ])('is refused when %s', async (message, content) => {
    const refused = modules.info(await deliver(content));
    await expect(refused).rejects.toMatchObject({
      code: 'ModuleInvalid',
      message: expect.stringContaining(message),
    });
  });

  it('is refused when it has changed since', async () => {
    const path = await deliver(manifest);
    await modules.info(path);
    await put('delivered/6.1.0/a/ip_vs.ko', Buffer.concat([module, Buffer.alloc(1)]));
    await expect(modules.info(path)).rejects.toMatchObject({ code: 'ModuleInvalid' });
  });

  it('finds the helper for family ids wherever it may be, if it is for this kernel', async () => {
    await put(
      'build/6.1.0/ipvs_bpf_family_id.ko',
      moduleFile('name=ipvs_bpf_family_id', 'vermagic=6.12.0 SMP ', 'depends='),
    );
    expect(await modules.canAimFamilyId()).toBe(false);
    await put('modules/6.1.0/ipvs_bpf_family_id.ko', helper);
    expect(await modules.canAimFamilyId()).toBe(true);
  });

  it('has the helper that gives a netlink family its id', async () => {
    expect(await modules.canAimFamilyId()).toBe(false);
    await deliver(manifest);
    expect(await modules.canAimFamilyId()).toBe(true);
  });

  it('is not taken for one while a pod still copies it', async () => {
    await put('delivered/6.1.0/.half/ipvs_bpf_family_id.ko', helper.subarray(0, 70));
    expect(await modules.canAimFamilyId()).toBe(false);
    await deliver(manifest);
    expect(await modules.canAimFamilyId()).toBe(true);
  });

  it('goes when it is no longer asked for, and the directory with the last one', async () => {
    const [kept] = [await deliver(manifest), await deliver(manifest, 'b'), await deliver(manifest, '.half')];
    await modules.keepDelivered([kept, '/elsewhere/ip_vs.ko'], 60_000);
    expect(await readdir(join(root, 'delivered/6.1.0'))).toHaveLength(3);
    const old = new Date(Date.now() - 120_000);
    for (const key of ['b', '.half']) await utimes(join(root, 'delivered/6.1.0', key), old, old);
    await modules.keepDelivered([kept, '/elsewhere/ip_vs.ko'], 60_000);
    expect(await readdir(join(root, 'delivered/6.1.0'))).toEqual(['a']);
    await modules.keepDelivered([], 0);
    expect(await readdir(root)).not.toContain('delivered');
    await modules.keepDelivered([], 0);
  });
});

describe('ProcKernelModules', () => {
  it('parses /proc/modules', async () => {
    await put(
      'proc/modules',
      'ip_vs_rr 16384 1 - Live 0x0000000000000000\nip_vs 184320 5 ip_vs_rr,ip_vs_sh, Live 0x0000000000000000 (OE)\n',
    );
    await put('sys/module/ip_vs/srcversion', 'ABCDEF\n');
    await put('sys/module/ip_vs/parameters/conn_tab_bits', '20\n');
    const parameters = ['conn_tab_bits=20'];
    expect(await modules.list()).toEqual([
      { name: 'ip_vs_rr', refCount: 1, holders: [], taint: '' },
      {
        ...{ name: 'ip_vs', refCount: 5, holders: ['ip_vs_rr', 'ip_vs_sh'] },
        ...{ srcversion: 'ABCDEF', parameters, taint: 'OE' },
      },
    ]);
  });

  it('knows built-in modules from either place, and that a loaded one is none', async () => {
    await put('lib/modules/6.1.0/modules.builtin', 'kernel/net/netfilter/ipvs/ip-vs.ko\nkernel/x.ko\n');
    await put('proc/modules', 'loaded 1 0 - Live 0x0\n');
    await put('sys/module/loaded/refcnt', '0');
    await put('sys/module/inside/parameters/x', '0');
    expect(await modules.isBuiltIn('ip_vs')).toBe(true);
    expect(await modules.isBuiltIn('inside')).toBe(true);
    expect(await modules.isBuiltIn('loaded')).toBe(false);
    expect(await modules.isBuiltIn('other')).toBe(false);
  });

  it('reads .modinfo', async () => {
    const strings = ['license=GPL', 'srcversion=ABC', 'depends=a,b', 'name=ip_vs', 'vermagic=6.1.0 SMP '];
    await put('x.ko', moduleFile(...strings));
    expect(await modules.info(join(root, 'x.ko'))).toEqual({
      name: 'ip_vs',
      srcversion: 'ABC',
      depends: ['a', 'b'],
      vermagic: '6.1.0 SMP',
      signed: false,
    });
    await put('y.ko', Buffer.concat([moduleFile(...strings), Buffer.from('~Module signature appended~\n')]));
    expect((await modules.info(join(root, 'y.ko'))).signed).toBe(true);
  });

  it.each([
    ['no ELF file', Buffer.from('#!/bin/sh')],
    ['a truncated one', moduleFile('name=x').subarray(0, 100)],
    ['one without vermagic', moduleFile('name=x')],
  ])('refuses %s as a module', async (_name, data) => {
    await put('x.ko', data);
    await expect(modules.info(join(root, 'x.ko'))).rejects.toMatchObject({ code: 'ModuleInvalid' });
  });

  it('blocks modules by one file, and removes it and its own directory', async () => {
    await mkdir(join(root, 'run'));
    await modules.blockAutoload('ip_vs');
    await modules.blockAutoload('ip_vs_rr');
    await modules.blockAutoload('ip_vs');
    const text = await readFile(join(root, 'run/modprobe.d/own.conf'), 'utf8');
    expect(text.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
      'install ip_vs /bin/false',
      'install ip_vs_rr /bin/false',
      '',
    ]);
    await modules.unblockAutoload('ip_vs');
    expect(await readFile(join(root, 'run/modprobe.d/own.conf'), 'utf8')).not.toContain('install ip_vs ');
    await modules.unblockAutoload('ip_vs_rr');
    await modules.unblockAutoload('ip_vs_rr');
    expect(await readdir(join(root, 'run'))).toEqual([]);
  });

  it('leaves a directory that was there', async () => {
    await mkdir(join(root, 'run/modprobe.d'), { recursive: true });
    await modules.blockAutoload('ip_vs');
    await modules.unblockAutoload('ip_vs');
    expect(await readdir(join(root, 'run'))).toEqual(['modprobe.d']);
  });
});
