// SPDX-License-Identifier: Apache-2.0
/** What test/bpf/generated stands on: packets that a seed fixes, and a model with right checksums. */
import { describe, expect, it } from 'vitest';
import { mappedBytes } from '../../../src/core/abi.ts';
import {
  frameOf,
  icmpMessage,
  ipPacket,
  sctpPacket,
  tcpSegment,
  udpDatagram,
} from '../../bpf/generated/build.ts';
import { damaged, shortest } from '../../bpf/generated/damage.ts';
import { sessionBytes, sessionKeyBytes, sessionOf } from '../../bpf/generated/encode.ts';
import { type Family, SCTP, TCP, UDP } from '../../bpf/generated/maps.ts';
import { ETHERNET, ICMP, isPacket, readPacket, readQuote } from '../../bpf/generated/packet.ts';
import { makeInput } from '../../bpf/generated/packets.ts';
import { Random } from '../../bpf/generated/random.ts';
import { type Ends, translated, translatedError } from '../../bpf/generated/rewrite.ts';
import { makeScene, makeWorld, VARIANTS } from '../../bpf/generated/scenes.ts';
import { checksumProblems, type End, filler, icmpError, packet } from '../../bpf/packet.ts';
import { checksumProblems6, icmpv6Error, packet6 } from '../../bpf/packet6.ts';

const mapped = ({ address, port }: End): End => ({
  address: Buffer.from(mappedBytes(address)).toString('hex'),
  port,
});

/** Builders of the other tests, which share no code with the model. */
const families = [
  {
    family: 4 as Family,
    client: { address: '198.51.100.7', port: 40000 },
    real: { address: '10.0.0.2', port: 8080 },
    snat: { address: '10.0.0.1', port: 20123 },
    router: '198.51.100.254',
    hops: (left: number) => ({ ttl: left }),
    make: packet,
    makeError: icmpError,
    problems: checksumProblems,
  },
  {
    family: 6 as Family,
    client: { address: '2001:db8:c::7', port: 40000 },
    real: { address: 'fd00:2::2', port: 8080 },
    snat: { address: 'fd00:2::1', port: 20123 },
    router: '2001:db8:c::fe',
    hops: (left: number) => ({ hopLimit: left }),
    make: packet6,
    makeError: icmpv6Error,
    problems: checksumProblems6,
  },
];

const framed = (family: Family, bytes: Uint8Array) => frameOf('000000000000', family, Buffer.from(bytes));

function read(family: Family, frame: Buffer) {
  const found = readPacket(family, frame);
  if (!isPacket(found)) throw new Error(found);
  return found;
}

describe.each(families)('a packet of family $family', ({ family, client, real, snat, ...rest }) => {
  const { router, hops, make, makeError, problems } = rest;
  const payloads = [filler(0), filler(5), filler(1000)];
  const kinds = [
    ['TCP', {}],
    ['UDP', {}],
    ['UDP', { unchecked: true }],
    ['SCTP', {}],
  ] as const;

  it.each(kinds)('is what it would have been with other ends (%s, %o)', (transport, extra) => {
    for (const payload of payloads) {
      const before = framed(
        family,
        make(transport, { from: client, to: real, payload }, { ...extra, ...hops(9) }),
      );
      const wanted = (from: End, to: End, left: number) =>
        framed(family, make(transport, { from, to, payload }, { ...extra, ...hops(left) }));
      const model = (ends: Ends, less = 0) => translated(before, read(family, before), ends, { hops: less });
      const source = mapped(snat);
      expect(model({ source })).toEqual(wanted(snat, real, 9));
      expect(model({ destination: source })).toEqual(wanted(client, snat, 9));
      expect(model({ source, destination: mapped(client) }, 1)).toEqual(wanted(snat, client, 8));
    }
  });

  it.each([40, 28, 20, 8])('is quoted by an error with %i bytes of it, and translated there', (bytes) => {
    for (const transport of ['TCP', 'UDP'] as const) {
      const error = (to: End) => {
        const quote = make(transport, { from: real, to }).subarray(0, (family === 4 ? 20 : 40) + bytes);
        return framed(
          family,
          makeError({ source: to === client ? router : snat.address, destination: real.address, quote }),
        );
      };
      const before = error(client);
      const outer = read(family, before);
      const quote = readQuote(before, outer);
      if (quote === undefined) throw new Error('no quote');
      expect(translatedError(before, outer, quote, { source: mapped(snat) })).toEqual(error(snat));
    }
  });

  it('is built with right checksums', () => {
    const [from, to] = [mapped(client), mapped(real)];
    const segment = { family, from, to, data: Buffer.from(filler(33)), flags: 0x18 };
    const [source, destination] = [from.address, to.address];
    const draft = { family, source, destination, hops: 3, id: 77 };
    const quote = ipPacket({ ...draft, protocol: UDP, payload: udpDatagram(segment) });
    const built = [
      ipPacket({ ...draft, protocol: TCP, payload: tcpSegment({ ...segment, options: Buffer.alloc(8, 1) }) }),
      quote,
      ipPacket({ ...draft, protocol: UDP, payload: udpDatagram({ ...segment, unchecked: true }) }),
      ipPacket({ ...draft, protocol: SCTP, payload: sctpPacket(segment) }),
      ipPacket({
        ...draft,
        protocol: ICMP[family],
        payload: icmpMessage({ family, source, destination, type: 3, quote }),
      }),
    ];
    expect(built.map((bytes) => problems(bytes))).toEqual([[], [], [], [], []]);
  });
});

/** Packets of a scene, as the model sees them before anything has changed. */
function packetsOf(seed: number) {
  const random = new Random(seed);
  const maps = makeScene(random, makeWorld(random, random.pick(VARIANTS)));
  return Array.from({ length: 300 }, () => damaged(random, makeInput(random, maps)));
}

describe('a scene', () => {
  it('is fixed by its seed', () => {
    expect(packetsOf(5)).toEqual(packetsOf(5));
    expect(packetsOf(5)).not.toEqual(packetsOf(6));
  });

  it('has sessions that are read as they were written', () => {
    const random = new Random(5);
    const { sessions } = makeScene(random, makeWorld(random, random.pick(VARIANTS)));
    for (const session of sessions.values()) {
      const { seen, request, reply, ...rest } = session;
      expect(sessionOf(sessionKeyBytes(session.key), sessionBytes(session, 0))).toEqual(rest);
    }
  });

  it.each([1, 2, 3])('has packets that the kernel takes (seed %i)', (seed) => {
    for (const { frame } of packetsOf(seed)) {
      expect(frame.length).toBeGreaterThanOrEqual(shortest(frame));
      expect(frame.length).toBeLessThan(ETHERNET + 2000);
    }
  });
});
