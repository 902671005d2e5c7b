// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Datapath, replyKey, SNAT_MODE, snatWord, VERDICT } from './datapath.ts';
import { type End, frame, frameProblems, icmpError, ipv4, packet, type Transport } from './packet.ts';
import {
  client,
  longOptions,
  prepare,
  real,
  router,
  SNAT_ADDRESS,
  SNAT_PORT,
  shortOptions,
  snat,
  summedTransports,
} from './scene.ts';

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => prepare(datapath));

interface Shape {
  readonly type?: number;
  readonly code?: number;
  readonly outerOptions?: Uint8Array;
  readonly innerOptions?: Uint8Array;
  /** Bytes of the quoted packet behind its IP header; all of it by default. */
  readonly quoted?: number;
  readonly unchecked?: boolean;
  readonly moreFragments?: boolean;
}

interface Ends {
  readonly source: string;
  readonly destination: string;
  readonly quoted: { readonly from: End; readonly to: End };
}

function error(transport: Transport, { source, destination, quoted }: Ends, shape: Shape = {}): Uint8Array {
  const { innerOptions, outerOptions, unchecked = false, moreFragments = false } = shape;
  const inner = packet(transport, quoted, {
    unchecked,
    moreFragments,
    ...(innerOptions ? { options: innerOptions } : {}),
  });
  const length = 20 + (innerOptions?.length ?? 0) + (shape.quoted ?? inner.length);
  const { type = 3, code = 4 } = shape;
  return frame(
    icmpError(
      { source, destination, type, code, quote: inner.subarray(0, length) },
      outerOptions ? { options: outerOptions } : {},
    ),
  );
}

/** A router on the client's side could not send on what the real server answered. */
const outgoing: Ends = { source: router, destination: real.address, quoted: { from: real, to: client } };
const outgoingTranslated: Ends = {
  source: SNAT_ADDRESS,
  destination: real.address,
  quoted: { from: real, to: snat },
};

/** The real server, or a router before it, could not take the request. */
const incoming: Ends = {
  source: '10.0.0.254',
  destination: SNAT_ADDRESS,
  quoted: { from: snat, to: real },
};
const incomingTranslated: Ends = {
  source: '10.0.0.254',
  destination: client.address,
  quoted: { from: client, to: real },
};

const shapes: readonly { name: string; shape: Shape }[] = [
  { name: 'the whole packet quoted', shape: {} },
  { name: 'time exceeded', shape: { type: 11, code: 0 } },
  { name: 'source quench', shape: { type: 4, code: 0 } },
  { name: 'port unreachable', shape: { code: 3 } },
  { name: 'only 8 bytes quoted', shape: { quoted: 8 } },
  { name: '16 bytes quoted, up to the TCP checksum', shape: { quoted: 16 } },
  { name: '18 bytes quoted', shape: { quoted: 18 } },
  { name: 'options outside', shape: { outerOptions: shortOptions } },
  { name: 'options inside', shape: { innerOptions: shortOptions } },
  { name: 'all options there are', shape: { outerOptions: longOptions, innerOptions: longOptions } },
  {
    name: 'all options, 8 bytes',
    shape: { outerOptions: longOptions, innerOptions: longOptions, quoted: 8 },
  },
  { name: 'a first fragment quoted', shape: { moreFragments: true } },
];

