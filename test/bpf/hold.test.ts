// SPDX-License-Identifier: Apache-2.0
/** Packets that are held back while modules are exchanged. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Datapath, VERDICT } from './datapath.ts';
import { type End, frame, ipv4, protocolOf, type Transport } from './packet.ts';
import { client, framed, prepare, real, SNAT_PORT, snat, transports } from './scene.ts';

const virtual: End = { address: '203.0.113.1', port: 80 };
const other: End = { address: '203.0.113.2', port: 80 };
const SECOND = 1_000_000_000n;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => prepare(datapath));
afterEach(() => {
  datapath.maps.ipvs_hold.put(0, 0n);
  for (const key of [...datapath.maps.ipvs_held.keys()]) datapath.maps.ipvs_held.delete(key);
});

function hold(transport: Transport, until = process.hrtime.bigint() + 60n * SECOND): void {
  for (const { address, port } of [virtual, real]) {
    datapath.maps.ipvs_held.put({ vaddr: address, vport: port, protocol: protocolOf(transport), zero: 0 }, 1);
  }
  datapath.maps.ipvs_hold.put(0, until);
}

const held = { verdict: VERDICT.shot, counted: { DROP_HELD: 1 } };
const passed = { verdict: VERDICT.unspec, counted: {} };

describe.each(transports)('while %s is held back', (transport) => {
  const came = (from: End, to: End) => {
    const { verdict, counted } = datapath.ingress(framed(transport, { from, to }));
    return { verdict, counted };
  };

  it('neither a request comes through nor what a real server answers, whomever', () => {
    hold(transport);
    expect(came(client, virtual)).toEqual(held);
    expect(came(real, client)).toEqual(held);
    expect(came(real, snat)).toEqual(held);
  });

  it('everything else does: other servers, other ports, other protocols, what leaves', () => {
    hold(transport);
    expect(came(client, other)).toEqual(passed);
    expect(came(client, { ...virtual, port: 81 })).toEqual(passed);
    expect(came({ ...real, port: 81 }, client)).toEqual(passed);
    const [protocol = 'TCP'] = transports.filter((each) => each !== transport);
    expect(datapath.ingress(framed(protocol, { from: client, to: virtual })).verdict).toBe(VERDICT.unspec);
    expect(datapath.egress(framed(transport, { from: virtual, to: client }), { hint: 0 }).verdict).not.toBe(
      held.verdict,
    );
  });

  it('does not translate a reply of a session either', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    hold(transport);
    expect(came(real, snat)).toEqual(held);
    datapath.maps.ipvs_hold.put(0, 0n);
    expect(came(real, snat)).toEqual({ verdict: VERDICT.unspec, counted: { SNAT_REVERSED: 1 } });
  });

  it('ends at its time', () => {
    hold(transport, process.hrtime.bigint() - 1n);
    expect(came(client, virtual)).toEqual(passed);
  });
});

describe('what is no packet of a server', () => {
  it.each([
    ['ARP', frame(new Uint8Array(28), 0x0806)],
    [
      'a truncated header',
      frame(Uint8Array.of(0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, ...new Uint8Array(8))),
    ],
    [
      'ICMP',
      frame(
        ipv4({
          source: client.address,
          destination: virtual.address,
          protocol: 1,
          payload: new Uint8Array(8),
        }),
      ),
    ],
  ])('passes: %s', (_, bytes) => {
    hold('TCP');
    expect(datapath.ingress(bytes).verdict).toBe(VERDICT.unspec);
  });
});
