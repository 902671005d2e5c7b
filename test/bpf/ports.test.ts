// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { ADDRESS_ID, Datapath, type DatapathOptions, replyKey, sessionKey, VERDICT } from './datapath.ts';
import type { SessionKey } from './maps.ts';
import type { End, Transport } from './packet.ts';
import type { Finish, Start } from './racer.ts';
import { framed, prepare, real, SNAT_ADDRESS } from './scene.ts';

let datapath: Datapath;
afterEach(() => datapath[Symbol.dispose]());

function load(options: DatapathOptions): void {
  datapath = new Datapath(options);
  prepare(datapath);
}

function clientNumber(i: number): End {
  return { address: `198.51.${100 + (i >> 8)}.${i & 0xff}`, port: 40000 };
}

/** The first packet of a new session of client `i`. */
function connect(i: number, to: End = real, transport: Transport = 'TCP') {
  const client = clientNumber(i);
  const key = datapath.addSession({ client, real: to, transport });
  const { verdict, counted } = datapath.egress(framed(transport, { from: client, to }));
  return { key, verdict, counted, ...datapath.snatEnd(key) };
}

function numbers(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

const small = [
  { first: 20000, last: 20003 },
  { first: 30000, last: 30000 },
  { first: 65534, last: 65535 },
];
const allOfSmall = [20000, 20001, 20002, 20003, 30000, 65534, 65535];
const refused = { verdict: VERDICT.shot, counted: { DROP_NO_PORT: 1 } };

/** What the module does when IPVS frees a connection. */
function remove(key: SessionKey): void {
  datapath.maps.ipvs_replies.delete(replyKey(real, datapath.snatEnd(key).port));
  datapath.maps.ipvs_sessions.delete(key);
}

describe('the ports of a pool', () => {
  it('are all used before a session is refused, and one that is freed after the hold', async () => {
    load({ ports: small });
    const sessions = numbers(allOfSmall.length).map((i) => connect(i));
    expect(sessions.map(({ port }) => port).sort((a, b) => a - b)).toEqual(allOfSmall);
    expect(sessions.map(({ counted }) => counted)).toEqual(Array(7).fill({ SNAT: 1 }));

    const extra = connect(100);
    expect(extra).toMatchObject({ ...refused, addressId: ADDRESS_ID.undecided });
    expect(connect(101)).toMatchObject(refused);
    expect(datapath.maps.ipvs_exhausted.count()).toBe(1);
    expect(datapath.maps.ipvs_replies.count()).toBe(allOfSmall.length);

    const [freed] = sessions;
    if (freed === undefined) throw new Error('no session');
    remove(freed.key);
    await sleep(1100);
    expect(connect(102)).toMatchObject({ counted: { SNAT: 1 }, port: freed.port });
  });

  it('are not searched again while the pool is known to be exhausted', () => {
    load({ ports: [{ first: 10000, last: 10199 }] });
    for (const i of numbers(200)) connect(i);
    expect(connect(500)).toMatchObject(refused);
    const taken = datapath.maps.ipvs_replies.get(replyKey(real, 10100));
    if (taken === undefined) throw new Error('port 10100 is free');
    remove(taken);
    // The one try before that is at the pool's next port, which is the freed one only by chance.
    const tries = numbers(5, 600).map((i) => connect(i).counted);
    expect(tries.filter((counted) => counted.DROP_NO_PORT === 1).length).toBeGreaterThanOrEqual(4);
  });

  it.each([
    { name: 'another real server', to: { address: '10.0.0.3', port: 8080 }, transport: 'TCP' as const },
    { name: 'another port there', to: { ...real, port: 8081 }, transport: 'TCP' as const },
    { name: 'another protocol', to: real, transport: 'UDP' as const },
  ])('are free again for $name', ({ to, transport }) => {
    load({ ports: small });
    for (const i of numbers(8)) connect(i);
    const sessions = numbers(7).map((i) => connect(200 + i, to, transport));
    expect(sessions.map(({ port }) => port).sort((a, b) => a - b)).toEqual(allOfSmall);
    expect(connect(300, to, transport)).toMatchObject(refused);
  });

  it('are free again for another SNAT address', () => {
    load({ ports: small });
    for (const i of numbers(7)) connect(i);
    datapath.addSnatAddress(2, '10.0.0.9');
    expect(connect(50)).toMatchObject({ counted: { SNAT: 1 }, addressId: 2 });
  });

  it('come round robin: none comes again before all others had their turn', () => {
    load({ ports: [{ first: 10000, last: 10099 }] });
    const ports = numbers(300).map((i) => {
      const { key, port } = connect(i);
      remove(key);
      return port;
    });
    const rounds = [ports.slice(0, 100), ports.slice(100, 200), ports.slice(200)];
    expect(rounds.map((round) => new Set(round).size)).toEqual([100, 100, 100]);
  });

  it('do not begin at the same place for every real server and every load', () => {
    const firsts = numbers(6).map((i) => {
      load({ ports: [{ first: 1024, last: 65535 }] });
      const { port } = connect(i, { address: `10.1.${i}.2`, port: 80 });
      datapath[Symbol.dispose]();
      return port;
    });
    expect(new Set(firsts).size).toBeGreaterThan(3);
    expect(Math.min(...firsts)).toBeGreaterThanOrEqual(1024);
  });

  it('are none without ranges: refused', () => {
    load({ ports: [] });
    expect(connect(0)).toMatchObject({ ...refused, addressId: ADDRESS_ID.undecided });
  });
});

describe('a full reply map', () => {
  it('refuses new sessions with a reason of its own, until there is room', () => {
    load({ maxReplies: 8 });
    // Each possible CPU may keep a few elements of the map to itself.
    const sessions = numbers(64).map((i) => connect(i));
    const served = sessions.filter(({ counted }) => counted.SNAT === 1);
    const rest = sessions.slice(served.length);
    expect(served.length).toBeGreaterThanOrEqual(8);
    expect(rest.length).toBeGreaterThan(0);
    for (const session of rest) {
      expect(session).toMatchObject({
        verdict: VERDICT.shot,
        counted: { DROP_REPLIES_FULL: 1 },
        addressId: ADDRESS_ID.undecided,
      });
    }
    expect(datapath.maps.ipvs_exhausted.count()).toBe(0);

    for (const { key } of served) remove(key);
    expect(connect(900).counted).toEqual({ SNAT: 1 });
  });
});

describe('two CPUs with the first packets of one session', () => {
  it('agree on one SNAT end, and the loser gives its reservation back', async () => {
    // Two processes search some ten thousand taken ports at the same time, and nothing is decided yet.
    const ports = { first: 10000, last: 42767 };
    load({ ports: [ports], maxReplies: 65536 });
    const clients = numbers(60).map(clientNumber);
    const keys = clients.map((client) => datapath.addSession({ client, real }));
    const taken = takePorts(ports.first, ports.last - 64);
    const packet = (from: End) => Buffer.from(framed('TCP', { from, to: real })).toString('hex');
    const racers = [racer(), racer()];
    await Promise.all(racers.map((child) => once(child, 'message')));
    const start: Start = {
      at: String(process.hrtime.bigint() + 200_000_000n),
      intervalNs: 20_000_000,
      frames: clients.map(packet),
    };

    const finished = await Promise.all(racers.map((child) => race(child, start)));

    const expected = keys.map((key, i) => {
      const { addressId, port } = datapath.snatEnd(key);
      expect({ i, addressId }).toEqual({ i, addressId: 1 });
      return { verdict: VERDICT.unspec, frame: packet({ address: SNAT_ADDRESS, port }) };
    });
    expect(finished).toEqual([expected, expected]);
    expect(datapath.maps.ipvs_replies.count()).toBe(taken + clients.length);
  });
});

/** Reserves a range of ports for nobody; says how many they are. */
function takePorts(first: number, last: number): number {
  const map = datapath.object.map('ipvs_replies').raw();
  datapath.maps.ipvs_replies.put(replyKey(real, first), sessionKey(clientNumber(0), 2));
  const [[key, value] = [new Uint8Array(24), new Uint8Array(24)]] = [...map];
  const entries = numbers(last - first + 1, first).map((port) => {
    const copy = Uint8Array.from(key);
    copy.set([port >> 8, port & 0xff], 18);
    return [copy, value] as const;
  });
  map.putBatch(entries);
  return entries.length;
}

function racer(): ChildProcess {
  const { fd } = datapath.object.program('ipvs_tc_egress');
  const script = fileURLToPath(new URL('./racer.ts', import.meta.url));
  return spawn(process.execPath, [script], { stdio: ['ignore', 'inherit', 'inherit', fd, 'ipc'] });
}

async function race(child: ChildProcess, start: Start): Promise<Finish> {
  const finish = once(child, 'message');
  child.send(start);
  const [result] = (await finish) as [Finish];
  return result;
}
