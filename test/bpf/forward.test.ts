// SPDX-License-Identifier: Apache-2.0
/** Packets of sessions with a path: both ends translated, one hop less, and sent without the IP stack. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Datapath, REROUTED6, type RunContext, SNAT_MODE, snatWord, VERDICT } from './datapath.ts';
import type { Path, SessionKey } from './maps.ts';
import {
  type End,
  ETH_P,
  filler,
  frame,
  frameProblems,
  HEADER_LENGTH,
  packet,
  protocolOf,
  type Segment,
  TCP_FLAGS,
  type Transport,
} from './packet.ts';
import { checksumProblems6, EXTENSION, options, packet6 } from './packet6.ts';
import { SNAT_PORT, transports } from './scene.ts';

/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the kernel compares its sum over the packet afterwards. */
const COMPLETE = { flags: 4 } as const;
const HOPS = 63;

interface Unchecked {
  readonly unchecked?: boolean;
}

interface Packet extends Unchecked {
  readonly hops?: number;
  readonly flags?: number;
  readonly payload?: Uint8Array;
}

/** Makes frames by a function of one family. */
const maker =
  (build: (transport: Transport, segment: Segment, hops: number, extra: Unchecked) => Uint8Array) =>
  (transport: Transport, from: End, to: End, { hops = HOPS, flags, payload, ...extra }: Packet = {}) =>
    build(transport, { from, to, flags, payload }, hops, extra);

/** The ends of one family, and how its packets are made. */
const families = [
  {
    family: 'IPv4',
    client: { address: '198.51.100.7', port: 40000 },
    virtual: { address: '203.0.113.1', port: 80 },
    real: { address: '10.0.0.2', port: 8080 },
    snat: { address: '10.0.0.1', port: SNAT_PORT },
    make: maker((transport, segment, ttl, extra) => frame(packet(transport, segment, { ttl, ...extra }))),
    problems: frameProblems,
    headers: 20,
  },
  {
    family: 'IPv6',
    client: { address: '2001:db8:c::7', port: 40000 },
    virtual: { address: '2001:db8:99::1', port: 80 },
    real: { address: 'fd00:2::2', port: 8080 },
    snat: { address: 'fd00:2::1', port: SNAT_PORT },
    make: maker((transport, segment, hopLimit, extra) =>
      frame(packet6(transport, segment, { hopLimit, ...extra }), ETH_P.ipv6),
    ),
    problems: (bytes: Uint8Array) => checksumProblems6(bytes.subarray(14)),
    headers: 40,
  },
] as const;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());

