// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelConnections } from '../../src/adapters/connections.ts';
import { exec } from '../../src/adapters/exec.ts';
import { NetlinkIpvs } from '../../src/adapters/ipvs.ts';
import type { Connections, SessionEnds, TrackedConnection } from '../../src/connection-ports.ts';
import { connectionKey } from '../../src/core/ipvs-sync.ts';
import { fakeMachine } from '../fakes/fake-machine.ts';
import { virtualServer } from '../unit/builders.ts';
import { ON_REAL_KERNEL, type Subject } from './subject.ts';

interface Outside {
  /** A virtual server 192.0.2.1 port 80 with the real server 198.51.100.2 port 8080, of IPv4 and of IPv6. */
  addServers(): Promise<void>;
  /** `ipvsadm -L --daemon` */
  daemons(): Promise<number>;
  /** In which state connection tracking knows the connection, with its SNAT end: UDP of that; undefined: it does not. */
  trackedState(session: SessionEnds): Promise<string | undefined>;
}

async function unloadAll(): Promise<void> {
  await exec('sh', ['-c', 'ipvsadm -C 2>/dev/null; rmmod ip_vs_rr ip_vs 2>/dev/null; true']);
}

async function realSubject(): Promise<Subject<Connections, Outside>> {
  await unloadAll();
  await exec('modprobe', ['-a', 'nf_conntrack', 'nf_nat']);
  const port = new KernelConnections();
  const ipvs = new NetlinkIpvs();
  const outside: Outside = {
    addServers: async () => {
      await exec('modprobe', ['-a', 'ip_vs', 'ip_vs_rr']);
      for (const [vip, real] of [
        ['192.0.2.1:80', '198.51.100.2:8080'],
        ['[2001:db8::1]:80', '[2001:db8:1::2]:8080'],
      ] as const) {
        await exec('ipvsadm', ['-A', '-t', vip, '-s', 'rr']);
        await exec('ipvsadm', ['-a', '-t', vip, '-r', real, '-m']);
      }
    },
    daemons: async () => (await ipvs.daemons()).length,
    trackedState: async ({ client, virtual, real, snat = client }) => {
      const { stdout } = await exec('sh', ['-c', 'conntrack -L 2>/dev/null']);
      const there = `src=${client.address} dst=${virtual.address} sport=${client.port} dport=${virtual.port}`;
      const back = `src=${real.address} dst=${snat.address} sport=${real.port} dport=${snat.port}`;
      const found = stdout.split('\n').find((line) => line.includes(`${there} ${back} [ASSURED]`));
      return found === undefined ? undefined : (/ ([A-Z_]+) src=/.exec(found)?.[1] ?? 'UDP');
    },
  };
  const cleanup = async (): Promise<void> => {
    await exec('sh', ['-c', 'conntrack -F 2>/dev/null; true']);
    await port.close();
    await ipvs.close();
    await unloadAll();
  };
  return { port, outside, cleanup };
}

async function fakeSubject(): Promise<Subject<Connections, Outside>> {
  const { connections, ipvs } = fakeMachine();
  const outside: Outside = {
    addServers: async () => ipvs.seed(virtualServer('192.0.2.1'), virtualServer('2001:db8::1')),
    daemons: async () => ipvs.runningDaemons.length,
    trackedState: async (session) =>
      connections.tracked.find((each) => isDeepStrictEqual(ends(each), ends(session)))?.state,
  };
  return { port: connections, outside, cleanup: async () => undefined };
}

function ends({ family, protocol, client, virtual, real, snat }: SessionEnds): SessionEnds {
  return { family, protocol, client, virtual, real, ...(snat === undefined ? {} : { snat }) };
}

const TCP = 'TCP CB007107 9C40 C0000201 0050 C6336402 1F90 ESTABLISHED     600';
const TCP6 =
  'TCP 2001:0db8:0000:0000:0000:0000:0000:0007 9C40 2001:0db8:0000:0000:0000:0000:0000:0001 0050 ' +
  '2001:0db8:0001:0000:0000:0000:0000:0002 1F90 FIN_WAIT        600';
const TEMPLATE = 'TCP CB007107 0000 C0000201 0050 C6336402 1F90 ASSURED         600';

const SESSION: TrackedConnection = {
  state: 'ESTABLISHED',
  family: 'IPv4',
  protocol: 'TCP',
  client: { address: '203.0.113.7', port: 40_000 },
  virtual: { address: '192.0.2.1', port: 80 },
  real: { address: '198.51.100.2', port: 8080 },
  snat: { address: '198.51.100.1', port: 20_000 },
};

const subject = ON_REAL_KERNEL ? { name: 'kernel', make: realSubject } : { name: 'fake', make: fakeSubject };

