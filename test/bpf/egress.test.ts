// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  ADDRESS_ID,
  AF_INET,
  Datapath,
  HINT_MAGIC,
  type RunContext,
  replyKey,
  SNAT_MODE,
  sessionKey,
  snatWord,
  VERDICT,
} from './datapath.ts';
import { ETH_P, filler, frame, frameProblems, IPPROTO, ipv4, packet } from './packet.ts';
import {
  client,
  framed,
  longOptions,
  prepare,
  real,
  request,
  SNAT_ADDRESS,
  SNAT_PORT,
  shortOptions,
  translatedRequest,
  transports,
} from './scene.ts';

let datapath: Datapath;
beforeAll(() => {
  datapath = new Datapath();
});
afterAll(() => datapath[Symbol.dispose]());
beforeEach(() => prepare(datapath));

describe.each(transports)('a %s request', (transport) => {
  it('gets a SNAT end with its first packet', () => {
    const key = datapath.addSession({ client, real, transport });

    const { verdict, frame: sent, counted } = datapath.egress(request(transport));

    const { addressId, port, cookie } = datapath.snatEnd(key);
    expect({ verdict, counted, addressId, cookie }).toEqual({
      verdict: VERDICT.unspec,
      counted: { SNAT: 1 },
      addressId: 1,
      cookie: 7,
    });
    expect(port).toBeGreaterThanOrEqual(20000);
    expect(port).toBeLessThanOrEqual(29999);
    expect(sent).toEqual(translatedRequest(transport, port));
    expect(frameProblems(sent)).toEqual([]);
    expect([...datapath.maps.ipvs_replies]).toEqual([[replyKey(real, port, transport), key]]);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
  });

  it('keeps the SNAT end with later packets', () => {
    const key = datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });

    const { frame: sent, counted } = datapath.egress(request(transport));

    expect(sent).toEqual(translatedRequest(transport, SNAT_PORT));
    expect(counted).toEqual({ SNAT: 1 });
    expect(datapath.snatEnd(key).port).toBe(SNAT_PORT);
    expect(datapath.maps.ipvs_replies.count()).toBe(1);
  });

  it.each([
    ['no', {}],
    ['4 bytes of', { options: shortOptions }],
    ['40 bytes of', { options: longOptions }],
  ])('is translated with %s IP options', (_, extra) => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const { frame: sent } = datapath.egress(request(transport, extra));
    expect(sent).toEqual(translatedRequest(transport, SNAT_PORT, extra));
  });

  it('has right checksums whatever the bytes', () => {
    for (let seed = 0; seed < 64; seed += 1) {
      const from = { address: `198.51.${seed}.${255 - seed}`, port: 1024 + seed * 1003 };
      datapath.addTranslatedSession({ client: from, real, transport, port: 20000 + seed });
      const payload = filler(seed, seed);
      const sent = datapath.egress(framed(transport, { from, to: real, payload })).frame;
      expect({ seed, problems: frameProblems(sent) }).toEqual({ seed, problems: [] });
      expect(sent.subarray(26, 30)).toEqual(Uint8Array.of(10, 0, 0, 1));
    }
  });

  it('leaves a sum that the device took over the packet right', () => {
    const checksumComplete = 4;
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    // The kernel compares the sum with the packet afterwards and fails with EBADMSG if it is wrong.
    const { frame: sent } = datapath.egress(request(transport), { flags: checksumComplete });
    expect(sent).toEqual(translatedRequest(transport, SNAT_PORT));
  });

  it('does not touch what belongs to others', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const { context } = datapath.egress(request(transport), { mark: 0xdeadbeef });
    expect(context.mark).toBe(0xdeadbeef);
    expect(context.vlanPresent).toBe(0);
  });

  it('loses its hint, so that a second device does not translate it again', () => {
    datapath.addTranslatedSession({ client, real, transport, port: SNAT_PORT });
    const first = datapath.egress(request(transport));
    const second = datapath.egress(first.frame, { hint: first.context.cb[4] ?? 0 });
    expect(first.context.cb[4]).toBe(0);
    expect(second).toMatchObject({ verdict: VERDICT.unspec, frame: first.frame, counted: {} });
  });
});

describe('a UDP request without checksum', () => {
  it.each([0, 4])('stays without (run flags %i)', (flags) => {
    datapath.addTranslatedSession({ client, real, transport: 'UDP', port: SNAT_PORT });
    const { frame: sent } = datapath.egress(request('UDP', { unchecked: true }), { flags });
    expect(sent).toEqual(translatedRequest('UDP', SNAT_PORT, { unchecked: true }));
  });
});

