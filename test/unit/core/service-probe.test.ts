// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  type Probed,
  unprobedAfter,
  unprobedAfterLook,
  withoutChanged,
} from '../../../src/core/service-probe.ts';
import { entryName, serversOff, stillOff, withServiceOff } from '../../../src/core/services-off.ts';
import type { ServiceEntry } from '../../../src/datapath-ports.ts';
import type { ServiceVerdict, VirtualServer } from '../../../src/ports.ts';
import { nodeConfig, realServer, virtualServer } from '../builders.ts';

const WEB = 'TCP 198.51.100.10 80';

function entry(change: Partial<ServiceEntry> = {}): ServiceEntry {
  const end = { address: '198.51.100.10', port: 80, protocol: 'TCP' } as const;
  return { ...end, id: 1, snat: 'External', dropOnFull: false, ...change };
}

describe('what is to be probed', () => {
  it('is what was put, or everything after a change of module, programs or maps; only TCP', () => {
    const config = nodeConfig();
    const put = { kind: 'putService', entry: entry({ port: 81 }) } as const;
    const udp = { kind: 'putService', entry: entry({ protocol: 'UDP' }) } as const;
    expect(unprobedAfter([], [put, udp], config)).toEqual([{ server: 'TCP 198.51.100.10 81', tries: 0 }]);
    expect(unprobedAfter([], [{ kind: 'giveMaps' }], config)).toEqual([{ server: WEB, tries: 0 }]);
    expect(unprobedAfter([], [{ kind: 'setSwitch', on: true, wasOn: false }], config)).toEqual([]);
  });

  it('begins anew with a change, and keeps what waits', () => {
    const before = [
      { server: WEB, tries: 2 },
      { server: 'TCP 198.51.100.10 99', tries: 1 },
    ];
    const after = unprobedAfter(before, [{ kind: 'putService', entry: entry() }], nodeConfig());
    expect(after).toEqual([{ server: WEB, tries: 0 }, before[1]]);
  });
});

describe('what a look has told', () => {
  const server = virtualServer('198.51.100.10');
  const probed = (verdict: ServiceVerdict['verdict']): Probed[] => [
    { server, verdict: verdict === 'Passed' ? { verdict } : { verdict, message: 'why' } },
  ];
  const left = (tries: number, verdict: ServiceVerdict['verdict']) =>
    unprobedAfterLook([{ server: WEB, tries }], { probe: [server], later: [] }, probed(verdict));

  it('is enough, or is asked for again, three times in all', () => {
    expect(left(0, 'Passed')).toEqual([]);
    expect(left(0, 'Failed')).toEqual([]);
    expect(left(0, 'Unsure')).toEqual([{ server: WEB, tries: 1 }]);
    expect(left(1, 'Unsure')).toEqual([{ server: WEB, tries: 2 }]);
    expect(left(2, 'Unsure')).toEqual([]);
  });

  it('is no failure if the real servers are others now', () => {
    const verdicts = (table: readonly VirtualServer[]) =>
      withoutChanged(probed('Failed'), table).map(({ verdict }) => verdict.verdict);
    expect(verdicts([server])).toEqual(['Failed']);
    expect(verdicts([])).toEqual(['Unsure']);
    expect(verdicts([{ ...server, realServers: [realServer('10.0.0.9')] }])).toEqual(['Unsure']);
    const drained = [...server.realServers, realServer('10.0.0.9', { weight: 0 })];
    expect(verdicts([{ ...server, realServers: drained }])).toEqual(['Failed']);
  });
});

describe('a Service that was taken off', () => {
  const service = {
    namespace: 'a',
    name: 'web',
    virtualServers: [
      {
        addresses: ['198.51.100.10'],
        ports: [{ port: 80, protocol: 'TCP' as const }],
        snatMode: 'External' as const,
      },
    ],
    nodePorts: [{ port: 30080, protocol: 'TCP' as const, snatMode: 'Always' as const }],
  };
  const context = { services: [service], attempt: 1, revisions: ['r1'] };
  const off = withServiceOff([], { ...named(), servers: [WEB] });

  function named() {
    return {
      namespace: 'a',
      name: 'web',
      entry: entryName(service),
      revision: 'r1',
      attempt: 1,
      message: 'why',
    };
  }

  it('is off with one virtual server, then with more of them, then with all', () => {
    const addresses = ['192.0.2.1'];
    const keys = (services: typeof off) => [...serversOff(services, context, addresses).keys()];
    expect(keys(off)).toEqual([WEB]);
    const more = withServiceOff(off, { ...named(), servers: ['TCP 192.0.2.1 30080'] });
    expect(keys(more)).toEqual([WEB, 'TCP 192.0.2.1 30080']);
    const all = withServiceOff(off, named());
    expect(keys(all)).toEqual([WEB, 'TCP 192.0.2.1 30080']);
    expect(keys(withServiceOff(all, { ...named(), servers: [WEB] }))).toEqual([WEB, 'TCP 192.0.2.1 30080']);
    expect(withServiceOff(all, named())).toHaveLength(1);
  });

  it('is tried again with another attempt, revision or entry, and not without one', () => {
    expect(stillOff(off, context)).toHaveLength(1);
    expect(stillOff(off, { ...context, attempt: 2 })).toEqual([]);
    expect(stillOff(off, { ...context, revisions: ['r2'] })).toEqual([]);
    expect(stillOff(off, { ...context, services: [{ ...service, nodePorts: [] }] })).toEqual([]);
    expect(stillOff(off, { ...context, services: [] })).toEqual([]);
  });
});
