// SPDX-License-Identifier: Apache-2.0
/** Connections that are carried through an exchange of modules. */
import { beforeEach, describe, expect, it } from 'vitest';
import { down, up } from '../../../src/agent/reconcile.ts';
import type { SessionEnds } from '../../../src/connection-ports.ts';
import { HostError } from '../../../src/core/errors.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { nodeConfig, virtualServer } from '../builders.ts';

const CONFIG = nodeConfig({
  services: { virtualServers: [{ address: '198.51.100.10', port: 80, protocol: 'TCP' }] },
});
const BROKEN = new HostError('it does not work', { code: 'SystemError' });
const SESSION: SessionEnds = {
  family: 'IPv4',
  protocol: 'TCP',
  client: { address: '192.0.2.100', port: 40_000 },
  virtual: { address: '198.51.100.10', port: 80 },
  real: { address: '10.2.0.2', port: 8080 },
  snat: { address: '198.51.100.1', port: 20_000 },
};

let node: FakeNode;
beforeEach(() => {
  node = fakeNode();
  node.machine.ipvs.seed(virtualServer('198.51.100.10'), virtualServer('198.51.100.11'));
  node.machine.ipvs.connections = 7;
});

/** What is held back when a method is called. */
function heldAt(method: 'flush' | 'restore'): { readonly ends: readonly string[] } {
  const found: { ends: readonly string[] } = { ends: [] };
  const { ipvs, datapath } = node.machine;
  const original = ipvs[method].bind(ipvs) as (...args: unknown[]) => Promise<void>;
  Object.assign(ipvs, {
    [method]: async (...args: unknown[]) => {
      found.ends = datapath.held.map(({ protocol, address, port }) => `${protocol} ${address} ${port}`);
      await original(...args);
    },
  });
  return found;
}

describe('an exchange of modules', () => {
  it.each(['flush', 'restore'] as const)('holds back all servers of the table during %s', async (method) => {
    const { realServers } = virtualServer('198.51.100.10');
    const held = heldAt(method);
    await up(CONFIG, node);
    expect(held.ends).toContain('TCP 198.51.100.10 80');
    expect(held.ends).toContain('TCP 198.51.100.11 80');
    for (const { address, port } of realServers) expect(held.ends).toContain(`TCP ${address} ${port}`);
    expect(node.machine.datapath.held).toEqual([]);
  });

  it('keeps all connections, both ways', async () => {
    const lines = node.machine.ipvs.connectionLines;
    expect((await up(CONFIG, node)).connectionsLost).toBe(0);
    expect(node.machine.ipvs.connectionLines).toEqual(lines);
    expect((await down(node, 0)).connectionsLost).toBe(0);
    expect(node.machine.ipvs.connectionLines).toEqual(lines);
    expect(node.records.isEmpty).toBe(true);
  });

  it('does not let the kernel end them with their real servers, as kube-proxy has it', async () => {
    const { host, ipvs } = node.machine;
    const name = 'net/ipv4/vs/expire_nodest_conn';
    host.control(name, '1');
    const flush = ipvs.flush.bind(ipvs);
    let atFlush: string | undefined;
    ipvs.flush = async () => {
      atFlush = host.sysctls.get(name);
      await flush();
    };
    await up(CONFIG, node);
    expect(atFlush).toBe('0');
    expect(host.sysctls.get(name)).toBe('1');
  });

  it('has connection tracking take over what is accelerated', async () => {
    await up(CONFIG, node);
    node.machine.datapath.ends = [SESSION];
    await down(node, 0);
    expect(node.machine.connections.tracked).toEqual([{ ...SESSION, state: 'ESTABLISHED' }]);
  });

  it('has connection tracking know which are closing', async () => {
    await up(CONFIG, node);
    node.machine.datapath.ends = [SESSION];
    node.machine.ipvs.connectionLines = ['TCP C0000264 9C40 C633640A 0050 0A020002 1F90 TIME_WAIT       100'];
    await down(node, 0);
    expect(node.machine.connections.tracked).toEqual([{ ...SESSION, state: 'TIME_WAIT' }]);
  });

  it('puts connections back when it fails', async () => {
    const lines = node.machine.ipvs.connectionLines;
    node.machine.calls.fail('modules.insertFile', BROKEN);
    await expect(up(CONFIG, node)).rejects.toThrow('it does not work');
    expect(node.machine.ipvs.connectionLines).toEqual(lines);
    expect(node.machine.datapath.held).toEqual([]);
  });

  it.each(['restore', 'track'] as const)('is done without %s, and says why', async (method) => {
    await up(CONFIG, node);
    node.machine.datapath.ends = [SESSION];
    const { modules, patchedModule } = node.machine;
    const file = modules.files.get(patchedModule);
    if (file !== undefined) modules.files.set(patchedModule, { ...file, srcversion: 'NEWER' });
    node.machine.connections[method] = () => Promise.reject(BROKEN);
    await up(CONFIG, node);
    expect(modules.loadedFile('ip_vs')?.srcversion).toBe('NEWER');
    expect(node.records.disruption).toMatchObject({
      measuredBy: 'Probe',
      connectionsDropped: method === 'restore' ? 7 : 1,
      message: 'it does not work',
    });
  });

  it('says how many connections nobody can take over', async () => {
    await up(CONFIG, node);
    node.machine.datapath.ends = [SESSION, { ...SESSION, protocol: 'SCTP' }];
    let message: string | undefined;
    const { records } = node;
    const clear = records.clear.bind(records);
    records.clear = async () => {
      message = records.disruption?.message;
      await clear();
    };
    await down(node, 0);
    expect(message).toBe('connection tracking does not take over 1 accelerated connections');
  });

  it('forgets what an earlier boot has saved', async () => {
    node.records.connections = { bootId: 'another', count: 1, untracked: 0, lines: ['x'] };
    await up(CONFIG, node);
    expect(node.records.connections).toBeUndefined();
    expect(node.machine.ipvs.connectionLines).not.toContain('x');
  });
});
