// SPDX-License-Identifier: Apache-2.0
/** The ports together: ip_vs is exchanged under a table of virtual servers, and gets maps. */
import { release } from 'node:os';
import { resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FileHost } from '../../src/adapters/host.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import { ProcKernelModules } from '../../src/adapters/kmod.ts';
import type { Datapath } from '../../src/datapath-ports.ts';
import type { Host, Ipvs, KernelModules, VirtualServer } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL } from './subject.ts';

interface Machine {
  readonly modules: KernelModules;
  readonly ipvs: Ipvs;
  readonly host: Host;
  readonly datapath: Datapath;
  readonly patchedModule: string;
}

const BUILD = resolve(import.meta.dirname, '../../build');

async function realMachine(): Promise<Machine> {
  const { BpfDatapath } = await import('../../src/adapters/datapath.ts');
  return {
    modules: new ProcKernelModules({
      familyIdHelpers: (kernelRelease) => [`${BUILD}/${kernelRelease}/ipvs_bpf_family_id.ko`],
    }),
    ipvs: new NetlinkIpvs(),
    host: new FileHost(),
    datapath: new BpfDatapath({
      objectPath: `${BUILD}/bpf/ipvs_tc.bpf.o`,
      pinRoot: '/sys/fs/bpf/contract',
    }),
    patchedModule: `${BUILD}/${release()}/ip_vs.ko`,
  };
}

const LOAD = { sessionMapMaxEntries: 1000, constants: { portRanges: [{ first: 1024, last: 29999 }] } };
const MODE = 'net/ipv4/vs/bpf_mode';
const KFUNCS = 'net/ipv4/vs/bpf_kfuncs';
const MAPS = 'net/ipv4/vs/bpf_maps';

const TABLE: readonly VirtualServer[] = ['rr', 'wlc', 'sh'].map((scheduler, index) => ({
  family: 'IPv4',
  protocol: 'TCP',
  address: '192.0.2.1',
  port: 80 + index,
  scheduler,
  flags: 2,
  timeoutSeconds: 0,
  netmask: 0xffffffff,
  realServers: [],
}));

const subject = ON_REAL_KERNEL
  ? { name: 'kernel', make: realMachine }
  : { name: 'fake', make: async () => fakeMachine() };

