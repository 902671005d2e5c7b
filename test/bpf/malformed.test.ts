// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ADDRESS_ID, Datapath, HINT_MAGIC, SNAT_MODE, VERDICT } from './datapath.ts';
import { ETHERNET_LENGTH, frame, icmpError, packet, type Transport } from './packet.ts';
import {
  client,
  prepare,
  real,
  reply,
  request,
  router,
  SNAT_ADDRESS,
  SNAT_PORT,
  shortOptions,
  snat,
  transports,
} from './scene.ts';

/** BPF_PROG_RUN itself wants the whole IPv4 header. */
const SHORTEST = ETHERNET_LENGTH + 20;

const SERVICE_IDS = { TCP: 1, UDP: 2, SCTP: 3 } as const;
/** What there has to be of a transport header. */
const LEAST = { TCP: 20, UDP: 8, SCTP: 12 } as const;

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => {
  prepare(datapath);
  for (const transport of transports) {
    const serviceId = SERVICE_IDS[transport];
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT, serviceId });
  }
});

const hintOf = (transport: Transport) => HINT_MAGIC | SERVICE_IDS[transport];

/** Sets the total length and leaves the checksum wrong: the programs go by the length alone. */
function withTotalLength(bytes: Uint8Array, length: number): Uint8Array {
  return Uint8Array.from(bytes)
    .fill(length >> 8, 16, 17)
    .fill(length & 0xff, 17, 18);
}

/** A frame that is long enough for the transport header, whatever IP options are before it. */
function endsWithData(
  transport: Transport,
  { whole, length }: { whole: Uint8Array; length: number },
): boolean {
  const header = ((whole[ETHERNET_LENGTH] ?? 0) & 0xf) * 4;
  return length >= ETHERNET_LENGTH + header + LEAST[transport];
}

describe.each(transports)('a truncated %s packet', (transport) => {
  const hint = hintOf(transport);
  const tooShort = [undefined, { options: shortOptions }].flatMap((extra) => {
    const whole = request(transport, extra);
    return Array.from({ length: whole.length - SHORTEST }, (_, i) => SHORTEST + i).map((length) => ({
      length,
      whole,
      back: reply(transport, extra),
    }));
  });

  it('of a session is dropped, wherever the frame ends', () => {
    const outcomes = tooShort.map(({ whole, length }) =>
      datapath.egress(whole.subarray(0, length), { hint }),
    );
    expect(outcomes.map(({ verdict, counted }) => ({ verdict, counted }))).toEqual(
      Array(tooShort.length).fill({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } }),
    );
  });

  it.each([
    { name: 'decides nothing', mode: SNAT_MODE.always },
    { name: "is dropped as well if the client's address is kept", mode: SNAT_MODE.never },
  ])('$name', ({ mode }) => {
    for (const { whole, length } of tooShort.filter((short) => !endsWithData(transport, short))) {
      const key = datapath.addSession({ client, real, transport, serviceId: 9, mode });
      const outcome = datapath.egress(whole.subarray(0, length), { hint: 0xb5000009 });
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
      expect(datapath.snatEnd(key).addressId).toBe(ADDRESS_ID.undecided);
    }
  });

  it('of a reply is dropped or left alone, wherever the frame ends', () => {
    for (const { back, length } of tooShort) {
      const input = back.subarray(0, length);
      const { verdict, frame: received, counted } = datapath.ingress(input);
      const dropped = verdict === VERDICT.shot;
      expect({ length, counted }).toEqual({ length, counted: dropped ? { DROP_MALFORMED: 1 } : {} });
      if (!dropped) expect(received).toEqual(input);
    }
  });

  it('is one as well if only its header says so', () => {
    const least = 20 + LEAST[transport];
    for (let length = 1; length < least; length += 1) {
      const outcome = datapath.egress(withTotalLength(request(transport), length), { hint });
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
      const back = withTotalLength(reply(transport), length);
      const { verdict, frame: received } = datapath.ingress(back);
      expect(verdict === VERDICT.shot || Buffer.compare(received, back) === 0).toBe(true);
    }
  });

  it('is one if its header says that it is longer than it is', () => {
    const whole = request(transport);
    const outcome = datapath.egress(withTotalLength(whole, whole.length - ETHERNET_LENGTH + 1), { hint });
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
  });

  it('is not one without a length: GSO packets beyond 64 KB have none', () => {
    const { verdict, counted } = datapath.egress(withTotalLength(request(transport), 0), { hint });
    expect({ verdict, counted }).toEqual({ verdict: VERDICT.unspec, counted: { SNAT: 1 } });
  });
});

describe.each(transports)('a truncated ICMP error about a %s session', (transport) => {
  const hint = hintOf(transport);
  const least = { outgoing: 20 + 8 + 20 + 8, incoming: 20 + 8 + 20 + 8 };
  const outgoing = frame(
    icmpError({
      source: router,
      destination: real.address,
      quote: packet(transport, { from: real, to: client }),
    }),
  );
  const incoming = frame(
    icmpError({
      source: '10.0.0.254',
      destination: SNAT_ADDRESS,
      quote: packet(transport, { from: snat, to: real }),
    }),
  );

  it('is dropped towards the real server, wherever the frame ends', () => {
    for (let length = SHORTEST; length < outgoing.length; length += 1) {
      const { verdict, counted } = datapath.egress(outgoing.subarray(0, length), { hint });
      expect({ length, verdict, counted }).toEqual({
        length,
        verdict: VERDICT.shot,
        counted: { DROP_MALFORMED: 1 },
      });
    }
  });

  it('is dropped or left alone from the real server, wherever the frame ends', () => {
    for (let length = SHORTEST; length < incoming.length; length += 1) {
      const input = incoming.subarray(0, length);
      const { verdict, frame: received, counted } = datapath.ingress(input);
      const dropped = length >= ETHERNET_LENGTH + least.incoming;
      expect({ length, verdict, counted }).toEqual({
        length,
        verdict: dropped ? VERDICT.shot : VERDICT.unspec,
        counted: dropped ? { DROP_MALFORMED: 1 } : {},
      });
      if (!dropped) expect(received).toEqual(input);
    }
  });

  it('without a length, which quotes no checksum, is translated all the same', () => {
    if (transport !== 'TCP') return;
    for (const options of [undefined, shortOptions]) {
      const quote = packet('TCP', { from: real, to: client }).subarray(0, 20 + 17);
      const whole = frame(
        icmpError({ source: router, destination: real.address, quote }, options && { options }),
      );
      const outcome = datapath.egress(withTotalLength(whole, 0), { hint });
      expect(outcome).toMatchObject({ verdict: VERDICT.unspec, counted: { ICMP_EGRESS: 1 } });
    }
  });

  it('is dropped towards the real server if its header says that it quotes too little', () => {
    for (let length = 1; length < least.outgoing; length += 1) {
      const outcome = datapath.egress(withTotalLength(outgoing, length), { hint });
      expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
    }
  });
});

describe('a header length that cannot be', () => {
  it.each([0, 1, 2, 3, 4])('%i words: dropped as a request, left alone as a reply', (words) => {
    const input = request('TCP').fill(0x40 | words, ETHERNET_LENGTH, ETHERNET_LENGTH + 1);
    const back = reply('TCP').fill(0x40 | words, ETHERNET_LENGTH, ETHERNET_LENGTH + 1);
    expect(datapath.egress(input)).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_MALFORMED: 1 } });
    expect(datapath.ingress(back)).toMatchObject({ verdict: VERDICT.unspec, frame: back, counted: {} });
  });
});
