// SPDX-License-Identifier: Apache-2.0
/** What SCTP has and TCP and UDP have not: a CRC that follows the ports, chunks, and quotes without a checksum. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isSctpChecksumRight, SCTP_CHECK_AT } from './crc32c.ts';
import {
  Datapath,
  fragmentKey,
  type Outcome,
  REROUTED6,
  type RunContext,
  SNAT_MODE,
  VERDICT,
} from './datapath.ts';
import {
  at16,
  type End,
  ETH_P,
  filler,
  frame,
  IPPROTO,
  icmpError,
  ipv4,
  packet,
  protocolOf,
  sctpPacket,
} from './packet.ts';
import { fragmentHeader, icmpv6Error, ipv6, packet6 } from './packet6.ts';
import { SNAT_PORT } from './scene.ts';

/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the kernel compares its sum over the packet afterwards. */
const COMPLETE = { flags: 4 } as const;
const ID = 0xbeef;
const CHUNK = { data: 0, init: 1, sack: 3, heartbeat: 4, heartbeatAck: 5 } as const;

interface Shape {
  readonly payload?: Uint8Array;
  readonly chunk?: number;
}

const families = [
  {
    family: 'IPv4',
    client: { address: '198.51.100.7', port: 40000 },
    virtual: { address: '203.0.113.1', port: 80 },
    real: { address: '10.0.0.2', port: 8080 },
    snat: { address: '10.0.0.1', port: SNAT_PORT },
    router: '198.51.100.254',
    transport: 14 + 20,
    make: (from: End, to: End, { hops = 63, ...shape }: Shape & { hops?: number } = {}) =>
      frame(packet('SCTP', { from, to, ...shape }, { ttl: hops })),
    makeFragment: ({ address: source }: End, { address: destination }: End, payload: Uint8Array) =>
      frame(ipv4({ source, destination, protocol: IPPROTO.sctp, payload, id: ID, moreFragments: true })),
    makeError: (source: string, destination: string, from: End, to: End, quoted: number) =>
      frame(icmpError({ source, destination, quote: packet('SCTP', { from, to }).subarray(0, 20 + quoted) })),
  },
  {
    family: 'IPv6',
    client: { address: '2001:db8:c::7', port: 40000 },
    virtual: { address: '2001:db8:99::1', port: 80 },
    real: { address: 'fd00:2::2', port: 8080 },
    snat: { address: 'fd00:2::1', port: SNAT_PORT },
    router: '2001:db8:c::fe',
    transport: 14 + 40,
    make: (from: End, to: End, { hops = 63, ...shape }: Shape & { hops?: number } = {}) =>
      frame(packet6('SCTP', { from, to, ...shape }, { hopLimit: hops }), ETH_P.ipv6),
    makeFragment: ({ address: source }: End, { address: destination }: End, payload: Uint8Array) => {
      const extensions = [fragmentHeader(ID, 0, true)];
      return frame(ipv6({ source, destination, protocol: IPPROTO.sctp, payload, extensions }), ETH_P.ipv6);
    },
    makeError: (source: string, destination: string, from: End, to: End, quoted: number) => {
      const quote = packet6('SCTP', { from, to }).subarray(0, 40 + quoted);
      return frame(icmpv6Error({ source, destination, quote }), ETH_P.ipv6);
    },
  },
] as const;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());

