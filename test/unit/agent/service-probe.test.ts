// SPDX-License-Identifier: Apache-2.0
/** Services that are newly accelerated are probed, once, and those that do not work so go back to the native path. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { KubernetesAgent } from '../../../src/agent/kubernetes.ts';
import type { SliceService } from '../../../src/api/resources.ts';
import { HostError } from '../../../src/core/errors.ts';
import { PROBES_A_LOOK } from '../../../src/core/service-probe.ts';
import type { ServiceEntry } from '../../../src/datapath-ports.ts';
import { type FakeNode, fakeNode } from '../../fakes/fake-node.ts';
import { realServer, virtualServer } from '../builders.ts';
import { agentOf, type Disk, OneNode, SECOND_REVISION, SERVICE, SPEC, VIP } from './one-node.ts';

const WEB = `TCP ${VIP} 80`;
const WEB_NODE_PORT = 'TCP 192.0.2.1 30080';
const DB = 'TCP 10.96.0.20 80';
const ALL = `${WEB}, ${DB}, ${WEB_NODE_PORT}`;

let node: FakeNode;
let api: OneNode;
let disk: Disk;

function serviceAt(name: string, address: string, change: Partial<SliceService> = {}): SliceService {
  const ports = [{ port: 80, protocol: 'TCP' as const }];
  return {
    namespace: 'shop',
    name,
    virtualServers: [{ addresses: [address], ports, snatMode: 'External' }],
    nodePorts: [],
    ...change,
  };
}

async function started(): Promise<KubernetesAgent> {
  const agent = agentOf(node, api, disk);
  await agent.start();
  return agent;
}

/** Looks as the agent's loop does, with its pauses. */
async function look(agent: KubernetesAgent, times = 1): Promise<void> {
  for (let i = 0; i < times; i += 1) {
    await agent.look();
    await node.ports.clock.sleep(5_000);
  }
}

/** What was probed since the last call, a list a look. */
function probes(): string[] {
  const prefix = 'serviceProbe.run ';
  const found = node.machine.calls.changes.filter((change) => change.startsWith(prefix));
  node.machine.calls.reset();
  return found.map((change) => change.slice(prefix.length));
}

async function whitelisted(): Promise<string[]> {
  const name = ({ protocol, address, port }: ServiceEntry) => `${protocol} ${address} ${port}`;
  return (await node.machine.datapath.services()).map(name).sort();
}

beforeEach(() => {
  node = fakeNode();
  api = new OneNode();
  disk = { memory: {} };
  api.services = [SERVICE, serviceAt('db', '10.96.0.20')];
  node.machine.ipvs.seed(
    virtualServer(VIP),
    virtualServer('192.0.2.1', { port: 30080 }),
    virtualServer('10.96.0.20'),
  );
  node.machine.kubeProxy.start(4711);
});

