// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ratesOf, sumOfNodes, type TrafficLook } from '../../../src/core/traffic.ts';
import { trafficScreen, trafficText } from '../../../src/core/traffic-text.ts';
import type { VirtualServerTotals, VirtualServerTraffic } from '../../../src/traffic-ports.ts';
import { virtualServer } from '../builders.ts';

const NOTHING = { connections: 0, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 };

function server(
  address: string,
  totals: Partial<VirtualServerTotals> = {},
  connections = 0,
): VirtualServerTraffic {
  return { server: virtualServer(address), totals: { ...NOTHING, ...totals }, connections };
}

function entry(address: string, id: number) {
  return { address, port: 80, protocol: 'TCP' as const, id, snat: 'Never' as const, dropOnFull: false };
}

function look(change: Partial<TrafficLook>): TrafficLook {
  return {
    at: 0,
    servers: [],
    whitelist: [],
    sessions: new Map(),
    forwarded: new Map(),
    counters: {},
    services: new Map(),
    ...change,
  };
}

describe('the rates of a node', () => {
  it('are differences of two looks, by the second', () => {
    const before = look({
      at: 1_000,
      servers: [server('10.96.0.1', { connections: 5, inPackets: 100 })],
      forwarded: new Map([[7, 1_000]]),
    });
    const after = look({
      at: 3_000,
      servers: [server('10.96.0.1', { connections: 9, inPackets: 160, outPackets: 40, inBytes: 8_000 }, 8)],
      whitelist: [entry('10.96.0.1', 7)],
      sessions: new Map([
        [7, 6],
        [8, 100],
      ]),
      forwarded: new Map([
        [7, 1_080],
        [8, 9],
      ]),
    });
    expect(ratesOf(before, after)).toEqual({
      seconds: 2,
      translatedPerSecond: 0,
      droppedPerSecond: 0,
      rows: [
        {
          name: 'TCP 10.96.0.1 port 80',
          whitelisted: true,
          acceleratedShare: 0.75,
          forwardedShare: 0.8,
          connections: 8,
          sessions: 6,
          connectionsPerSecond: 2,
          inPacketsPerSecond: 30,
          outPacketsPerSecond: 20,
          inBytesPerSecond: 4_000,
          outBytesPerSecond: 0,
          forwardedPerSecond: 40,
        },
      ],
    });
  });

  it('begin anew with counters that went back, as after an exchange of the module', () => {
    const before = look({ servers: [server('10.96.0.1', { inPackets: 1_000 })], counters: { Snat: 900 } });
    const after = look({
      at: 1_000,
      servers: [server('10.96.0.1', { inPackets: 10 })],
      counters: { Snat: 4 },
    });
    expect(ratesOf(before, after)).toMatchObject({
      translatedPerSecond: 4,
      rows: [{ inPacketsPerSecond: 10 }],
    });
  });

  it('of a Service are those of all its virtual servers', () => {
    const services = new Map([
      ['TCP 10.96.0.1 80', 'a/web'],
      ['TCP 192.0.2.1 80', 'a/web'],
    ]);
    const after = look({
      at: 1_000,
      services,
      servers: [server('10.96.0.1', { inPackets: 10 }, 4), server('192.0.2.1', { inPackets: 5 }, 4)],
      whitelist: [entry('10.96.0.1', 1)],
      sessions: new Map([[1, 4]]),
    });
    expect(ratesOf(look({}), after).rows).toEqual([
      expect.objectContaining({
        name: 'a/web',
        whitelisted: false,
        connections: 8,
        sessions: 4,
        acceleratedShare: 0.5,
        inPacketsPerSecond: 15,
      }),
    ]);
  });

  it('have no share of nothing, and never more than all', () => {
    const shares = (connections: number) => {
      const after = look({
        at: 1_000,
        servers: [server('10.96.0.1', { inPackets: connections }, connections)],
        whitelist: [entry('10.96.0.1', 1)],
        sessions: new Map([[1, 5]]),
        forwarded: new Map([[1, 5]]),
      });
      const [row] = ratesOf(look({}), after).rows;
      return [row?.acceleratedShare, row?.forwardedShare];
    };
    expect(shares(0)).toEqual([null, null]);
    expect(shares(4)).toEqual([1, 1]);
  });

  it('count what was dropped, whatever for', () => {
    const counters = {
      Snat: 10,
      SnatReversed: 10,
      ForwardRequest: 60,
      ForwardReply: 40,
      DropNoPort: 3,
      DropMalformed: 1,
      SessionAdded: 99,
    };
    expect(ratesOf(look({}), look({ at: 2_000, counters }))).toMatchObject({
      translatedPerSecond: 60,
      droppedPerSecond: 2,
    });
  });
});

describe('what top shows', () => {
  const rates = (names: readonly string[], packets: number) =>
    ratesOf(
      look({}),
      look({
        at: 1_000,
        servers: names.map((name) => server(name, { inPackets: packets, connections: packets }, 2)),
        services: new Map(names.map((name) => [`TCP ${name} 80`, `a/${name}`])),
      }),
    );

  it('is the sum of several nodes, the busiest first', () => {
    const sum = sumOfNodes([rates(['10.0.0.1', '10.0.0.2'], 12_000), rates(['10.0.0.2'], 4_000_000)]);
    expect(`\n${trafficText(sum, { lines: 10 })}`).toMatchInlineSnapshot(`
      "
      tc programs: 0 packets/s translated, 0 packets/s dropped
      SERVICE     WHITELISTED  CONNECTIONS  SESSIONS  ACCELERATED  FORWARDED  CONN/S  PKT/S IN  PKT/S OUT  BYTES/S IN  BYTES/S OUT
      a/10.0.0.2  no           4            0         0%           0%         4.0M    4.0M      0          0           0
      a/10.0.0.1  no           2            0         0%           0%         12.0k   12.0k     0          0           0
      "
    `);
  });

  it('is no more than the lines that were asked for', () => {
    const text = trafficText(rates(['10.0.0.1', '10.0.0.2', '10.0.0.3'], 1), { lines: 2 });
    expect(text).not.toContain('10.0.0.3');
    expect(text).toContain('and 1 more');
  });

  it('replaces the look before on a terminal only', () => {
    const one = rates(['10.0.0.1'], 1);
    expect(trafficScreen(one, { lines: 5, terminal: true }).startsWith('\u001b[H\u001b[J')).toBe(true);
    expect(trafficScreen(one, { lines: 5, terminal: true, once: true })).toMatch(/^tc programs/);
    expect(trafficScreen(one, { lines: 5, terminal: false })).toMatch(/^tc programs/);
  });
});
