// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { exec } from '../../src/adapters/exec.ts';
import { FileHost } from '../../src/adapters/host.ts';
import type { Host } from '../../src/ports.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  loadIpvs(): Promise<void>;
  /** Makes a virtual server in another network namespace, with or without a process in it. */
  useElsewhere(how: 'process' | 'mount'): Promise<void>;
}

async function realSubject(): Promise<Subject<Host, Outside>> {
  const undo: (() => Promise<unknown>)[] = [];
  const outside: Outside = {
    loadIpvs: async () => {
      await exec('modprobe', ['ip_vs_rr']);
      undo.unshift(async () => {
        await exec('rmmod', ['ip_vs_rr']);
        await exec('rmmod', ['ip_vs']);
      });
    },
    useElsewhere: async (how) => {
      await exec('ip', ['netns', 'add', 'elsewhere']);
      undo.unshift(() => exec('ip', ['netns', 'delete', 'elsewhere']));
      const inside = ['--net=/run/netns/elsewhere'];
      await exec('nsenter', [...inside, 'ipvsadm', '-A', '-t', '192.0.2.1:80', '-s', 'rr']);
      undo.unshift(() => exec('nsenter', [...inside, 'ipvsadm', '-C']));
      if (how === 'mount') return;
      const sleeper = ['-c', 'nsenter --net=/run/netns/elsewhere sleep 60 >/dev/null 2>&1 & echo $!'];
      const pid = (await exec('sh', sleeper)).stdout.trim();
      undo.unshift(() => exec('kill', [pid]));
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
  };
  const cleanup = async (): Promise<void> => {
    for (const step of undo) await step();
  };
  return { port: new FileHost(), outside, cleanup };
}

async function fakeSubject(): Promise<Subject<Host, Outside>> {
  const { host, modules } = fakeMachine();
  const outside: Outside = {
    loadIpvs: async () => modules.probe('ip_vs'),
    useElsewhere: async (how) =>
      void host.otherNamespaces.push(how === 'mount' ? '/run/netns/elsewhere' : '4711'),
  };
  return { port: host, outside, cleanup: async () => undefined };
}

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe.each([subject])('Host ($name)', ({ make }) => {
  let host: Host;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port: host, outside, cleanup } = await make());
  });
  afterEach(() => cleanup());

  it('reads, writes and lists sysctls', async () => {
    expect(await host.readSysctl('net/ipv4/ip_forward')).toMatch(/^[01]$/);
    await host.writeSysctl('net/ipv4/ip_forward', '0');
    expect(await host.readSysctl('net/ipv4/ip_forward')).toBe('0');
    await host.writeSysctl('net/ipv4/ip_forward', '1');
    expect(await host.readSysctl('net/ipv4/ip_forward')).toBe('1');
    expect(await host.readSysctl('net/ipv4/nosuch')).toBeUndefined();
    await expect(host.writeSysctl('net/ipv4/nosuch', '1')).rejects.toMatchObject({ code: 'NotFound' });
    expect(await host.listSysctls('net/ipv4')).toContain('ip_forward');
    expect(await host.listSysctls('net/nosuch')).toEqual([]);
  });

  it('sees the sysctls of ip_vs while it is loaded', async () => {
    expect(await host.listSysctls('net/ipv4/vs')).toEqual([]);
    await outside.loadIpvs();
    expect(await host.readSysctl('net/ipv4/vs/conn_reuse_mode')).toBe('1');
    const names = await host.listSysctls('net/ipv4/vs');
    expect(names).toEqual([...names].sort());
    expect(names).toContain('expire_nodest_conn');
  });

  it('names this boot and what the kernel has', async () => {
    expect(await host.bootId()).toMatch(/^[0-9a-f-]{36}$/);
    expect(await host.hasBtf()).toBe(true);
    expect(host.missingPrivileges()).toEqual([]);
  });

  it('finds virtual servers in other network namespaces', async () => {
    expect(await host.namespacesUsingIpvs()).toEqual([]);
    await outside.loadIpvs();
    expect(await host.namespacesUsingIpvs()).toEqual([]);
    await outside.useElsewhere('mount');
    expect(await host.namespacesUsingIpvs()).toEqual(['/run/netns/elsewhere']);
  });

  it('names a process of such a namespace', async () => {
    await outside.loadIpvs();
    await outside.useElsewhere('process');
    expect(await host.namespacesUsingIpvs()).toEqual([expect.stringMatching(/^[0-9]+$/)]);
  });
});