describe.each(summedTransports)('an ICMP error about a %s session', (transport) => {
  const unchecked = transport === 'UDP' ? [{ name: 'no checksum inside', shape: { unchecked: true } }] : [];

  it.each([...shapes, ...unchecked])('is translated towards the real server: $name', ({ shape }) => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });

    const { verdict, frame: sent, counted, context } = datapath.egress(error(transport, outgoing, shape));

    expect({ verdict, counted }).toEqual({ verdict: VERDICT.unspec, counted: { ICMP_EGRESS: 1 } });
    expect(sent).toEqual(error(transport, outgoingTranslated, shape));
    expect(frameProblems(sent)).toEqual([]);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
    expect(context.cb[4]).toBe(0);
  });

  it.each([...shapes, ...unchecked])('is translated back towards the client: $name', ({ shape }) => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });

    const { verdict, frame: received, counted } = datapath.ingress(error(transport, incoming, shape));

    expect({ verdict, counted }).toEqual({ verdict: VERDICT.unspec, counted: { ICMP_INGRESS: 1 } });
    expect(received).toEqual(error(transport, incomingTranslated, shape));
    expect(frameProblems(received)).toEqual([]);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
  });

  it('leaves a sum that the device took over the packet right', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const sent = datapath.egress(error(transport, outgoing), { flags: 4 });
    const received = datapath.ingress(error(transport, incoming), { flags: 4 });
    expect(sent.frame).toEqual(error(transport, outgoingTranslated));
    expect(received.frame).toEqual(error(transport, incomingTranslated));
  });

  it('leaves a quoted checksum that is wrong by as much as it was', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const at = 14 + 20 + 8 + 20 + (transport === 'TCP' ? 16 : 6);
    const spoiled = error(transport, incoming);
    const before = ((spoiled[at] ?? 0) << 8) | (spoiled[at + 1] ?? 0);
    // The ICMP checksum covers it: move the same difference there.
    spoiled.set([0x01, 0x02], at);
    const icmp = 14 + 20 + 2;
    const sum = (((spoiled[icmp] ?? 0) << 8) | (spoiled[icmp + 1] ?? 0)) + before + (~0x0102 & 0xffff);
    const folded = (sum & 0xffff) + (sum >> 16);
    const twice = (folded & 0xffff) + (folded >> 16);
    spoiled.set([twice >> 8, twice & 0xff], icmp);
    expect(frameProblems(spoiled)).toEqual(['quoted transport checksum']);

    const { frame: received } = datapath.ingress(spoiled);
    expect(frameProblems(received)).toEqual(['quoted transport checksum']);
  });

  it('stays as it is if the session keeps its client', () => {
    const kept = snatWord(7, 0xffff);
    datapath.addSession({ client, real, transport, snat: kept, mode: SNAT_MODE.never });
    const input = error(transport, outgoing);
    const outcome = datapath.egress(input);
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: { SNAT_KEPT: 1 } });
  });
});

it('leaves half a quoted checksum as it is', () => {
  datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
  const input = error('TCP', outgoing, { quoted: 17 });
  const { frame: sent } = datapath.egress(input);
  const upToPort = error('TCP', outgoingTranslated, { quoted: 16 });
  expect(sent.subarray(42, 78)).toEqual(upToPort.subarray(42, 78));
  expect(sent.at(-1)).toBe(input.at(-1));
  expect(frameProblems(sent)).toEqual([]);
});

describe('towards the real server', () => {
  it.each([
    { name: 'no session', ends: outgoing, session: undefined },
    {
      name: 'sent to another host than the quoted one',
      ends: { ...outgoing, destination: '10.0.0.3' },
      session: { client, real },
    },
    { name: 'another real server quoted', ends: outgoing, session: { client, real: { ...real, port: 81 } } },
  ])('drops what has a hint and no session that fits: $name', ({ ends, session }) => {
    if (session) datapath.addTranslatedSession({ ...session, port: SNAT_PORT });
    const outcome = datapath.egress(error('TCP', ends));
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
  });

  it.each([0, 8, 13, 14])('leaves type %i alone', (type) => {
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    const input = error('TCP', outgoing, { type, code: 0 });
    expect(datapath.egress(input)).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
  });

  it('drops what quotes too little to have ports', () => {
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    const outcome = datapath.egress(error('TCP', outgoing, { quoted: 7 }));
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
  });
});

describe('from the real server', () => {
  const laterFragment = ipv4({
    source: SNAT_ADDRESS,
    destination: real.address,
    protocol: 6,
    payload: packet('TCP', { from: snat, to: real }).subarray(20),
    fragmentOffset: 800,
  });
  it.each([
    { name: 'too little quoted', input: error('TCP', incoming, { quoted: 7 }) },
    { name: 'a later fragment quoted', input: frame(icmpError({ ...incoming, quote: laterFragment })) },
    {
      name: 'quotes a packet of another host',
      input: error('TCP', { ...incoming, quoted: { ...incoming.quoted, from: client } }),
    },
    {
      name: 'quotes a port outside of the ranges',
      input: error('TCP', { ...incoming, quoted: { from: { ...snat, port: 80 }, to: real } }),
    },
    { name: 'quotes another protocol', input: error('UDP', incoming) },
    { name: 'echo reply', input: error('TCP', incoming, { type: 0, code: 0 }) },
    { name: 'redirect', input: error('TCP', incoming, { type: 5, code: 1 }) },
  ])('leaves alone what names no session: $name', ({ input }) => {
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    expect(datapath.maps.ipvs_replies.has(replyKey(real, SNAT_PORT))).toBe(true);
    expect(datapath.ingress(input)).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
  });
});
