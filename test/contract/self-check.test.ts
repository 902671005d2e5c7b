// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import { NetlinkLinks } from '../../src/adapters/links.ts';
import { VethSelfCheck } from '../../src/adapters/self-check.ts';
import { testFamily } from '../../src/core/self-check-network.ts';
import type { Ipvs, LinkAddress, SelfCheck } from '../../src/ports.ts';
import { fakeNode } from '../fakes/fake-node.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  readonly ipvs: Ipvs;
  loadIpvs(): Promise<void>;
  /** Names of interfaces. */
  links(): Promise<readonly string[]>;
  addresses(): Promise<readonly LinkAddress[]>;
  /** An interface with an IPv6 address, on a machine that has no other address. */
  addIpv6Link(): Promise<void>;
}

const OBJECT = resolve(import.meta.dirname, '../../build/bpf/ipvs_tc.bpf.o');

async function realSubject(): Promise<Subject<SelfCheck, Outside>> {
  const { BpfDatapath } = await import('../../src/adapters/datapath.ts');
  const links = new NetlinkLinks();
  const ipvs = new NetlinkIpvs();
  const datapath = new BpfDatapath({ objectPath: OBJECT, pinRoot: '/sys/fs/bpf/contract' });
  const outside: Outside = {
    ipvs,
    loadIpvs: async () => void (await exec('modprobe', ['ip_vs_rr'])),
    links: async () => (await links.list()).map(({ name }) => name),
    addresses: () => links.addresses(),
    addIpv6Link: async () => {
      const script =
        'ip link add sc6 type dummy && ip addr add 2001:db8:5::1/64 dev sc6 nodad && ip link set sc6 up';
      await exec('sh', ['-c', script]);
    },
  };
  await exec('sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  const cleanup = async (): Promise<void> => {
    await links.remove('sc6');
    await exec('sh', ['-c', 'rmmod ip_vs_rr ip_vs 2>/dev/null; true']);
    await ipvs.close();
  };
  return { port: new VethSelfCheck({ links, ipvs, datapath }), outside, cleanup };
}

async function fakeSubject(): Promise<Subject<SelfCheck, Outside>> {
  const { machine, check } = fakeNode();
  const outside: Outside = {
    ipvs: machine.ipvs,
    loadIpvs: async () => machine.modules.probe('ip_vs_rr'),
    links: async () => (await machine.links.list()).map(({ name }) => name),
    addresses: () => machine.links.addresses(),
    addIpv6Link: async () => {
      for (const name of ['eth0', 'eth1']) machine.links.drop(name);
      machine.links.add({ name: 'sc6', type: 'dummy' }, '2001:db8:5::1/64');
    },
  };
  return { port: check, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('SelfCheck ($name)', ({ make }) => {
  let check: SelfCheck;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: check, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  it("passes by IPVS' own path, again and again, and leaves nothing behind", async () => {
    await outside.loadIpvs();
    const before = await outside.links();
    await check.runNative();
    await check.runNative();
    expect(await outside.links()).toEqual(before);
    expect(await outside.ipvs.virtualServers()).toEqual([]);
  });

  it('passes by IPv6 on a machine that has addresses of IPv6 only', async () => {
    await outside.loadIpvs();
    await outside.addIpv6Link();
    expect(testFamily(await outside.addresses())).toBe('IPv6');
    const before = await outside.links();
    await check.runNative();
    expect(await outside.links()).toEqual(before);
    expect(await outside.ipvs.virtualServers()).toEqual([]);
  });

  it('fails without IPVS, and leaves nothing behind', async () => {
    const before = await outside.links();
    await expect(check.runNative()).rejects.toThrow();
    expect(await outside.links()).toEqual(before);
  });
});