describe(`Connections (${subject.name})`, () => {
  let port: Connections;
  let outside: Outside;
  let cleanup: () => Promise<void>;
  beforeEach(async () => {
    ({ port, outside, cleanup } = await subject.make());
  });
  afterEach(() => cleanup());

  it('has none without the module, and cannot make any', async () => {
    expect(await port.list()).toEqual([]);
    await port.endRestore();
    await expect(port.restore([TCP])).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('makes connections again, with their state, and persistence templates', async () => {
    await outside.addServers();
    const lines = [TCP, TCP6, TEMPLATE];
    expect(await port.restore(lines)).toBe(3);
    const listed = await port.list();
    expect(listed.map(connectionKey).sort()).toEqual(lines.map(connectionKey).sort());
    for (const state of ['ESTABLISHED', 'FIN_WAIT', 'ASSURED'])
      expect(listed.some((line) => line.includes(` ${state} `))).toBe(true);
    expect(await outside.daemons()).toBe(0);
  });

  it('leaves those alone that are there', async () => {
    await outside.addServers();
    await port.restore([TCP]);
    expect(await port.restore([TCP, TEMPLATE])).toBe(2);
    expect(await port.list()).toHaveLength(2);
  });

  it('makes thousands', async () => {
    await outside.addServers();
    const lines = Array.from({ length: 5000 }, (_, i) =>
      TCP.replace('9C40', (10_000 + i).toString(16).toUpperCase().padStart(4, '0')),
    );
    expect(await port.restore(lines)).toBe(5000);
    expect(await port.list()).toHaveLength(5000);
  });

  it('says how many it could not make', async () => {
    await outside.addServers();
    expect(await port.restore([TCP, TCP.replace('TCP', 'ESP')])).toBe(1);
  });

  it.each([
    ['of TCP', SESSION],
    ['of UDP', { ...SESSION, protocol: 'UDP', state: 'UDP' } as const],
    [
      'of IPv6',
      {
        state: 'ESTABLISHED',
        family: 'IPv6',
        protocol: 'TCP',
        client: { address: '2001:db8::7', port: 40_000 },
        virtual: { address: '2001:db8::1', port: 80 },
        real: { address: '2001:db8:1::2', port: 8080 },
        snat: { address: '2001:db8:1::1', port: 20_000 },
      } as const,
    ],
  ])('has connection tracking know a session %s', async (_, session) => {
    expect(await port.track([session])).toBe(0);
    expect(await outside.trackedState(session)).toBe(session.state);
  });

  it('has it know a session whose client keeps its address', async () => {
    const { snat, ...kept } = SESSION;
    expect(await port.track([kept])).toBe(0);
    expect(await outside.trackedState(kept)).toBe('ESTABLISHED');
  });

  it('says that of SCTP it cannot', async () => {
    const sessions: readonly TrackedConnection[] = [SESSION, { ...SESSION, protocol: 'SCTP' }];
    expect(await port.track(sessions)).toBe(1);
    // Also when it is asked again.
    expect(await port.track(sessions)).toBe(1);
    expect(await port.track([])).toBe(0);
  });

  it.each(['FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE'])(
    'has it know that a connection is in %s by now',
    async (state) => {
      await port.track([SESSION]);
      expect(await port.track([{ ...SESSION, state }])).toBe(0);
      expect(await outside.trackedState(SESSION)).toBe(state);
    },
  );

  it('leaves to an open connection what a closing one of the same client port had', async () => {
    const closing: TrackedConnection = {
      ...SESSION,
      state: 'TIME_WAIT',
      snat: { address: '198.51.100.1', port: 20_003 },
    };
    expect(await port.track([SESSION, closing])).toBe(0);
    expect(await outside.trackedState(SESSION)).toBe('ESTABLISHED');
  });

  it('has it forget a connection that has ended', async () => {
    const other: TrackedConnection = { ...SESSION, client: { address: '203.0.113.7', port: 40_001 } };
    await port.track([SESSION, { ...other, snat: { address: '198.51.100.1', port: 20_002 } }]);
    expect(await port.track([SESSION])).toBe(0);
    expect(await outside.trackedState(SESSION)).toBe('ESTABLISHED');
    expect(
      await outside.trackedState({ ...other, snat: { address: '198.51.100.1', port: 20_002 } }),
    ).toBeUndefined();
  });

  it('has a session take the place of what another one has left', async () => {
    await port.track([SESSION]);
    const moved: TrackedConnection = { ...SESSION, snat: { address: '198.51.100.1', port: 20_001 } };
    expect(await port.track([SESSION, moved])).toBe(0);
    expect(await outside.trackedState(moved)).toBe('ESTABLISHED');
  });
});