describe('Services are probed', () => {
  it('once they are accelerated, and not again', async () => {
    const agent = await started();
    await look(agent, 20);
    expect(probes()).toEqual([ALL]);
    await look(await started(), 2);
    expect(probes()).toEqual([]);
    expect(disk.memory.progress?.unprobed).toBeUndefined();
  });

  it('when they are new, or their entry is', async () => {
    const agent = await started();
    await look(agent);
    probes();
    node.machine.ipvs.seed(virtualServer('10.96.0.30'));
    const db = serviceAt('db', '10.96.0.20');
    const [ports] = db.virtualServers;
    if (ports === undefined) throw new Error('no ports');
    const changed = { ...db, virtualServers: [{ ...ports, snatMode: 'Always' as const }] };
    api.services = [SERVICE, changed, serviceAt('new', '10.96.0.30')];
    await look(agent, 3);
    expect(probes()).toEqual([`${DB}, TCP 10.96.0.30 80`]);
  });

  it('all of them again with other programs or another module', async () => {
    const agent = await started();
    await look(agent);
    probes();
    node.machine.datapath.objectHash = 'b'.repeat(64);
    await look(agent, 3);
    expect(probes()).toEqual([ALL]);
    node.machine.host.control('net/ipv4/vs/bpf_mode', '0');
    await look(agent, 3);
    expect(probes()).toEqual([]);
    api.edit({
      revision: 'r2',
      datapath: { ...SPEC.datapath, sessionMapMaxEntries: 8192 },
      disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' },
    });
    await look(agent, 3);
    expect(probes()).toEqual([ALL]);
  });

  it('not where the answer could not come back, or nobody could give one', async () => {
    const ports = [{ port: 80, protocol: 'TCP' as const }];
    api.services = [
      serviceAt('local', '10.96.0.20', {
        virtualServers: [{ addresses: ['10.96.0.20'], ports, snatMode: 'Never' }],
      }),
      serviceAt('udp', '10.96.0.40', {
        virtualServers: [
          { addresses: ['10.96.0.40'], ports: [{ port: 53, protocol: 'UDP' }], snatMode: 'Always' },
        ],
      }),
      serviceAt('empty', '10.96.0.50'),
      serviceAt('late', '10.96.0.60'),
    ];
    node.machine.ipvs.seed(
      virtualServer('10.96.0.40', { protocol: 'UDP', port: 53 }),
      virtualServer('10.96.0.50', { realServers: [realServer('10.0.0.1', { weight: 0 })] }),
    );
    const agent = await started();
    await look(agent, 5);
    expect(probes()).toEqual([]);
    node.machine.ipvs.seed(virtualServer('10.96.0.50'), virtualServer('10.96.0.60'));
    await look(agent, 3);
    expect(probes()).toEqual(['TCP 10.96.0.50 80, TCP 10.96.0.60 80']);
  });

  it('a few in one look', async () => {
    const names = Array.from({ length: PROBES_A_LOOK + 5 }, (_, index) => `10.96.1.${100 + index}`);
    api.services = names.map((address) => serviceAt(`s${address}`, address));
    node.machine.ipvs.seed(...names.map((address) => virtualServer(address)));
    const agent = await started();
    await agent.look();
    await agent.look();
    await node.ports.clock.sleep(5_000);
    await look(agent, 3);
    const counts = probes().map((list) => list.split(', ').length);
    expect(counts).toEqual([PROBES_A_LOOK, 5]);
  });

  it('also those that an agent which was killed had put', async () => {
    const agent = await started();
    node.machine.calls.crashAt(await changeOf('datapath.putService'), 'after');
    await expect(agent.look()).rejects.toThrow();
    node.machine.calls.reset();
    await look(await started(), 2);
    expect(probes()).toEqual([ALL]);
  });
});

describe('a Service of which the probe fails', () => {
  it('goes back to the native path, alone, and status says why', async () => {
    node.serviceProbe.broken.add(WEB);
    await look(await started());
    expect(await whitelisted()).toEqual([DB]);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.condition('Drifted')).toBe('False InSync');
    expect(api.status).toMatchObject({
      appliedRevision: 'r1',
      services: { accelerated: 1, rejected: 1, virtualServers: 1 },
      rejectedServices: [{ namespace: 'shop', name: 'web', reason: 'ProbeFailed' }],
      lastFailure: {
        step: 'probeService',
        revision: 'r1',
        reason: 'ProbeFailed',
        rung: 'ServiceOff',
        rollback: 'Succeeded',
      },
    });
    expect(api.status?.lastFailure?.message).toMatch(
      /^Service shop\/web: TCP 10\.96\.0\.10 port 80: no conn/,
    );
    expect(api.status?.rejectedServices?.[0]?.message).toContain('TCP 10.96.0.10 port 80: no connection');
  });

  it('stays there, also for the next agent, and nothing is done again', async () => {
    node.serviceProbe.broken.add(WEB);
    await look(await started(), 2);
    node.serviceProbe.broken.clear();
    const { writes } = api;
    probes();
    await look(await started(), 3);
    expect(probes()).toEqual([]);
    expect(await whitelisted()).toEqual([DB]);
    expect(api.writes).toBe(writes);
  });

  it('is tried again when the operator asks', async () => {
    node.serviceProbe.broken.add(WEB);
    const agent = await started();
    await look(agent);
    api.edit({ attempt: 2 });
    await look(agent, 2);
    expect(api.status).toMatchObject({ attempt: 2, lastFailure: { rung: 'ServiceOff' } });
    node.serviceProbe.broken.clear();
    probes();
    api.edit({ attempt: 3 });
    await look(agent, 2);
    expect(probes()).toEqual([`${WEB}, ${WEB_NODE_PORT}`]);
    expect(await whitelisted()).toEqual([WEB, DB, WEB_NODE_PORT].sort());
    expect(api.status?.attempt).toBe(3);
    expect(api.status?.lastFailure).toBeUndefined();
    expect(api.status?.rejectedServices).toEqual([]);
  });

  it('is tried again when its entry changes, and forgotten when it is no longer asked for', async () => {
    node.serviceProbe.broken.add(WEB).add(DB);
    const agent = await started();
    await look(agent);
    expect(await whitelisted()).toEqual([]);
    node.serviceProbe.broken.clear();
    api.services = [{ ...SERVICE, nodePorts: [] }, serviceAt('db', '10.96.0.20')];
    await look(agent);
    expect(await whitelisted()).toEqual([WEB]);
    expect(api.status?.lastFailure).toMatchObject({ rung: 'ServiceOff' });
    api.services = [{ ...SERVICE, nodePorts: [] }];
    await look(agent);
    expect(api.status?.lastFailure).toBeUndefined();
    expect(disk.memory.progress?.servicesOff).toEqual([]);
  });

  it('is tried again with a new revision, and not before it is applied', async () => {
    node.serviceProbe.broken.add(WEB);
    const agent = await started();
    await look(agent);
    node.serviceProbe.broken.clear();
    const datapath = { ...SPEC.datapath, sessionMapMaxEntries: 8192 };
    api.edit({ revision: 'r2', datapath });
    await look(agent, 2);
    expect(await whitelisted()).toEqual([DB]);
    api.edit({ disruptionGrant: { revision: 'r2', expiresAt: '2026-01-02T04:00:00Z' } });
    await look(agent, 2);
    expect(await whitelisted()).toEqual([WEB, DB, WEB_NODE_PORT].sort());
    expect(api.status?.appliedRevision).toBe('r2');
    expect(api.status?.lastFailure).toBeUndefined();
  });

  it('does not hide the failure of a revision, which is not tried again by that', async () => {
    const agent = await started();
    await look(agent);
    api.edit(SECOND_REVISION);
    node.machine.calls.fail('ipvs.flush', new HostError('it does not work', { code: 'SystemError' }));
    await look(agent);
    node.serviceProbe.broken.add('TCP 10.96.0.30 80');
    node.machine.ipvs.seed(virtualServer('10.96.0.30'));
    api.services = [SERVICE, serviceAt('new', '10.96.0.30')];
    await look(agent, 2);
    expect(api.status).toMatchObject({
      appliedRevision: 'r1',
      lastFailure: { revision: 'r2', step: 'flush' },
      rejectedServices: [{ name: 'new', reason: 'ProbeFailed' }],
    });
  });
});

