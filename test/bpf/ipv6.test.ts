// SPDX-License-Identifier: Apache-2.0
/** What IPv6 does in another way than IPv4: no header checksum, extension headers, ICMPv6 with a pseudo header. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  AF_INET6,
  Datapath,
  fragmentKey,
  HINT_MAGIC,
  REROUTED,
  REROUTED6,
  type RunContext,
  VERDICT,
} from './datapath.ts';
import { type End, ETH_P, filler, frame, HEADER_LENGTH, protocolOf, type Transport } from './packet.ts';
import {
  checksumProblems6,
  EXTENSION,
  type Extension,
  type Extra6,
  fragmentHeader,
  type Ipv6Fields,
  icmpv6Error,
  ipv6,
  options,
  packet6,
  routing,
} from './packet6.ts';
import { SNAT_PORT, summedTransports, transports } from './scene.ts';

const client: End = { address: '2001:db8:c::7', port: 40000 };
const real: End = { address: 'fd00:2::2', port: 8080 };
const snat: End = { address: 'fd00:2::1', port: SNAT_PORT };
const router = '2001:db8:c::fe';
/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the kernel compares its sum over the packet afterwards. */
const COMPLETE = { flags: 4 } as const;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => {
  datapath.reset();
  datapath.addSnatAddress(1, snat.address);
});

const framed = (ip: Uint8Array) => frame(ip, ETH_P.ipv6);
const segment = (transport: Transport, from: End, to: End, extra: Extra6 = {}) =>
  framed(packet6(transport, { from, to }, extra));
const egress = (bytes: Uint8Array, context: RunContext = {}) =>
  datapath.egress(bytes, { ipFlags: 0, ip6Flags: REROUTED6, ...context });
const problems = (bytes: Uint8Array) => checksumProblems6(bytes.subarray(14));

const chains: readonly { name: string; extensions: readonly Extension[] }[] = [
  { name: 'none', extensions: [] },
  { name: 'hop by hop', extensions: [options(EXTENSION.hopByHop)] },
  { name: 'destination options', extensions: [options(EXTENSION.destination, 24)] },
  { name: 'a routing header at its end', extensions: [routing(0)] },
  { name: 'an atomic fragment', extensions: [fragmentHeader(7, 0, false)] },
  {
    name: 'all of them',
    extensions: [
      options(EXTENSION.hopByHop),
      options(EXTENSION.destination),
      routing(0),
      fragmentHeader(7, 0, false),
      options(EXTENSION.destination),
    ],
  },
];

describe.each(transports)('a %s packet', (transport) => {
  it.each(chains)('of a client is translated (extension headers: $name)', ({ extensions }) => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const outcome = egress(segment(transport, client, real, { extensions }));
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, counted: { SNAT: 1 } });
    expect(outcome.frame).toEqual(segment(transport, snat, real, { extensions }));
    expect(outcome.context.cb[4]).toBe(0);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
  });

  it.each(chains)('of a real server is translated back (extension headers: $name)', ({ extensions }) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const outcome = datapath.ingress(segment(transport, real, snat, { extensions }));
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, counted: { SNAT_REVERSED: 1 } });
    expect(outcome.frame).toEqual(segment(transport, real, client, { extensions }));
    expect(outcome.context.cb[4]).toBe((HINT_MAGIC | 1) >>> 0);
  });

  it('gets an SNAT end of its family', () => {
    datapath.addSnatAddress(2, '10.0.0.1');
    const key = datapath.addSession({ client, real, transport });
    const outcome = egress(segment(transport, client, real));
    const { addressId, port } = datapath.snatEnd(key);
    expect(addressId).toBe(1);
    expect(outcome.frame).toEqual(segment(transport, { ...snat, port }, real));
  });

  it('is dropped where the interface has no address of its family', () => {
    datapath.maps.ipvs_snat_ifs.delete({ ifindex: 1, family: AF_INET6 });
    datapath.addSession({ client, real, transport });
    const outcome = egress(segment(transport, client, real));
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_ADDRESS: 1 } });
  });

  it.each(chains)(
    'leaves a sum right that the device took over it (extension headers: $name)',
    ({ extensions }) => {
      datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
      const sent = egress(segment(transport, client, real, { extensions }), COMPLETE);
      const received = datapath.ingress(segment(transport, real, snat, { extensions }), COMPLETE);
      expect(sent.frame).toEqual(segment(transport, snat, real, { extensions }));
      expect(received.frame).toEqual(segment(transport, real, client, { extensions }));
    },
  );

  it('has right checksums whatever the bytes', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    for (let seed = 0; seed < 100; seed += 1) {
      const payload = filler(seed % 40, seed);
      payload.set([seed & 0xff, seed >> 8].slice(0, payload.length));
      const sent = egress(framed(packet6(transport, { from: client, to: real, payload })));
      const received = datapath.ingress(framed(packet6(transport, { from: real, to: snat, payload })));
      expect(sent.frame).toEqual(framed(packet6(transport, { from: snat, to: real, payload })));
      expect(received.frame).toEqual(framed(packet6(transport, { from: real, to: client, payload })));
    }
  });

  it('is dropped or left alone, wherever the frame ends', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const request = segment(transport, client, real, { extensions: [options(EXTENSION.destination)] });
    const reply = segment(transport, real, snat, { extensions: [options(EXTENSION.destination)] });
    for (let length = 14 + 40; length < request.length; length += 1) {
      expect(egress(request.subarray(0, length))).toMatchObject({ verdict: VERDICT.shot });
      const received = datapath.ingress(reply.subarray(0, length));
      const untouched = received.verdict === VERDICT.unspec;
      if (untouched) expect(received.frame).toEqual(reply.subarray(0, length));
    }
  });
});