describe.each(families)('$family', ({ client, virtual, real, snat, make, problems, headers }) => {
  let key: SessionKey;

  beforeEach(() => {
    datapath.reset();
    datapath.addSnatAddress(1, snat.address);
  });

  /** A session whose paths have been offered, in both directions or one. */
  function established(transport: Transport, path: Partial<Path> = {}): void {
    const protocol = protocolOf(transport);
    datapath.maps.ipvs_services.put(
      { vaddr: virtual.address, vport: virtual.port, protocol, zero: 0 },
      { id: 1, flags: SNAT_MODE.always },
    );
    key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    // A request through ip_vs: the port is one of a virtual server, and this is what time it is.
    datapath.egress(make(transport, client, real), { ip6Flags: REROUTED6 });
    datapath.offerPath(key, 'request', path);
    datapath.offerPath(key, 'reply', path);
  }

  const request = (transport: Transport, extra: Packet = {}, context: RunContext = {}) =>
    datapath.ingress(make(transport, client, virtual, extra), context);
  const reply = (transport: Transport, extra: Packet = {}, context: RunContext = {}) =>
    datapath.ingress(make(transport, real, snat, extra), context);

  describe.each(transports)('%s', (transport) => {
    it.each([{}, COMPLETE])('a request goes to the real server (%o)', (context) => {
      established(transport);
      const outcome = request(transport, {}, context);
      expect(outcome).toMatchObject({ verdict: VERDICT.redirect, counted: { FORWARD_REQUEST: 1 } });
      expect(outcome.frame).toEqual(make(transport, snat, real, { hops: HOPS - 1 }));
      expect(problems(outcome.frame)).toEqual([]);
      expect(outcome.context.cb.slice(2)).toEqual([0, 0, 0]);
    });

    it.each([{}, COMPLETE])('a reply goes to the client (%o)', (context) => {
      established(transport);
      const outcome = reply(transport, {}, context);
      expect(outcome).toMatchObject({ verdict: VERDICT.redirect, counted: { FORWARD_REPLY: 1 } });
      expect(outcome.frame).toEqual(make(transport, virtual, client, { hops: HOPS - 1 }));
      expect(problems(outcome.frame)).toEqual([]);
    });

    it('gets the Ethernet header of the path', () => {
      const ethernet = Uint8Array.from({ length: 12 }, (_, i) => 0xa0 + i);
      established(transport, { ethernet });
      for (const { frame: sent } of [request(transport), reply(transport)]) {
        expect(sent.subarray(0, 12)).toEqual(ethernet);
        expect(problems(sent)).toEqual([]);
      }
    });

    it("keeps the client's address where that is decided", () => {
      established(transport);
      const session = datapath.session(key);
      datapath.maps.ipvs_sessions.put(key, { ...session, snat: snatWord(7, 0xffff) });
      const outcome = request(transport);
      expect(outcome.verdict).toBe(VERDICT.redirect);
      expect(outcome.frame).toEqual(make(transport, client, real, { hops: HOPS - 1 }));
    });

    it('counts packets and bytes from the IP header on', () => {
      established(transport);
      for (const payload of [filler(10), filler(500)]) {
        request(transport, { payload });
        reply(transport, { payload });
      }
      const bytes = 2 * (headers + HEADER_LENGTH[transport]) + 510;
      const { counted_requests, counted_replies } = datapath.session(key);
      for (const counted of [counted_requests, counted_replies]) {
        expect([counted >> 40n, counted & 0xffffffffffn]).toEqual([2n, BigInt(bytes)]);
      }
    });

    it.each<[string, Partial<Path>]>([
      ['there is no path', { out_ifindex: 0 }],
      ['the path has ended', { until: 0 }],
      ['IPVS has to know of each packet', { tell: 1 }],
      ['it came in by another device', { in_ifindex: 77 }],
      ['it is too long', { mtu: 32 }],
    ])('is left to IPVS if %s', (_, path) => {
      established(transport);
      const until = Number(BigInt.asUintN(32, datapath.session(key).seen)) - 1;
      const changed = 'until' in path ? { until: until >>> 0 } : path;
      datapath.offerPath(key, 'request', changed);
      datapath.offerPath(key, 'reply', changed);
      expect(request(transport)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
      expect(reply(transport)).toMatchObject({ verdict: VERDICT.unspec, counted: { SNAT_REVERSED: 1 } });
    });

    it('goes on by a path that has ended, while packets are held back and no module is there', () => {
      established(transport);
      const until = (Number(BigInt.asUintN(32, datapath.session(key).seen)) - 1) >>> 0;
      for (const direction of ['request', 'reply'] as const) datapath.offerPath(key, direction, { until });
      const ends = [virtual, real].map(({ address, port }) => ({
        ...{ vaddr: address, vport: port, protocol: protocolOf(transport), zero: 0 },
      }));
      for (const end of ends) datapath.maps.ipvs_held.put(end, 1);
      datapath.maps.ipvs_hold.put(0, process.hrtime.bigint() + 60_000_000_000n);
      const outcomes = [request(transport), reply(transport)];
      const another = datapath.ingress(make(transport, { ...client, port: 40001 }, virtual));
      datapath.maps.ipvs_hold.put(0, 0n);
      for (const end of ends) datapath.maps.ipvs_held.delete(end);
      expect(outcomes).toMatchObject([
        { verdict: VERDICT.redirect, counted: { FORWARD_REQUEST: 1 } },
        { verdict: VERDICT.redirect, counted: { FORWARD_REPLY: 1 } },
      ]);
      expect(another).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_HELD: 1 } });
    });

    it.each<[string, Packet, RunContext]>([
      ['whose last hop this is', { hops: 1 }, {}],
      ['with a mark', {}, { mark: 3 }],
    ])('leaves packets to IPVS %s', (_, extra, context) => {
      established(transport);
      expect(request(transport, extra, context).verdict).toBe(VERDICT.unspec);
      expect(reply(transport, extra, context)).toMatchObject({
        verdict: VERDICT.unspec,
        counted: { SNAT_REVERSED: 1 },
      });
    });

    it('leaves what is for another host on the link', () => {
      established(transport);
      const bytes = make(transport, client, virtual);
      bytes[5] = 1;
      expect(datapath.ingress(bytes)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
    });

    it('leaves a packet that is shorter than its header says', () => {
      established(transport);
      const bytes = make(transport, client, virtual, { payload: filler(100) }).subarray(0, -1);
      expect(datapath.ingress(bytes)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
    });

    it('leaves a packet without a length, which only one that is cut up later may be', () => {
      established(transport);
      const at = headers === 20 ? 16 : 18;
      const [there, back] = [make(transport, client, virtual), make(transport, real, snat)].map((bytes) =>
        bytes.fill(0, at, at + 2),
      ) as [Uint8Array, Uint8Array];
      expect(datapath.ingress(there)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
      expect(datapath.ingress(back)).toMatchObject({
        verdict: VERDICT.unspec,
        counted: { SNAT_REVERSED: 1 },
      });
    });

    it('leaves a request whose SNAT end is not decided', () => {
      established(transport);
      const session = datapath.session(key);
      datapath.maps.ipvs_sessions.put(key, { ...session, snat: snatWord(7, 0) });
      expect(request(transport)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
    });

    it('leaves virtual servers that are not on the whitelist', () => {
      established(transport);
      for (const server of [...datapath.maps.ipvs_services.keys()])
        datapath.maps.ipvs_services.delete(server);
      expect(request(transport)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
    });
  });

  it.each(['syn', 'fin', 'rst'] as const)('leaves segments with %s to IPVS', (flag) => {
    established('TCP');
    const flags = TCP_FLAGS.ack | TCP_FLAGS[flag];
    expect(request('TCP', { flags })).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
    expect(reply('TCP', { flags })).toMatchObject({ verdict: VERDICT.unspec, counted: { SNAT_REVERSED: 1 } });
  });

  it('forwards segments with urgent data', () => {
    established('TCP');
    expect(request('TCP', { flags: TCP_FLAGS.ack | TCP_FLAGS.urg }).verdict).toBe(VERDICT.redirect);
  });

  it('leaves datagrams without a checksum without one', () => {
    established('UDP');
    const outcome = request('UDP', { unchecked: true }, COMPLETE);
    expect(outcome.verdict).toBe(VERDICT.redirect);
    expect(outcome.frame).toEqual(make('UDP', snat, real, { hops: HOPS - 1, unchecked: true }));
  });
});

describe('an IPv6 packet between IPv4 addresses that are mapped', () => {
  const [{ client, virtual, real, snat }, six] = families;
  const mapped = ({ address, port }: End): End => ({ address: `::ffff:${address}`, port });
  const bytesOf = (transport: Transport, from: End, to: End) => six.make(transport, mapped(from), mapped(to));

  it.each(transports)('is none of an IPv4 session (%s)', (transport) => {
    datapath.reset();
    datapath.addSnatAddress(1, snat.address);
    const protocol = protocolOf(transport);
    const server = { vaddr: virtual.address, vport: virtual.port, protocol, zero: 0 };
    datapath.maps.ipvs_services.put(server, { id: 1, flags: SNAT_MODE.never });
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    datapath.egress(families[0].make(transport, client, real));
    for (const direction of ['request', 'reply'] as const) datapath.offerPath(key, direction);
    expect(datapath.ingress(bytesOf(transport, real, snat))).toMatchObject({
      verdict: VERDICT.unspec,
      counted: {},
    });
    datapath.maps.ipvs_sessions.put(key, { ...datapath.session(key), snat: snatWord(7, 0xffff) });
    expect(datapath.ingress(bytesOf(transport, client, virtual))).toMatchObject({
      verdict: VERDICT.unspec,
      counted: {},
    });
  });
});

describe('headers between IP and transport', () => {
  const [{ client, virtual, real, snat }, six] = families;

  beforeEach(() => {
    datapath.reset();
    datapath.addSnatAddress(1, snat.address);
    datapath.addSnatAddress(2, six.snat.address);
  });

  function path(
    end: { readonly client: End; readonly real: End; readonly virtual: End },
    addressId: number,
  ): void {
    datapath.maps.ipvs_services.put(
      { vaddr: end.virtual.address, vport: end.virtual.port, protocol: protocolOf('TCP'), zero: 0 },
      { id: 1, flags: SNAT_MODE.always },
    );
    const key = datapath.addTranslatedSession({ ...end, port: SNAT_PORT, addressId });
    datapath.ingress(six.make('TCP', six.real, six.snat));
    datapath.ingress(families[0].make('TCP', real, snat));
    datapath.offerPath(key, 'request');
  }

  it('of IPv4 are left to IPVS', () => {
    path({ client, real, virtual }, 1);
    const bytes = frame(packet('TCP', { from: client, to: virtual }, { options: Uint8Array.of(1, 1, 1, 0) }));
    expect(datapath.ingress(bytes)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
  });

  it('of IPv4, without options, are forwarded; a fragment is not', () => {
    path({ client, real, virtual }, 1);
    const whole = frame(packet('TCP', { from: client, to: virtual }));
    const fragment = frame(packet('TCP', { from: client, to: virtual }, { moreFragments: true }));
    expect(datapath.ingress(whole).verdict).toBe(VERDICT.redirect);
    expect(datapath.ingress(fragment)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
  });

  it('of IPv6 are left to IPVS', () => {
    path(six, 2);
    const extensions = [options(EXTENSION.hopByHop)];
    const bytes = frame(packet6('TCP', { from: six.client, to: six.virtual }, { extensions }), ETH_P.ipv6);
    expect(datapath.ingress(bytes)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
  });
});