describe.each(families)('$family', (family) => {
  const { client, virtual, real, snat, router, transport, make, makeError, makeFragment } = family;

  beforeEach(() => {
    datapath.reset();
    datapath.addSnatAddress(1, snat.address);
  });

  const egress = (bytes: Uint8Array, context: RunContext = {}): Outcome =>
    datapath.egress(bytes, { ip6Flags: REROUTED6, ...context });

  function established(): void {
    const server = { vaddr: virtual.address, vport: virtual.port, protocol: protocolOf('SCTP'), zero: 0 };
    datapath.maps.ipvs_services.put(server, { id: 1, flags: SNAT_MODE.always });
    const key = datapath.addTranslatedSession({ client, real, transport: 'SCTP', port: SNAT_PORT });
    egress(make(client, real));
    datapath.offerPath(key, 'request', { mtu: 65535 });
    datapath.offerPath(key, 'reply', { mtu: 65535 });
  }

  /** Also lengths that are no multiple of 4, which no packet should have. */
  const lengths = [0, 1, 2, 3, 4, 12, 28, 240, 241, 255, 1000, 3000];

  it.each(lengths)('has a right checksum with %i bytes in a chunk, in all directions', (length) => {
    established();
    const payload = filler(length);
    const sent = egress(make(client, real, { payload }));
    expect(sent.frame).toEqual(make(snat, real, { payload }));
    const init = datapath.ingress(make(real, snat, { payload, chunk: CHUNK.init }));
    expect(init.frame).toEqual(make(real, client, { payload, chunk: CHUNK.init }));
    const there = datapath.ingress(make(client, virtual, { payload }));
    expect(there.frame).toEqual(make(snat, real, { payload, hops: 62 }));
    const back = datapath.ingress(make(real, snat, { payload }));
    expect(back.frame).toEqual(make(virtual, client, { payload, hops: 62 }));
    expect(there.verdict).toBe(VERDICT.redirect);
    expect(back.verdict).toBe(VERDICT.redirect);
  });

  it.each([1500, 4096, 30_000, 61_443])(
    'has the checksum of a datagram of %i bytes in its first fragment',
    (length) => {
      const key = datapath.addTranslatedSession({ client, real, transport: 'SCTP', port: SNAT_PORT });
      const whole = (from: End) => sctpPacket({ from, to: real, payload: filler(length) });
      datapath.maps.ipvs_frags.put(fragmentKey(client.address, real.address, ID, 'SCTP'), {
        session: key,
        length: whole(client).length,
      });
      const sent = egress(makeFragment(client, real, whole(client).subarray(0, 1200)));
      expect(sent.frame).toEqual(makeFragment(snat, real, whole(snat).subarray(0, 1200)));
    },
  );

  it('leaves a sum that the device took over the packet right', () => {
    established();
    const payload = filler(37);
    expect(egress(make(client, real, { payload }), COMPLETE).frame).toEqual(make(snat, real, { payload }));
    const there = datapath.ingress(make(client, virtual, { payload }), COMPLETE);
    expect(there.frame).toEqual(make(snat, real, { payload, hops: 62 }));
  });

  it('leaves a checksum that is wrong by as much as it was', () => {
    established();
    const spoiled = make(client, real);
    const at = transport + SCTP_CHECK_AT;
    spoiled[at] = (spoiled[at] ?? 0) ^ 0x55;
    const sent = egress(spoiled).frame;
    expect(isSctpChecksumRight(sent.subarray(transport))).toBe(false);
    sent[at] = (sent[at] ?? 0) ^ 0x55;
    expect(sent).toEqual(make(snat, real));
  });

  it.each([{}, COMPLETE])('changes a checksum of 0 that is no device\u2019s to make (%o)', (context) => {
    established();
    const input = make(client, real);
    const at = transport + SCTP_CHECK_AT;
    const expected = make(snat, real);
    for (let i = at; i < at + 4; i += 1) expected[i] = (expected[i] ?? 0) ^ (input[i] ?? 0);
    const { frame: sent } = egress(Uint8Array.from(input).fill(0, at, at + 4), context);
    expect(sent).toEqual(expected);
  });

  it('changes no checksum if the port stays', () => {
    datapath.addTranslatedSession({ client, real, transport: 'SCTP', port: client.port });
    const { frame: sent } = egress(make(client, real));
    expect(sent).toEqual(make({ ...snat, port: client.port }, real));
  });

  it.each(Object.entries(CHUNK))('forwards what tells IPVS nothing new: %s', (_, chunk) => {
    established();
    const isPlain = chunk !== CHUNK.init;
    const there = datapath.ingress(make(client, virtual, { chunk }));
    expect(there.verdict).toBe(isPlain ? VERDICT.redirect : VERDICT.unspec);
  });

  it('leaves all other chunks to IPVS', () => {
    established();
    for (const chunk of [1, 2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 32, 35, 64, 128, 192, 193, 255]) {
      expect(datapath.ingress(make(client, virtual, { chunk }))).toMatchObject({
        verdict: VERDICT.unspec,
        counted: {},
      });
      expect(datapath.ingress(make(real, snat, { chunk })).counted).toEqual({ SNAT_REVERSED: 1 });
    }
  });

  it('leaves a packet without a chunk to IPVS', () => {
    established();
    const whole = make(client, virtual);
    const cut = whole.subarray(0, transport + 12);
    expect(datapath.ingress(cut)).toMatchObject({ verdict: VERDICT.unspec, counted: {} });
  });

  it.each([8, 11, 12, 21])('is known by %i quoted bytes, and its quoted checksum stays', (quoted) => {
    datapath.addTranslatedSession({ client, real, transport: 'SCTP', port: SNAT_PORT });
    const check = (bytes: Uint8Array) => bytes.subarray(bytes.length - quoted + SCTP_CHECK_AT);
    const outgoing = makeError(router, real.address, real, client, quoted);
    const sent = egress(outgoing);
    expect(sent.counted).toEqual({ ICMP_EGRESS: 1 });
    expect(sent.frame.length).toBe(outgoing.length);
    expect(check(sent.frame)).toEqual(check(outgoing));
    expect(at16(sent.frame, sent.frame.length - quoted + 2)).toBe(SNAT_PORT);
    const incoming = makeError(real.address, snat.address, snat, real, quoted);
    const received = datapath.ingress(incoming);
    expect(received.counted).toEqual({ ICMP_INGRESS: 1 });
    expect(check(received.frame)).toEqual(check(incoming));
    expect(at16(received.frame, received.frame.length - quoted)).toBe(client.port);
  });
});