it('leaves UDP without checksum as it is', () => {
  datapath.addTranslatedSession({ client, real, transport: 'UDP', port: SNAT_PORT });
  const sent = egress(segment('UDP', client, real, { unchecked: true }), COMPLETE);
  const received = datapath.ingress(segment('UDP', real, snat, { unchecked: true }), COMPLETE);
  expect(sent.frame).toEqual(segment('UDP', snat, real, { unchecked: true }));
  expect(received.frame).toEqual(segment('UDP', real, client, { unchecked: true }));
});

describe('a packet that is not ours', () => {
  const request = segment('TCP', client, real);
  it.each<{ name: string; input: Uint8Array; context: RunContext }>([
    { name: 'no hint', input: request, context: { hint: 0 } },
    { name: 'a hint without IP6SKB_REROUTED', input: request, context: { ip6Flags: 0 } },
    { name: 'the flag of IPv4 only', input: request, context: { ip6Flags: 0, ipFlags: REROUTED } },
    { name: 'a reply', input: request, context: { hint: 0xb4000000 } },
  ])('is let through as it is: $name', ({ input, context }) => {
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    expect(egress(input, context)).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
  });

  it.each([
    { name: 'a port outside of the ranges', input: segment('TCP', real, { ...snat, port: 443 }) },
    { name: 'another address', input: segment('TCP', real, { ...snat, address: 'fd00:2::9' }) },
    { name: 'another real server', input: segment('TCP', { ...real, address: 'fd00:2::9' }, snat) },
    { name: 'a port that is free', input: segment('TCP', real, { ...snat, port: SNAT_PORT + 1 }) },
    {
      name: 'a routing header with segments left',
      input: segment('TCP', real, snat, { extensions: [routing(1)] }),
    },
    {
      name: 'a fragment',
      input: segment('TCP', real, snat, { extensions: [fragmentHeader(7, 0, true)] }),
    },
    {
      name: 'too many extension headers',
      input: segment('TCP', real, snat, { extensions: Array(6).fill(options(EXTENSION.destination)) }),
    },
  ])('is left alone at ingress: $name', ({ input }) => {
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    expect(datapath.ingress(input)).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
  });
});

it.each([
  { name: 'no session', input: segment('TCP', { ...client, port: 1 }, real), counter: 'DROP_NO_SESSION' },
  {
    name: 'more extension headers than are looked behind',
    input: segment('TCP', client, real, { extensions: Array(6).fill(options(EXTENSION.destination)) }),
    counter: 'DROP_NO_SESSION',
  },
  {
    name: 'a routing header with segments left',
    input: segment('TCP', client, real, { extensions: [routing(1)] }),
    counter: 'DROP_NO_SESSION',
  },
])('drops a hinted packet that cannot be translated: $name', ({ input, counter }) => {
  datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
  expect(egress(input)).toMatchObject({ verdict: VERDICT.shot, counted: { [counter]: 1 } });
});

