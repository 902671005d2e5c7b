// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { killPoint } from '../../../src/agent/kill-point.ts';
import { ConfigError, readConfig } from '../../../src/agent/read-config.ts';
import { status, up } from '../../../src/agent/reconcile.ts';
import { statusText } from '../../../src/agent/report.ts';
import { run } from '../../../src/agent/run.ts';
import { HostError } from '../../../src/core/errors.ts';
import { fakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, virtualServer } from '../builders.ts';

describe('run', () => {
  /** Runs through these wake-ups. */
  async function runThrough(
    wakeups: readonly ('elapsed' | 'reload' | 'stop')[],
    read: () => Promise<ReturnType<typeof nodeConfig>> = async () => nodeConfig(),
  ) {
    const node = fakeNode();
    node.machine.ipvs.seed(virtualServer('198.51.100.10'));
    const { calls } = node.machine;
    const changesAtPause: number[] = [];
    await run(nodeConfig(), node, {
      intervalMs: 1000,
      readConfig: read,
      pause: async () => {
        changesAtPause.push(calls.changes.length);
        return wakeups[changesAtPause.length - 1] ?? 'stop';
      },
    });
    return { node, changesAtPause };
  }

  it('converges at once, and changes nothing when it is told to stop', async () => {
    const { node, changesAtPause } = await runThrough(['elapsed', 'stop']);
    expect(node.machine.host.sysctls.get('net/ipv4/vs/bpf_mode')).toBe('1');
    const { length } = node.machine.calls.changes;
    expect(changesAtPause).toEqual([length, length]);
  });

  it('takes a new config when told to, and keeps the old one if the new one is bad', async () => {
    const configs = [
      async () => nodeConfig({ mode: 'Disabled' }),
      async () => Promise.reject(new ConfigError('bad')),
    ];
    const { node } = await runThrough(['reload', 'reload', 'elapsed'], () =>
      (configs.shift() as () => never)(),
    );
    expect(node.machine.host.sysctls.get('net/ipv4/vs/bpf_mode')).toBe('0');
    expect(node.log.lines.at(-1)).toMatchObject({ level: 'error', fields: { reason: 'bad' } });
  });

  it('waits longer after each failure, and is back to the interval after a success', async () => {
    const node = fakeNode();
    const pauses: number[] = [];
    node.machine.calls.fail('datapath.load', new HostError('no', { code: 'SystemError' }), 2);
    await run(nodeConfig(), node, {
      intervalMs: 1000,
      readConfig: async () => nodeConfig(),
      pause: async (milliseconds) => {
        pauses.push(milliseconds);
        return pauses.length === 3 ? 'stop' : 'elapsed';
      },
    });
    expect(pauses).toEqual([2000, 4000, 1000]);
  });
});

describe('a config file', () => {
  const directory = mkdtempSync(join(tmpdir(), 'config-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  const file = (text: string): string => {
    const path = join(directory, 'config');
    writeFileSync(path, text);
    return path;
  };

  it.each([
    {
      name: 'YAML',
      text: 'apiVersion: ipvs-bpf.io/v1alpha1\nkind: NodeConfig\nmode: Enabled\nservices: {all: true}\n',
    },
    {
      name: 'JSON',
      text: '{"apiVersion":"ipvs-bpf.io/v1alpha1","kind":"NodeConfig","mode":"Enabled","services":{"all":true}}',
    },
    {
      name: 'YAML in braces',
      text: '{apiVersion: ipvs-bpf.io/v1alpha1, kind: NodeConfig, mode: Enabled, services: {all: true}}',
    },
  ])('may be $name', async ({ text }) => {
    expect(await readConfig(file(text))).toMatchObject({ mode: 'Enabled', services: { all: true } });
  });

  it('that is no YAML is refused with line and column', async () => {
    await expect(readConfig(file('mode: Enabled\nmode: Disabled\n'))).rejects.toThrow(
      /Map keys must be unique at line 2/,
    );
  });

  it('that is not there is refused', async () => {
    await expect(readConfig(join(directory, 'none'))).rejects.toThrow(ConfigError);
  });
});

describe('the kill point', () => {
  const flush = { kind: 'flush' } as const;
  const load = { kind: 'loadModule', name: 'ip_vs_rr', wasLoaded: false } as const;

  it.each([
    { text: 'flush:before', expected: ['flush before'] },
    { text: 'loadModule ip_vs_rr:applied', expected: ['loadModule applied'] },
    { text: '', expected: [] },
    { text: undefined, expected: [] },
  ])('$text', ({ text, expected }) => {
    const killed: string[] = [];
    for (const step of [flush, load]) {
      for (const moment of ['before', 'applied'] as const) {
        killPoint(text, () => killed.push(`${step.kind} ${moment}`))(step, moment);
      }
    }
    expect(killed).toEqual(expected);
  });

  it('refuses what it does not know', () => {
    expect(() => killPoint('flush:during', () => {})).toThrow(RangeError);
  });
});

describe('the status for people', () => {
  it('names everything and what differs', async () => {
    const node = fakeNode();
    node.machine.ipvs.seed(virtualServer('198.51.100.10'));
    const config = nodeConfig({ ipvs: { connReuseMode: 2 } });
    await up(config, node);
    node.machine.datapath.strip(2);
    node.machine.datapath.count('Snat', 3);
    expect(statusText(await status(config, node))).toBe(`Mode      Enabled
Module    Patched PATCHED0123456789ABCDEF
Kernel    6.1.0-56-amd64
Switch    On
Sessions  0 of 262144

Virtual servers
  TCP  198.51.100.10:80  native (ProgramsNotAttached)

Interfaces
  eth0  None  ingress missing   egress missing
  eth1  TCX   ingress attached  egress attached

Sysctls
  net.ipv4.vs.conn_reuse_mode  2

Counters
  Snat  3

Differences:
  to be done: attach eth0 Ingress
  to be done: attach eth0 Egress
  not accelerated: TCP 198.51.100.10 port 80: ProgramsNotAttached
`);
  });
});
