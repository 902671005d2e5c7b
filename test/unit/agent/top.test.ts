// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { type TopNode, top } from '../../../src/agent/top.ts';
import type { TrafficRates } from '../../../src/core/traffic.ts';
import type { NodeMemory } from '../../../src/ports.ts';
import type { VirtualServerTraffic } from '../../../src/traffic-ports.ts';
import { fakeMachine } from '../../fakes/fake-machine.ts';
import { FakeClock } from '../../fakes/fake-node.ts';
import { virtualServer } from '../builders.ts';
import { policySpec } from '../core/cluster/builders.ts';

const SERVICE = {
  namespace: 'a',
  name: 'web',
  virtualServers: [
    { addresses: ['10.96.0.1'], ports: [{ port: 80, protocol: 'TCP' as const }], snatMode: 'Never' as const },
  ],
  nodePorts: [],
};

describe('top on a node', () => {
  const machine = fakeMachine();
  const clock = new FakeClock();
  let shown: TrafficRates[];
  let packets: number;
  let memory: NodeMemory;
  let node: TopNode;

  beforeEach(() => {
    shown = [];
    packets = 0;
    memory = {};
    const read = async (): Promise<readonly VirtualServerTraffic[]> => {
      packets += 10;
      const totals = { connections: 1, inPackets: packets, outPackets: 0, inBytes: 0, outBytes: 0 };
      return [{ server: virtualServer('10.96.0.1'), totals, connections: 4 }];
    };
    const { datapath, links } = machine;
    node = {
      ports: { datapath, links, clock },
      traffic: { read },
      memories: { read: async () => memory, write: async () => {} },
    };
  });

  const run = (times: number | undefined, goOn = () => true, meanwhile: () => void = () => {}) =>
    top(node, {
      intervalMs: 2_000,
      times,
      show: (rates) => {
        shown.push(rates);
        return goOn();
      },
      pause: async (milliseconds) => {
        meanwhile();
        await clock.sleep(milliseconds);
        return 'elapsed';
      },
    });

  it('shows what IPVS counts where nothing of ours is loaded', async () => {
    await run(2);
    expect(shown).toHaveLength(2);
    expect(shown[1]?.rows).toEqual([
      expect.objectContaining({
        name: 'TCP 10.96.0.1 port 80',
        whitelisted: false,
        sessions: 0,
        acceleratedShare: 0,
        inPacketsPerSecond: 5,
      }),
    ]);
  });

  it('shows sessions, and names of Services that the agent knows', async () => {
    const { datapath } = machine;
    await datapath.load({
      sessionMapMaxEntries: 1024,
      constants: { portRanges: [{ first: 1024, last: 2048 }] },
    });
    const entry = { address: '10.96.0.1', port: 80, protocol: 'TCP' as const, snat: 'Never' as const };
    await datapath.putService({ ...entry, id: 5, dropOnFull: false });
    datapath.sessionsById = new Map([[5, 3]]);
    datapath.forwardedById.set(5, 0);
    const { snat, ipvs, datapath: settings } = policySpec();
    const spec = {
      policyRef: { name: 'p', uid: 'u' },
      action: 'Apply' as const,
      mode: 'Enabled' as const,
      revision: 'r',
      attempt: 1,
      timeouts: { stepSeconds: 1, nodeSeconds: 1 },
      driftPolicy: 'Correct' as const,
      snat,
      ipvs,
      datapath: settings,
      module: { activation: 'Live' as const },
    };
    memory = { target: { generation: 1, spec, services: [SERVICE] } };
    await run(
      1,
      () => true,
      () => datapath.forwardedById.set(5, 8),
    );
    expect(shown[0]?.rows).toEqual([
      expect.objectContaining({
        name: 'a/web',
        whitelisted: true,
        sessions: 3,
        acceleratedShare: 0.75,
        forwardedShare: 0.8,
      }),
    ]);
  });

  it('ends when nobody looks any more, and when it is told to stop', async () => {
    await run(undefined, () => shown.length < 3);
    expect(shown).toHaveLength(3);
    let pauses = 0;
    await top(node, {
      intervalMs: 1,
      show: () => true,
      pause: async () => (++pauses < 3 ? 'elapsed' : 'stop'),
    });
    expect(pauses).toBe(3);
  });
});