describe('nothing is concluded', () => {
  it('while a real server does not answer; after three times it is left alone', async () => {
    node.serviceProbe.broken.add(DB);
    node.serviceProbe.silent.add('10.0.0.2:8080');
    api.services = [serviceAt('db', '10.96.0.20')];
    await look(await started(), 6);
    expect(probes()).toEqual([DB, DB, DB]);
    expect(await whitelisted()).toEqual([DB]);
    expect(api.status?.lastFailure).toBeUndefined();
  });

  it('from a probe that cannot be made', async () => {
    node.machine.calls.fail(
      'serviceProbe.run',
      new HostError('no namespace', { code: 'PermissionDenied' }),
      9,
    );
    await look(await started(), 6);
    expect(probes()).toHaveLength(3);
    expect(api.condition('Ready')).toBe('True Accelerating');
    expect(api.status?.rejectedServices).toEqual([]);
    expect(node.log.lines.some(({ fields }) => fields.reason === 'no namespace')).toBe(true);
  });

  it('of a virtual server that kube-proxy changes meanwhile', async () => {
    node.serviceProbe.broken.add(DB);
    node.serviceProbe.meanwhile = () => {
      node.serviceProbe.meanwhile = () => {};
      node.machine.ipvs.seed(virtualServer('10.96.0.20', { realServers: [realServer('10.0.0.3')] }));
    };
    const agent = await started();
    await look(agent);
    expect(await whitelisted()).toContain(DB);
    await look(agent);
    expect(await whitelisted()).not.toContain(DB);
  });

  it('before the node passes its own probe', async () => {
    const failure = new HostError('it does not work', { code: 'SystemError' });
    node.machine.calls.fail('selfCheck.run', failure, 99);
    await look(await started(), 3);
    expect(probes()).toEqual([]);
  });
});

/** The number of a change in a look that nothing disturbs. */
async function changeOf(name: string): Promise<number> {
  const other = fakeNode();
  other.machine.ipvs.seed(...node.machine.ipvs.table);
  other.machine.kubeProxy.start(4711);
  const agent = agentOf(other, api, { memory: {} });
  await agent.start();
  await agent.look();
  api.status = undefined;
  const index = other.machine.calls.changes.findIndex((change) => change.startsWith(name));
  return index;
}
