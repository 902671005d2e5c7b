// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Datapath, replyKey, sessionKey, snatWord, VERDICT } from './datapath.ts';
import { ETH_P, filler, frame, frameProblems, icmpError, ipv4 } from './packet.ts';
import {
  client,
  framed,
  longOptions,
  prepare,
  real,
  reply,
  SNAT_ADDRESS,
  SNAT_PORT,
  shortOptions,
  snat,
  translatedReply,
  transports,
} from './scene.ts';

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => prepare(datapath));

describe.each(transports)('a %s reply', (transport) => {
  it('gets back the client that it is for', () => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });

    const { verdict, frame: received, counted } = datapath.ingress(reply(transport));

    expect({ verdict, counted }).toEqual({ verdict: VERDICT.unspec, counted: { SNAT_REVERSED: 1 } });
    expect(received).toEqual(translatedReply(transport));
    expect(frameProblems(received)).toEqual([]);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
  });

  it('undoes what egress did', () => {
    const key = datapath.addSession({ client, real, transport });
    datapath.egress(framed(transport, { from: client, to: real }));
    const to = { address: SNAT_ADDRESS, port: datapath.snatEnd(key).port };
    const { frame: received } = datapath.ingress(framed(transport, { from: real, to }));
    expect(received).toEqual(translatedReply(transport));
  });

  it.each([
    ['4 bytes of options', { options: shortOptions }],
    ['40 bytes of options', { options: longOptions }],
  ])('is translated with %s', (_, extra) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const { frame: received } = datapath.ingress(reply(transport, extra));
    expect(received).toEqual(translatedReply(transport, extra));
  });

  it('keeps the padding of a short frame', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const padding = new Uint8Array(18).fill(0xaa);
    const { frame: received } = datapath.ingress(Uint8Array.from([...reply(transport), ...padding]));
    expect(received).toEqual(Uint8Array.from([...translatedReply(transport), ...padding]));
  });

  it('leaves a sum that the device took over the packet right', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const { frame: received } = datapath.ingress(reply(transport), { flags: 4 });
    expect(received).toEqual(translatedReply(transport));
  });

  it('has right checksums whatever the bytes', () => {
    for (let seed = 0; seed < 64; seed += 1) {
      const from = { address: `198.51.${seed}.${255 - seed}`, port: 1024 + seed * 1003 };
      const to = { ...snat, port: 20000 + seed };
      datapath.addTranslatedSession({ client: from, real, transport, port: to.port });
      const payload = filler(seed, seed);
      const received = datapath.ingress(framed(transport, { from: real, to, payload })).frame;
      expect({ seed, problems: frameProblems(received) }).toEqual({ seed, problems: [] });
    }
  });
});

it('leaves UDP without checksum as it is', () => {
  datapath.addTranslatedSession({ client, real, transport: 'UDP', port: SNAT_PORT });
  for (const flags of [0, 4]) {
    const { frame: received } = datapath.ingress(reply('UDP', { unchecked: true }), { flags });
    expect(received).toEqual(translatedReply('UDP', { unchecked: true }));
  }
});

describe('a packet that is not ours', () => {
  const untouched = [
    {
      name: 'a port outside of the ranges',
      input: framed('TCP', { from: real, to: { ...snat, port: 19999 } }),
    },
    {
      name: 'a port that is free',
      input: framed('TCP', { from: real, to: { ...snat, port: SNAT_PORT + 1 } }),
    },
    {
      name: 'another real server',
      input: framed('TCP', { from: { ...real, address: '10.0.0.3' }, to: snat }),
    },
    { name: 'another port there', input: framed('TCP', { from: { ...real, port: 22 }, to: snat }) },
    { name: 'another protocol', input: reply('UDP') },
    {
      name: 'another address of ours',
      input: framed('TCP', { from: real, to: { ...snat, address: '10.0.0.9' } }),
    },
    { name: 'a first fragment', input: reply('TCP', { moreFragments: true }) },
    { name: 'a later fragment', input: reply('TCP', { fragmentOffset: 64 }) },
    { name: 'IPv6', input: frame(filler(60).fill(0x60, 0, 1), ETH_P.ipv6) },
    { name: 'IPv4 in name only', input: frame(filler(60).fill(0x60, 0, 1)) },
    { name: 'a tagged frame', input: frame(reply('TCP').subarray(14), ETH_P.ipv4, { vlan: 5 }) },
    {
      name: 'an ICMP message that is no error',
      input: frame(
        icmpError({ source: real.address, destination: SNAT_ADDRESS, type: 8, quote: filler(40) }),
      ),
    },
    {
      name: 'a protocol without ports',
      input: frame(
        ipv4({ source: real.address, destination: SNAT_ADDRESS, protocol: 47, payload: filler(20) }),
      ),
    },
  ];
  it.each(untouched)('is let through as it is: $name', ({ input }) => {
    const key = datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    const outcome = datapath.ingress(input, { mark: 9 });
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
    expect(outcome.context.mark).toBe(9);
    expect(datapath.session(key).seen).toBe(0n);
  });

  it.each([
    { name: 'the session is gone', word: undefined },
    { name: 'the module is removing the session', word: 0n },
    { name: 'the session has another port', word: snatWord(7, 1, SNAT_PORT + 1) },
    { name: 'the session has another address', word: snatWord(7, 2, SNAT_PORT) },
    { name: 'the SNAT end is reserved, but not published', word: snatWord(7, 0) },
  ])('is let through as it is: $name', ({ word }) => {
    datapath.maps.ipvs_replies.put(replyKey(real, SNAT_PORT), sessionKey(client));
    if (word !== undefined) datapath.addSession({ client, real, snat: word });
    const outcome = datapath.ingress(reply('TCP'));
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, frame: reply('TCP'), counted: {} });
  });
});
