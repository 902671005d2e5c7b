// SPDX-License-Identifier: Apache-2.0
/** Packets of the connections in a scene, of none, and what becomes of packets on their way. */
import { HINT_MAGIC } from '../datapath.ts';
import {
  type Draft,
  frameOf,
  icmpMessage,
  ipPacket,
  type Segment,
  sctpPacket,
  tcpSegment,
  udpDatagram,
} from './build.ts';
import {
  type Address,
  type Family,
  type FragmentKey,
  KEPT,
  MAPPED,
  type Maps,
  SCTP,
  type Session,
  type SessionKey,
  TCP,
  UDP,
  UNDECIDED,
} from './maps.ts';
import type { Hook, Input } from './outcome.ts';
import { EXTENSION, ICMP } from './packet.ts';
import type { Random } from './random.ts';
import type { End } from './rewrite.ts';
import { addressIdsOf, DEVICES, type Device, POOLS, randomPort, VPORTS } from './scenes.ts';

/** A packet that is on its way, before its bytes. */
interface Sent {
  readonly draft: Draft;
  /** The device that it should be seen on. */
  readonly ifindex?: number | undefined;
  readonly hint?: number;
}

const HOOKS = ['ingress', 'egress'] as const;
const TCP_FLAGS = [0x10, 0x18, 0x18, 0x10, 0x30, 0x02, 0x12, 0x11, 0x14, 0x04, 0x00];
const CHUNKS = [0, 0, 3, 3, 4, 5, 1, 2, 6, 7, 10, 11, 14, 64, 193];
const ETHERNET_LEAST = 60;
const PROTOCOLS = [0, 1, 4, 41, 47, 50, 58, 59, 132, 255];
const clientOf = ({ key }: Session): End => ({ address: key.caddr, port: key.cport });
const virtualOf = ({ vaddr, vport }: Session): End => ({ address: vaddr, port: vport });
const realOf = ({ daddr, dport }: Session): End => ({ address: daddr, port: dport });
const hintOf = ({ serviceId }: SessionKey) => (HINT_MAGIC | serviceId) >>> 0;

/** The SNAT end of a session, or one that it might have. */
function snatEndOf(random: Random, maps: Maps, { snat, family }: Session): End {
  const own = maps.addresses.get(snat.addressId);
  const isChosen = snat.addressId !== UNDECIDED && snat.addressId !== KEPT;
  const id = random.pick(addressIdsOf(family));
  return {
    address: own?.addr ?? maps.addresses.get(id)?.addr ?? random.pick(POOLS[family].own),
    port: isChosen ? snat.port : randomPort(random, maps),
  };
}

function dataOf(random: Random): Buffer {
  const length = random.weighted([
    [4, 0],
    [12, random.below(24)],
    [3, random.below(200)],
    [1, random.below(1500)],
  ]);
  return random.bytes(length);
}

/** Without a checksum it looks as if a device had to make it, which none has where programs are tested. */
const sctpOf = (random: Random, packet: Buffer) => (random.oneIn(12) ? packet.fill(0, 8, 12) : packet);

function payloadOf(random: Random, protocol: number, ends: Pick<Segment, 'family' | 'from' | 'to'>): Buffer {
  const data = dataOf(random);
  if (protocol === SCTP) return sctpOf(random, sctpPacket({ ...ends, data, flags: random.pick(CHUNKS) }));
  if (protocol === UDP) return udpDatagram({ ...ends, data, flags: 0, unchecked: random.oneIn(4) });
  const options = random.oneIn(3) ? Buffer.alloc(4 * random.between(1, 10), 1) : undefined;
  return tcpSegment({ ...ends, data, flags: random.pick(TCP_FLAGS), options });
}

const hopsOf = (random: Random) =>
  random.weighted([
    [20, random.between(3, 255)],
    [2, random.below(4)],
  ]);

function extensionsOf(random: Random): NonNullable<Draft['extensions']> {
  return Array.from({ length: random.between(1, random.oneIn(3) ? 6 : 2) }, () => {
    const kind = random.pick(Object.values(EXTENSION));
    const words = kind === EXTENSION.fragment ? 0 : random.below(3);
    const rest = Buffer.alloc(7 + 8 * words);
    rest.writeUInt8(words, 0);
    if (kind === EXTENSION.routing) rest.writeUInt8(random.below(2), 2);
    return { kind, rest };
  });
}

