// SPDX-License-Identifier: Apache-2.0
/** SNAT ends beside what conntrack knows of the host: flows that are natively masqueraded, and its own. */
import { execFileSync } from 'node:child_process';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Datapath, REROUTED6, VERDICT } from './datapath.ts';
import { type End, ETH_P, frame, type Transport } from './packet.ts';
import { packet6 } from './packet6.ts';
import { framed, summedTransports } from './scene.ts';

const PORTS = { first: 20000, last: 20009 };

interface Family {
  readonly family: string;
  readonly client: string;
  readonly virtual: string;
  readonly real: End;
  readonly snat: string;
}

const families: readonly Family[] = [
  {
    family: 'IPv4',
    client: '198.51.100.7',
    virtual: '203.0.113.1',
    real: { address: '10.0.0.2', port: 8080 },
    snat: '10.0.0.1',
  },
  {
    family: 'IPv6',
    client: '2001:db8:c::7',
    virtual: '2001:db8:99::1',
    real: { address: 'fd00:2::2', port: 8080 },
    snat: 'fd00:2::1',
  },
];

let datapath: Datapath;
// The programs know conntrack if it is there when they are loaded.
beforeAll(() => execFileSync('conntrack', ['--count']));
afterEach(() => {
  datapath[Symbol.dispose]();
  execFileSync('conntrack', ['--flush'], { stdio: 'ignore' });
});

function load(snat: string): void {
  datapath = new Datapath({ ports: [PORTS] });
  datapath.reset();
  datapath.addSnatAddress(1, snat);
}

function track(transport: Transport, original: readonly [End, End], reply: readonly [End, End]): void {
  const [from, to] = original;
  const [replyFrom, replyTo] = reply;
  execFileSync('conntrack', [
    ...['--create', '--proto', transport.toLowerCase(), '--timeout', '600'],
    ...(transport === 'TCP' ? ['--state', 'ESTABLISHED'] : []),
    ...['--orig-src', from.address, '--orig-dst', to.address],
    ...['--orig-port-src', String(from.port), '--orig-port-dst', String(to.port)],
    ...['--reply-src', replyFrom.address, '--reply-dst', replyTo.address],
    ...['--reply-port-src', String(replyFrom.port), '--reply-port-dst', String(replyTo.port)],
  ]);
}

/** The first packet of a new session. */
function connect(transport: Transport, client: End, real: End) {
  const key = datapath.addSession({ client, real, transport });
  const { verdict, counted } = client.address.includes(':')
    ? datapath.egress(frame(packet6(transport, { from: client, to: real }), ETH_P.ipv6), {
        ipFlags: 0,
        ip6Flags: REROUTED6,
      })
    : datapath.egress(framed(transport, { from: client, to: real }));
  return { verdict, counted, port: datapath.snatEnd(key).port };
}

/** Clients until there is no port for one. */
function connectAll(transport: Transport, { client, real }: Family): readonly number[] {
  const ports: number[] = [];
  for (let i = 0; i < 100; i++) {
    const { verdict, port } = connect(transport, { address: client, port: 40000 + i }, real);
    if (verdict === VERDICT.unspec) ports.push(port);
  }
  return ports.sort((a, b) => a - b);
}

/** Of the million that it looks at (BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h): a load takes seconds with all of them. */
const MAX_VERIFIED_INSTRUCTIONS = 300_000;

it.each(['ipvs_tc_ingress', 'ipvs_tc_egress'])('the verifier is done with %s soon', (name) => {
  load('10.0.0.1');
  const { verifiedInstructions } = datapath.object.program(name).info;
  expect(verifiedInstructions).toBeGreaterThan(0);
  expect(verifiedInstructions).toBeLessThan(MAX_VERIFIED_INSTRUCTIONS);
});

describe.each(families)('$family', (family) => {
  const { virtual, real, snat } = family;

  it.each(summedTransports)('a %s session gets no port of a flow that is masqueraded', (transport) => {
    load(snat);
    const other: End = { address: family.client, port: 5000 };
    track(transport, [other, { address: virtual, port: 81 }], [real, { address: snat, port: 20003 }]);
    track(transport, [other, { address: virtual, port: 82 }], [real, { address: snat, port: 20009 }]);
    expect(connectAll(transport, family)).toEqual([20000, 20001, 20002, 20004, 20005, 20006, 20007, 20008]);
    expect(datapath.maps.ipvs_replies.count()).toBe(8);
    expect(datapath.counted().DROP_NO_PORT).toBe(92);
  });

  it.each(summedTransports)('a %s session gets no port that the host has a connection from', (transport) => {
    load(snat);
    const own: End = { address: snat, port: 20000 };
    track(transport, [own, real], [real, own]);
    expect(connectAll(transport, family)).toEqual([
      20001, 20002, 20003, 20004, 20005, 20006, 20007, 20008, 20009,
    ]);
  });

  it.each(summedTransports)(
    'a pool whose last ports are the host’s is not searched for every %s session',
    (transport) => {
      load(snat);
      for (let port = PORTS.first; port < PORTS.last; port++) {
        const own: End = { address: snat, port };
        track(transport, [own, real], [real, own]);
      }
      expect(connectAll(transport, family).length).toBeLessThanOrEqual(1);
      expect(datapath.maps.ipvs_exhausted.count()).toBe(1);
    },
  );

  // As connections have them that were accelerated until modules were exchanged.
  it.each(summedTransports)('a row of the host’s ports is no wall to %s sessions', (transport) => {
    datapath = new Datapath({ ports: [{ first: 20000, last: 20399 }] });
    datapath.addSnatAddress(1, snat);
    for (let port = 20100; port < 20200; port++) {
      const own: End = { address: snat, port };
      track(transport, [own, real], [real, own]);
    }
    // Once round the pool, and never so many that they fill it.
    for (let i = 0; i < 400; i++) {
      if (i % 50 === 0) datapath.reset();
      connect(transport, { address: family.client, port: 1024 + i }, real);
      expect(datapath.counted().DROP_NO_PORT ?? 0).toBe(0);
    }
  });

  it.each(summedTransports)('a %s session may have the port of a flow to another end', (transport) => {
    load(snat);
    const other: End = { address: family.client, port: 5000 };
    const elsewhere: End = { ...real, port: 8081 };
    const to: End = { address: virtual, port: 81 };
    track(transport, [other, to], [elsewhere, { address: snat, port: 20003 }]);
    expect(connectAll(transport, family)).toHaveLength(10);
  });
});
