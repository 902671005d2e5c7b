// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ADDRESS_ID, Datapath, fragmentKey, SNAT_MODE, sessionKey, VERDICT } from './datapath.ts';
import {
  checksumProblems,
  type End,
  filler,
  frame,
  HEADER_LENGTH,
  type Ipv4Fields,
  ipv4,
  packet,
  protocolOf,
} from './packet.ts';
import { client, longOptions, prepare, real, SNAT_PORT, shortOptions, snat, transports } from './scene.ts';

const ID = 0xbeef;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => prepare(datapath));

type Transport = (typeof transports)[number];

/** The frames of one datagram of 1,000 bytes, cut every 400. */
function fragments(transport: Transport, from: End, extra: Partial<Ipv4Fields> = {}): Uint8Array[] {
  const whole = packet(transport, { from, to: real, payload: filler(1000) }).subarray(20);
  const cuts = [0, 400, 800];
  return cuts.map((cut) =>
    frame(
      ipv4({
        source: from.address,
        destination: real.address,
        protocol: protocolOf(transport),
        payload: whole.subarray(cut, cut + 400),
        id: ID,
        fragmentOffset: cut,
        moreFragments: cut < 800,
        ...extra,
      }),
    ),
  );
}

function reassembled(frames: readonly Uint8Array[]): Uint8Array {
  const [first = new Uint8Array(0), ...later] = frames.map((bytes) => bytes.subarray(14));
  const payload = [first, ...later].flatMap((ip) => [...ip.subarray(((ip[0] ?? 0) & 0xf) * 4)]);
  const text = (at: number) => [...first.subarray(at, at + 4)].join('.');
  return ipv4({
    source: text(12),
    destination: text(16),
    protocol: first[9] ?? 0,
    payload: Uint8Array.from(payload),
  });
}

describe.each(transports)('the fragments of a %s request', (transport) => {
  const datagram = fragmentKey(client.address, real.address, ID, transport);
  const length = HEADER_LENGTH[transport] + 1000;
  const session = sessionKey(client);

  it.each([
    ['none', {}],
    ['4 bytes', { options: shortOptions }],
    ['40 bytes', { options: longOptions }],
  ])('are all translated, and their entry goes with the last (options: %s)', (_, extra) => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    datapath.maps.ipvs_frags.put(datagram, { session: key, length });

    const outcomes = fragments(transport, client, extra).map((input) => ({
      ...datapath.egress(input, { hint: 0 }),
      entries: datapath.maps.ipvs_frags.count(),
    }));

    const expected = fragments(transport, snat, extra);
    expect(outcomes).toMatchObject(
      expected.map((bytes, i) => ({
        verdict: VERDICT.unspec,
        frame: bytes,
        counted: { FRAGMENT_EGRESS: 1 },
        entries: i < 2 ? 1 : 0,
      })),
    );
    expect(checksumProblems(reassembled(outcomes.map((outcome) => outcome.frame)))).toEqual([]);
  });

  it('get a SNAT end with the first of them, and all the same', () => {
    const key = datapath.addSession({ client, real, transport });
    datapath.maps.ipvs_frags.put(datagram, { session: key, length });
    const sent = fragments(transport, client).map((input) => datapath.egress(input, { hint: 0 }).frame);
    expect(sent).toEqual(fragments(transport, { ...snat, port: datapath.snatEnd(key).port }));
    expect(datapath.maps.ipvs_replies.count()).toBe(1);
  });

  it('go by the entry also where a hint is left in the first', () => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    datapath.maps.ipvs_frags.put(datagram, { session: key, length });
    const [first = new Uint8Array(0)] = fragments(transport, client);
    const outcome = datapath.egress(first);
    expect(outcome.frame).toEqual(fragments(transport, snat)[0]);
    expect(outcome.context.cb[4]).toBe(0);
  });

  it('stay as they are if the session keeps its client', () => {
    const key = datapath.addSession({ client, real, transport, mode: SNAT_MODE.never });
    datapath.maps.ipvs_frags.put(datagram, { session: key, length });
    const inputs = fragments(transport, client);
    const outcomes = inputs.map((input) => datapath.egress(input, { hint: 0 }));
    expect(outcomes.map((outcome) => outcome.frame)).toEqual(inputs);
    expect(outcomes.map((outcome) => outcome.counted)).toEqual(Array(3).fill({ SNAT_KEPT: 1 }));
    expect(datapath.snatEnd(key).addressId).toBe(ADDRESS_ID.none);
  });

  it('are nobody of ours if nothing names their session', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    datapath.maps.ipvs_frags.put(fragmentKey(client.address, real.address, ID + 1, transport), {
      session,
      length,
    });
    for (const input of fragments(transport, client)) {
      const outcome = datapath.egress(input, { hint: 0 });
      expect(outcome).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
    }
  });

  it('are dropped if they have a hint and nothing names their session', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const outcomes = fragments(transport, client).map((input) => datapath.egress(input));
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
    }
  });

  it('are dropped if their session is gone', () => {
    datapath.maps.ipvs_frags.put(datagram, { session, length });
    const outcomes = fragments(transport, client).map((input) => datapath.egress(input, { hint: 0 }));
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
    }
    expect(datapath.maps.ipvs_frags.count()).toBe(0);
  });

  it('are dropped if they are for another real server than their session', () => {
    const elsewhere = { address: '10.0.0.3', port: real.port };
    const key = datapath.addTranslatedSession({ client, real: elsewhere, transport, port: SNAT_PORT });
    datapath.maps.ipvs_frags.put(datagram, { session: key, length });
    for (const input of fragments(transport, client)) {
      const outcome = datapath.egress(input, { hint: 0 });
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
    }
  });
});

it('drops a first fragment that ends before the checksum', () => {
  const key = datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
  datapath.maps.ipvs_frags.put(fragmentKey(client.address, real.address, ID, 'TCP'), {
    session: key,
    length: 28,
  });
  const tiny = ipv4({
    source: client.address,
    destination: real.address,
    protocol: 6,
    payload: packet('TCP', { from: client, to: real }).subarray(20, 28),
    id: ID,
    moreFragments: true,
  });
  const outcome = datapath.egress(frame(tiny), { hint: 0 });
  expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
});

it('translates a last fragment of a single byte', () => {
  const key = datapath.addTranslatedSession({ client, real, transport: 'UDP', port: SNAT_PORT });
  datapath.maps.ipvs_frags.put(fragmentKey(client.address, real.address, ID), { session: key, length: 1481 });
  const last = (source: string) =>
    frame(
      ipv4({
        source,
        destination: real.address,
        protocol: 17,
        payload: filler(1),
        id: ID,
        fragmentOffset: 1480,
      }),
    );
  const outcome = datapath.egress(last(client.address), { hint: 0 });
  expect(outcome).toMatchObject({ frame: last(snat.address), counted: { FRAGMENT_EGRESS: 1 } });
});