/** Whatever IP may put between its header and the transport header, now and then. */
function withExtras(random: Random, draft: Draft): Draft {
  if (!random.oneIn(10)) return draft;
  if (random.oneIn(3)) {
    const fragment = { offset: 8 * random.below(4), more: random.oneIn(2) };
    return { ...draft, fragment };
  }
  return draft.family === 4
    ? { ...draft, options: Buffer.alloc(4 * random.between(1, 10), 1) }
    : { ...draft, extensions: extensionsOf(random) };
}

function segment(random: Random, family: Family, protocol: number, from: End, to: End): Draft {
  const payload = payloadOf(random, protocol, { family, from, to });
  const [source, destination, id] = [from.address, to.address, random.word()];
  return withExtras(random, { family, source, destination, protocol, payload, hops: hopsOf(random), id });
}

/** The beginning of a packet, as routers quote it: at least 8 bytes of the transport header, as a rule. */
function quoteOf(random: Random, draft: Draft): Buffer {
  const whole = ipPacket(draft);
  // A router may have quoted a packet that it had changed, or none.
  if (random.oneIn(12))
    whole.writeUInt16BE(random.pick([0, random.below(100), random.below(65536)]), draft.family === 4 ? 2 : 4);
  const headers = draft.family === 4 ? 20 + (draft.options?.length ?? 0) : 40;
  const least = headers + (random.oneIn(12) ? random.below(8) : 8);
  return whole.subarray(
    0,
    random.oneIn(2) ? whole.length : random.between(least, Math.max(least, whole.length)),
  );
}

function icmpError(random: Random, source: Address, destination: Address, about: Draft): Draft {
  const { family } = about;
  const type = random.oneIn(12) ? random.below(256) : random.pick(family === 4 ? [3, 4, 11] : [1, 2, 3, 4]);
  const payload = icmpMessage({ family, source, destination, type, quote: quoteOf(random, about) });
  const id = random.word();
  return withExtras(random, {
    family,
    source,
    destination,
    protocol: ICMP[family],
    payload,
    hops: hopsOf(random),
    id,
  });
}

/** Between ends that are nobody's, or somebody's by chance. */
function stray(random: Random, maps: Maps): Sent {
  const family = random.pick([4, 6] as const);
  const pool = POOLS[family];
  const all = [...pool.clients, ...pool.virtuals, ...pool.reals, ...pool.own];
  const port = () => random.pick([random.pick(VPORTS), randomPort(random, maps), random.below(65536)]);
  const [from, to] = [0, 0].map(() => ({ address: random.pick(all), port: port() })) as [End, End];
  const draft = segment(random, family, random.pick([TCP, UDP, SCTP]), from, to);
  return { draft: random.oneIn(4) ? { ...draft, protocol: random.pick(PROTOCOLS) } : draft };
}

function incoming(random: Random, maps: Maps, session: Session): Sent {
  const { family, protocol } = session;
  const [client, virtual, real] = [clientOf(session), virtualOf(session), realOf(session)];
  const snat = snatEndOf(random, maps, session);
  const source = random.pick([real.address, ...POOLS[family].routers]);
  return random.weighted<() => Sent>([
    [
      6,
      () => ({
        draft: segment(random, family, protocol, client, virtual),
        ifindex: session.request.inIfindex,
      }),
    ],
    [7, () => ({ draft: segment(random, family, protocol, real, snat), ifindex: session.reply.inIfindex })],
    [
      4,
      () => ({
        draft: icmpError(random, source, snat.address, segment(random, family, protocol, snat, real)),
      }),
    ],
    [
      1,
      () => ({
        draft: icmpError(random, source, virtual.address, segment(random, family, protocol, virtual, client)),
      }),
    ],
    [1, () => stray(random, maps)],
  ])();
}