describe('a UDP request whose new checksum is zero', () => {
  it('carries its other representation, because zero means none', () => {
    datapath.addTranslatedSession({ client, real, transport: 'UDP', port: SNAT_PORT });
    const from = { address: SNAT_ADDRESS, port: SNAT_PORT };
    // A payload that equals the checksum it would have as zeros makes the sum all ones.
    const zeros = packet('UDP', { from, to: real, payload: new Uint8Array(2) });
    const payload = zeros.subarray(26, 28);
    const sent = datapath.egress(framed('UDP', { from: client, to: real, payload }));
    expect([...sent.frame.subarray(40, 42)]).toEqual([0xff, 0xff]);
    expect(frameProblems(sent.frame)).toEqual([]);
  });
});

describe('the decision to translate', () => {
  const hairpin = { address: real.address, port: 51000 };
  it.each([
    { name: 'never', mode: SNAT_MODE.never, from: client, cluster: false, translated: false },
    { name: 'never, hairpin', mode: SNAT_MODE.never, from: hairpin, cluster: false, translated: true },
    {
      name: 'external, from outside',
      mode: SNAT_MODE.external,
      from: client,
      cluster: false,
      translated: true,
    },
    {
      name: 'external, from the cluster',
      mode: SNAT_MODE.external,
      from: client,
      cluster: true,
      translated: false,
    },
    { name: 'external, hairpin', mode: SNAT_MODE.external, from: hairpin, cluster: true, translated: true },
    {
      name: 'always, from the cluster',
      mode: SNAT_MODE.always,
      from: client,
      cluster: true,
      translated: true,
    },
  ])('$name: $translated', ({ mode, from, cluster, translated }) => {
    if (cluster) {
      datapath.maps.ipvs_cluster.put({ prefix_len: 96 + 24, addr: '198.51.100.0' }, 0);
      datapath.maps.ipvs_cluster.put({ prefix_len: 96 + 8, addr: '10.0.0.0' }, 0);
    }
    const key = datapath.addSession({ client: from, real, mode });
    const input = framed('TCP', { from, to: real });

    const outcomes = [datapath.egress(input), datapath.egress(input)];

    const { addressId, port, cookie } = datapath.snatEnd(key);
    const expected = translated ? translatedRequest('TCP', port) : input;
    const counted = translated ? { SNAT: 1 } : { SNAT_KEPT: 1 };
    expect(outcomes).toMatchObject([
      { verdict: VERDICT.unspec, frame: expected, counted },
      { verdict: VERDICT.unspec, frame: expected, counted },
    ]);
    expect({ addressId, cookie }).toEqual({ addressId: translated ? 1 : ADDRESS_ID.none, cookie: 7 });
    expect(datapath.maps.ipvs_replies.count()).toBe(translated ? 1 : 0);
    expect(datapath.session(key).seen).toBeGreaterThan(0n);
  });

  it('takes the longest of several client prefixes for what it is: in the cluster', () => {
    datapath.maps.ipvs_cluster.put({ prefix_len: 96 + 32, addr: '198.51.100.8' }, 0);
    const outside = datapath.addSession({ client, real, mode: SNAT_MODE.external });
    const inside = { address: '198.51.100.8', port: 40000 };
    const member = datapath.addSession({ client: inside, real, mode: SNAT_MODE.external });
    datapath.egress(request('TCP'));
    datapath.egress(framed('TCP', { from: inside, to: real }));
    expect(datapath.snatEnd(outside).addressId).toBe(1);
    expect(datapath.snatEnd(member).addressId).toBe(ADDRESS_ID.none);
  });
});

describe('the address', () => {
  it('is that of the interface that the packet leaves by', () => {
    execFileSync('ip', ['link', 'add', 'ipvstest0', 'type', 'veth', 'peer', 'name', 'ipvstest1']);
    try {
      const links = execFileSync('ip', ['-json', 'link', 'show', 'ipvstest0'], { encoding: 'utf8' });
      const [{ ifindex, address }] = JSON.parse(links) as [{ ifindex: number; address: string }];
      const mac = address.split(':').map((byte) => Number.parseInt(byte, 16));
      const toDevice = (bytes: Uint8Array) => Uint8Array.from([...mac, ...bytes.subarray(6)]);
      datapath.addSnatAddress(2, '10.9.9.9', ifindex);
      const key = datapath.addSession({ client, real });
      const { frame: sent } = datapath.egress(toDevice(request('TCP')), { ifindex });
      const { addressId, port } = datapath.snatEnd(key);
      expect(addressId).toBe(2);
      const expected = framed('TCP', { from: { address: '10.9.9.9', port }, to: real });
      expect(sent).toEqual(toDevice(expected));
    } finally {
      execFileSync('ip', ['link', 'delete', 'ipvstest0']);
    }
  });

  it.each([
    ['is not known', () => datapath.maps.ipvs_snat_ifs.delete({ ifindex: 1, family: AF_INET })],
    ['has an id out of range', () => datapath.maps.ipvs_snat_ifs.put({ ifindex: 1, family: AF_INET }, 1024)],
  ])('%s: dropped, nothing reserved', (_, breakIt) => {
    breakIt();
    const key = datapath.addSession({ client, real });
    const outcome = datapath.egress(request('TCP'));
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_ADDRESS: 1 } });
    expect(datapath.snatEnd(key).addressId).toBe(ADDRESS_ID.undecided);
    expect(datapath.maps.ipvs_replies.count()).toBe(0);
  });

  it('was given back while a session has it: dropped', () => {
    datapath.maps.ipvs_snat_addrs.put(1, { addr: '0.0.0.0', family: 0 });
    datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    const outcome = datapath.egress(request('TCP'));
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_ADDRESS: 1 } });
  });
});