describe.each(transports)('the fragments of a %s request', (transport) => {
  const ID = 0xdeadbeef;
  const length = HEADER_LENGTH[transport] + 1000;
  const fragments = (from: End): Uint8Array[] => {
    const whole = packet6(transport, { from, to: real, payload: filler(1000) }).subarray(40);
    return [0, 400, 800].map((cut) =>
      framed(
        ipv6({
          source: from.address,
          destination: real.address,
          protocol: protocolOf(transport),
          payload: whole.subarray(cut, cut + 400),
          extensions: [fragmentHeader(ID, cut, cut < 800)],
        }),
      ),
    );
  };

  it.each([{}, COMPLETE])('are all translated, and their entry goes with the last (%o)', (context) => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    datapath.maps.ipvs_frags.put(fragmentKey(client.address, real.address, ID, transport), {
      session: key,
      length,
    });
    const outcomes = fragments(client).map((input) => ({
      ...egress(input, context),
      entries: datapath.maps.ipvs_frags.count(),
    }));
    expect(outcomes).toMatchObject(
      fragments(snat).map((bytes, i) => ({
        verdict: VERDICT.unspec,
        frame: bytes,
        counted: { FRAGMENT_EGRESS: 1 },
        entries: i < 2 ? 1 : 0,
      })),
    );
  });

  it('are dropped if nothing names their session', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    for (const input of fragments(client)) {
      expect(egress(input)).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
    }
  });
});

interface Shape {
  readonly type?: number;
  readonly code?: number;
  readonly outer?: readonly Extension[];
  readonly inner?: readonly Extension[];
  /** Bytes of the quoted packet behind its IP header; all of it by default. */
  readonly quoted?: number;
}

const shapes: readonly { name: string; shape: Shape }[] = [
  { name: 'packet too big', shape: {} },
  { name: 'port unreachable', shape: { type: 1, code: 4 } },
  { name: 'time exceeded', shape: { type: 3 } },
  { name: 'parameter problem', shape: { type: 4, code: 1 } },
  { name: 'only 8 bytes quoted', shape: { quoted: 8 } },
  { name: '18 bytes quoted', shape: { quoted: 18 } },
  { name: 'extension headers outside', shape: { outer: [options(EXTENSION.destination)] } },
  {
    name: 'extension headers inside',
    shape: { inner: [options(EXTENSION.hopByHop), options(EXTENSION.destination)] },
  },
  { name: 'a first fragment quoted', shape: { inner: [fragmentHeader(9, 0, true)] } },
];

describe.each(summedTransports)('an ICMPv6 error about a %s session', (transport) => {
  interface Ends {
    readonly source: string;
    readonly destination: string;
    readonly from: End;
    readonly to: End;
  }
  const error = ({ source, destination, from, to }: Ends, shape: Shape): Uint8Array => {
    const { outer = [], inner = [], quoted, ...kind } = shape;
    const whole = packet6(transport, { from, to }, { extensions: inner });
    const length =
      inner.reduce((sum, extension) => sum + extension.rest.length + 1, 40) + (quoted ?? whole.length);
    const fields: Partial<Ipv6Fields> = { extensions: outer };
    return framed(icmpv6Error({ source, destination, ...kind, quote: whole.subarray(0, length) }, fields));
  };
  const outgoing: Ends = { source: router, destination: real.address, from: real, to: client };
  const outgoingTranslated: Ends = { ...outgoing, source: snat.address, to: snat };
  const incoming: Ends = { source: 'fd00:2::fe', destination: snat.address, from: snat, to: real };
  const incomingTranslated: Ends = { ...incoming, destination: client.address, from: client };

  it.each(shapes)('is translated towards the real server: $name', ({ shape }) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    for (const context of [{}, COMPLETE]) {
      const outcome = egress(error(outgoing, shape), context);
      expect(outcome).toMatchObject({ verdict: VERDICT.unspec, counted: { ICMP_EGRESS: 1 } });
      expect(outcome.frame).toEqual(error(outgoingTranslated, shape));
      expect(problems(outcome.frame)).toEqual([]);
    }
  });

  it.each(shapes)('is translated back towards the client: $name', ({ shape }) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    for (const context of [{}, COMPLETE]) {
      const outcome = datapath.ingress(error(incoming, shape), context);
      expect(outcome).toMatchObject({ verdict: VERDICT.unspec, counted: { ICMP_INGRESS: 1 } });
      expect(outcome.frame).toEqual(error(incomingTranslated, shape));
      expect(problems(outcome.frame)).toEqual([]);
    }
  });

  it.each([128, 129, 134, 135, 136])('is none with type %i', (type) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const [sent, received] = [error(outgoing, { type }), error(incoming, { type })];
    expect(egress(sent)).toMatchObject({ verdict: VERDICT.unspec, frame: sent, counted: {} });
    expect(datapath.ingress(received)).toMatchObject({
      verdict: VERDICT.unspec,
      frame: received,
      counted: {},
    });
  });

  it('is dropped if it quotes too little, or a packet of another host', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const short = egress(error(outgoing, { quoted: 7 }));
    const other = egress(error({ ...outgoing, destination: 'fd00:2::9' }, {}));
    expect(short).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
    expect(other).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
  });
});