describe.each([subject])('ip_vs under its table ($name)', ({ make }) => {
  let machine: Machine;
  beforeEach(async () => {
    machine = await make();
  });
  afterEach(async () => {
    const { modules, ipvs, datapath } = machine;
    await datapath.unload();
    if (await ipvs.available()) {
      await ipvs.flush();
      await removeAll();
    }
    await modules.unblockAutoload('ip_vs');
  });

  async function srcversion(): Promise<string | undefined> {
    return (await machine.modules.list()).find((module) => module.name === 'ip_vs')?.srcversion;
  }

  /** Removes ip_vs and what depends on it. */
  async function removeAll(): Promise<void> {
    const holders = (await machine.modules.list()).find((module) => module.name === 'ip_vs')?.holders ?? [];
    for (const holder of holders) await machine.modules.remove(holder);
    // The kernel frees programs that called it a moment after they are gone.
    await vi.waitFor(() => machine.modules.remove('ip_vs'), { timeout: 10_000, interval: 100 });
  }

  async function loadPatched(): Promise<void> {
    await machine.modules.blockAutoload('ip_vs');
    await machine.modules.insertFile(machine.patchedModule);
  }

  it('is exchanged for the patched module and back, with every virtual server kept', async () => {
    const { modules, ipvs } = machine;
    await modules.load('ip_vs');
    await ipvs.restore(TABLE);
    const listed = await ipvs.virtualServers();
    expect(listed).toHaveLength(TABLE.length);
    await expect(modules.remove('ip_vs')).rejects.toMatchObject({ code: 'ModuleInUse' });
    await ipvs.flush();
    await removeAll();
    await loadPatched();
    expect(await srcversion()).toBe((await modules.info(machine.patchedModule)).srcversion);
    expect((await modules.list()).find((module) => module.name === 'ip_vs')?.taint).toContain('O');
    await ipvs.restore(listed);
    expect(await ipvs.virtualServers()).toEqual(listed);

    await ipvs.flush();
    await removeAll();
    await modules.unblockAutoload('ip_vs');
    await modules.load('ip_vs');
    await ipvs.restore(listed);
    expect(await ipvs.virtualServers()).toEqual(listed);
    expect(await machine.host.readSysctl(MODE)).toBeUndefined();
  });

  it('gets the id of its netlink family back, whatever others took meanwhile', async () => {
    const { modules, ipvs } = machine;
    expect(await ipvs.familyId()).toBeUndefined();
    expect(await ipvs.connectionCount()).toBe(0);
    await modules.load('ip_vs');
    const id = await ipvs.familyId();
    if (id === undefined) throw new Error('no id');
    expect(await ipvs.connectionCount()).toBe(0);
    await modules.remove('ip_vs');
    await modules.load('ip_vs');
    expect(await ipvs.familyId()).not.toBe(id);
    expect(await modules.canAimFamilyId()).toBe(true);
    await modules.remove('ip_vs');
    await modules.aimFamilyId(id);
    await modules.load('ip_vs');
    expect(await ipvs.familyId()).toBe(id);
    // Also while the family still has it.
    await modules.aimFamilyId(id);
    await modules.remove('ip_vs');
    await modules.load('ip_vs');
    expect(await ipvs.familyId()).toBe(id);
  });

  it('cannot be removed while programs call it', async () => {
    const { host, modules, datapath } = machine;
    const before = await datapath.load(LOAD);
    expect(before.usesModule).toBe(false);
    await loadPatched();
    expect(await host.readSysctl(KFUNCS)).toBe('1');
    const calling = await datapath.load(LOAD);
    expect(calling).toMatchObject({ usesModule: true, mapIds: before.mapIds });
    expect(calling.objectHash).toBe(await datapath.objectFileHash());
    expect(calling.objectHash).not.toBe(before.objectHash);
    await expect(modules.remove('ip_vs')).rejects.toMatchObject({ code: 'ModuleInUse' });
    const released = await datapath.load({ ...LOAD, withoutModule: true });
    expect(released).toMatchObject({
      usesModule: false,
      mapIds: before.mapIds,
      objectHash: before.objectHash,
    });
    await removeAll();
    expect(await host.readSysctl(KFUNCS)).toBeUndefined();
  });

  it('is switched on only with maps, which it keeps while it is on', async () => {
    const { host, datapath } = machine;
    await loadPatched();
    expect(await host.readSysctl(MODE)).toBe('0');
    expect(await host.readSysctl(MAPS)).toBe('none');
    await expect(host.writeSysctl(MODE, '1')).rejects.toMatchObject({ errno: 'ENXIO' });
    const { mapIds } = await datapath.load(LOAD);
    await datapath.giveMapsToModule();
    const given = await host.readSysctl(MAPS);
    expect(given).toContain(`services=${mapIds.ipvs_services} sessions=${mapIds.ipvs_sessions} `);
    await host.writeSysctl(MODE, '1');
    expect(await host.readSysctl(MODE)).toBe('1');
    await datapath.giveMapsToModule();
    expect(await host.readSysctl(MAPS)).toBe(given);

    await datapath.load({ ...LOAD, sessionMapMaxEntries: 2000 });
    await expect(datapath.giveMapsToModule()).rejects.toMatchObject({ code: 'Busy' });
    await host.writeSysctl(MODE, '0');
    await datapath.giveMapsToModule();
    expect(await host.readSysctl(MAPS)).not.toBe(given);
    await datapath.load({ ...LOAD, sessionMapMaxEntries: 2000, withoutModule: true });
    await removeAll();
    expect(await host.readSysctl(MAPS)).toBeUndefined();
  });
});