describe('a packet that is not ours', () => {
  const untouched: readonly { name: string; input: Uint8Array; context: RunContext }[] = [
    { name: 'no hint', input: request('TCP'), context: { hint: 0 } },
    { name: 'garbage where the hint is', input: request('TCP'), context: { hint: 0x12345678 } },
    { name: 'a hint without IPSKB_REROUTED', input: request('TCP'), context: { ipFlags: 0 } },
    { name: 'other flags only', input: request('TCP'), context: { ipFlags: 0xffef } },
    { name: 'IPv6', input: frame(filler(60).fill(0x60, 0, 1), ETH_P.ipv6), context: {} },
    {
      name: 'IPv6 without hint',
      input: frame(filler(60).fill(0x60, 0, 1), ETH_P.ipv6),
      context: { hint: 0 },
    },
    { name: 'ARP', input: frame(filler(28), 0x0806), context: { hint: 0 } },
    {
      name: 'a protocol without ports',
      input: frame(
        ipv4({ source: client.address, destination: real.address, protocol: 47, payload: filler(20) }),
      ),
      context: {},
    },
    {
      name: 'a frame that is bridged to another host',
      input: request('TCP').fill(2, 0, 6),
      context: {},
    },
  ];
  it.each(untouched)('is let through as it is: $name', ({ input, context }) => {
    const key = datapath.addTranslatedSession({ client, real, port: SNAT_PORT });
    const outcome = datapath.egress(input, { mark: 5, ...context });
    expect(outcome).toMatchObject({ verdict: VERDICT.unspec, frame: input, counted: {} });
    expect(outcome.context.mark).toBe(5);
    expect(datapath.session(key).seen).toBe(0n);
  });
});

describe('a hint without a session that fits', () => {
  const other = { address: '10.0.0.3', port: 8080 };
  it.each([
    { name: 'no session', sessions: [], hint: 1, input: request('TCP') },
    { name: 'another service', sessions: [{ client, real }], hint: 2, input: request('TCP') },
    { name: 'another real server', sessions: [{ client, real: other }], hint: 1, input: request('TCP') },
    {
      name: 'another port',
      sessions: [{ client, real: { ...real, port: 81 } }],
      hint: 1,
      input: request('TCP'),
    },
    { name: 'another protocol', sessions: [{ client, real }], hint: 1, input: request('UDP') },
    { name: 'removed by the module', sessions: [{ client, real, snat: 0n }], hint: 1, input: request('TCP') },
    {
      name: 'removed, with a SNAT end left in the word',
      sessions: [{ client, real, snat: snatWord(0, 1, SNAT_PORT) }],
      hint: 1,
      input: request('TCP'),
    },
  ])('never sends the packet half translated: $name', ({ sessions, hint, input }) => {
    for (const session of sessions) datapath.addSession(session);
    const outcome = datapath.egress(input, { hint: HINT_MAGIC | hint });
    expect(outcome).toMatchObject({ verdict: VERDICT.shot, counted: { DROP_NO_SESSION: 1 } });
    expect(datapath.maps.ipvs_replies.count()).toBe(0);
  });

  it('tells two virtual servers apart that one client uses with one port', () => {
    datapath.addTranslatedSession({ client, real, serviceId: 1, port: 20001 });
    datapath.addTranslatedSession({ client, real, serviceId: 0xffffff, port: 20002 });
    const one = datapath.egress(request('TCP'), { hint: HINT_MAGIC | 1 });
    const two = datapath.egress(request('TCP'), { hint: HINT_MAGIC | 0xffffff });
    expect(one.frame).toEqual(translatedRequest('TCP', 20001));
    expect(two.frame).toEqual(translatedRequest('TCP', 20002));
    expect(datapath.session(sessionKey(client, 0xffffff)).protocol).toBe(IPPROTO.tcp);
  });
});
