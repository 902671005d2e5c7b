// SPDX-License-Identifier: Apache-2.0
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FileHost } from '../../../src/adapters/host.ts';

const HEADER = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
`;

let root: string;

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}

async function process(pid: string, namespace: string, table: string): Promise<void> {
  await put(`proc/${pid}/net/ip_vs`, table);
  await mkdir(join(root, `proc/${pid}/ns`));
  await symlink(namespace, join(root, `proc/${pid}/ns/net`));
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'host-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true });
});

/** A namespace that is mounted and has no process, and what `nsenter` does about it. */
async function mounted(nsenter: string): Promise<void> {
  await put('proc/net/ip_vs', HEADER);
  await put('proc/self/mountinfo', '36 35 0:4 net:[9] /run/netns/a rw - nsfs nsfs rw\n');
  await put('bin/nsenter', `#!/bin/sh\n${nsenter}\n`);
  await chmod(join(root, 'bin/nsenter'), 0o755);
  vi.stubEnv('PATH', `${join(root, 'bin')}:/usr/bin:/bin`);
}

describe('FileHost', () => {
  it('writes sysctls that are there, and creates none', async () => {
    await put('proc/sys/net/ipv4/vs/conntrack', '0\n');
    const host = new FileHost({ root });
    expect(await host.readSysctl('net/ipv4/vs/conntrack')).toBe('0');
    await host.writeSysctl('net/ipv4/vs/conntrack', '1');
    expect(await readFile(join(root, 'proc/sys/net/ipv4/vs/conntrack'), 'utf8')).toMatch(/^1/);
    await expect(host.writeSysctl('net/ipv4/vs/other', '1')).rejects.toMatchObject({ code: 'NotFound' });
    expect(await host.listSysctls('net/ipv4/vs')).toEqual(['conntrack']);
  });

  it('writes where a container has what can be written', async () => {
    await put('proc/sys/net/ipv4/ip_forward', '0\n');
    await put('host-sysctl/net/ipv4/ip_forward', '0\n');
    const host = new FileHost({ root, sysctls: join(root, 'host-sysctl') });
    await host.writeSysctl('net/ipv4/ip_forward', '1');
    expect(await host.readSysctl('net/ipv4/ip_forward')).toMatch(/^1/);
    expect(await readFile(join(root, 'proc/sys/net/ipv4/ip_forward'), 'utf8')).toBe('0\n');
  });

  it('names the capabilities that are missing', async () => {
    const missing = async (mask: string) => {
      await put('proc/self/status', `Name:\tnode\nCapEff:\t${mask}\nCapBnd:\t0000000000000000\n`);
      return new FileHost({ root }).missingPrivileges().filter((name) => name !== 'root');
    };
    expect(await missing('000001ffffffffff')).toEqual([]);
    expect(await missing('0000000000291400')).toEqual([]);
    expect(await missing('0000000000281000')).toEqual(['CAP_NET_BIND_SERVICE', 'CAP_SYS_MODULE']);
  });

  it('asks the machine itself whether it is locked down, not the container', async () => {
    await put('host/sys/kernel/security/lockdown', 'none [integrity] confidentiality\n');
    expect(await new FileHost({ root }).requiresSignedModules()).toBe(false);
    expect(await new FileHost({ root, hostRoot: join(root, 'host') }).requiresSignedModules()).toBe(true);
  });

  it('tells a kernel with BTF from one without', async () => {
    expect(await new FileHost({ root }).hasBtf()).toBe(false);
    await put('sys/kernel/btf/vmlinux', '');
    expect(await new FileHost({ root }).hasBtf()).toBe(true);
  });

  it('finds one process for each other network namespace with virtual servers', async () => {
    const used = `${HEADER}TCP  C0000201:0050 rr\n`;
    await put('proc/net/ip_vs', used);
    await process('self', 'net:[1]', used);
    await process('10', 'net:[1]', used);
    await process('11', 'net:[2]', HEADER);
    await process('12', 'net:[3]', used);
    await process('13', 'net:[3]', used);
    expect(await new FileHost({ root }).namespacesUsingIpvs()).toEqual(['12']);
  });

  it('leaves out a namespace that goes while it is looked at', async () => {
    await mounted(`rm ${join(root, 'proc/self/mountinfo')}; exit 1`);
    expect(await new FileHost({ root }).namespacesUsingIpvs()).toEqual([]);
  });

  it('fails if a namespace is there and cannot be looked at', async () => {
    await mounted('echo no >&2; exit 1');
    await expect(new FileHost({ root }).namespacesUsingIpvs()).rejects.toThrow('/run/netns/a');
  });

  it('finds none without IPVS', async () => {
    await process('10', 'net:[1]', '');
    expect(await new FileHost({ root }).namespacesUsingIpvs()).toEqual([]);
  });
});