/** A fragment of a datagram that the module has announced, or of any. */
function leavingFragment(random: Random, maps: Maps, session: Session): Sent {
  const announced = [...maps.fragments.values()].filter(
    ({ session: key }) => key.caddr === session.key.caddr,
  );
  const found = announced.length > 0 && !random.oneIn(8) ? random.pick(announced) : undefined;
  const id = found === undefined ? random.word() : idOf(found.key);
  const draft = segment(random, session.family, session.protocol, clientOf(session), realOf(session));
  const isLater = random.oneIn(2);
  const fragment = { offset: isLater ? 8 * random.between(1, 100) : 0, more: random.oneIn(2) || !isLater };
  const payload = isLater ? dataOf(random) : draft.payload;
  return { draft: { ...draft, id, fragment, payload }, hint: random.oneIn(3) ? 0 : hintOf(session.key) };
}

const idOf = ({ id }: FragmentKey) => Number.parseInt(id, 16);

function leaving(random: Random, maps: Maps, session: Session): Sent {
  const { family, protocol, key } = session;
  const [client, virtual, real] = [clientOf(session), virtualOf(session), realOf(session)];
  const hint = hintOf(key);
  const source = random.pick([client.address, ...POOLS[family].routers]);
  return random.weighted<() => Sent>([
    [10, () => ({ draft: segment(random, family, protocol, client, real), hint })],
    [
      4,
      () => {
        const about = segment(random, family, protocol, real, client);
        return { draft: icmpError(random, source, real.address, about), hint };
      },
    ],
    [4, () => leavingFragment(random, maps, session)],
    [1, () => ({ draft: segment(random, family, protocol, virtual, client), hint: 0xb4000000 })],
    [1, () => ({ ...stray(random, maps), hint })],
  ])();
}

function deviceOf(random: Random, ifindex: number | undefined): Device {
  const wanted = DEVICES.find((device) => device.ifindex === ifindex);
  return wanted === undefined || random.oneIn(12) ? random.pick(DEVICES) : wanted;
}

/** The control block as ip_vs leaves it, now and then as others do. */
function controlBlock(random: Random, family: Family, hook: Hook, hint: number): number[] {
  if (hook === 'ingress')
    return random.oneIn(3) ? Array.from({ length: 5 }, () => random.word()) : [0, 0, 0, 0, 0];
  const flags = random.weighted([
    [12, family === 4 ? [0, 0x10] : [0x4, 0]],
    [1, [0x4, 0x10]],
    [1, family === 4 ? [0x4, 0] : [0, 0x10]],
    [1, [random.word(), random.word()]],
  ]);
  const left = random.weighted([
    [16, hint],
    [1, (hint ^ (1 << random.below(32))) >>> 0],
    [1, 0],
  ]);
  return [random.word(), random.word(), ...flags, left];
}

/** An IPv4 packet as one of IPv6 between mapped addresses, which nobody sends but attackers. */
function asMapped(draft: Draft): Draft {
  return draft.source.startsWith(MAPPED) ? { ...draft, family: 6, options: undefined } : draft;
}

/** Before its first request has left, nothing comes in that is translated. */
function sessionFor(random: Random, maps: Maps, hook: Hook): Session {
  const all = [...maps.sessions.values()];
  const decided = all.filter(({ snat }) => snat.addressId !== UNDECIDED);
  return random.pick(hook === 'egress' || decided.length === 0 || random.oneIn(8) ? all : decided);
}

/** As Ethernet fills up a frame that is too short. */
function padded(frame: Buffer): Buffer {
  const missing = ETHERNET_LEAST - frame.length;
  return missing > 0 ? Buffer.concat([frame, Buffer.alloc(missing)]) : frame;
}

/** The next packet, given what the maps hold now. `hooks`: where it may be seen. */
export function makeInput(random: Random, maps: Maps, hooks: readonly Hook[] = HOOKS): Input {
  const hook = random.pick(hooks);
  const session = sessionFor(random, maps, hook);
  const sent = (hook === 'ingress' ? incoming : leaving)(random, maps, session);
  const draft = hook === 'ingress' && random.oneIn(60) ? asMapped(sent.draft) : sent.draft;
  const { ifindex, mac } = deviceOf(random, sent.ifindex);
  const frame = frameOf(mac, draft.family, ipPacket(draft));
  return {
    hook,
    frame: random.oneIn(3) ? padded(frame) : frame,
    cb: controlBlock(random, draft.family, hook, sent.hint ?? 0),
    ifindex,
    mac,
    mark: random.oneIn(16) ? random.word() : 0,
    gsoSize: random.oneIn(16) ? random.between(1, 1500) : 0,
  };
}
