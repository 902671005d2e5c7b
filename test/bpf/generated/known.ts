// SPDX-License-Identifier: Apache-2.0
/**
 * Scenes of connections that a module has, and knows by sight: their sessions stay what they are, and get other paths. Of no
 * segment the module can be told meanwhile (test/kernel/sight.test.sh), or the connections would come to an end.
 */
import { sessionOf } from './encode.ts';
import { Kernel } from './kernel.ts';
import {
  type Address,
  type Family,
  KEPT,
  MAPPED,
  type Maps,
  replyText,
  type Session,
  serviceText,
  sessionText,
} from './maps.ts';
import { derivedSeed, Random } from './random.ts';
import type { Place, Stage } from './runner.ts';
import { makePath, replyKeyOf } from './scenes.ts';

/** SNAT_FIRST and SNAT_LAST in test/net/accelerate.sh; the number of replies is that of the map. */
const VARIANT = { name: 'known by sight', ports: [{ first: 20000, last: 29999 }], maxReplies: 0 };
const KINDS = ['TCP IPv4', 'TCP IPv6', 'UDP IPv4', 'UDP IPv6'];

type Connection = ReturnType<typeof sessionOf>;

const familyOf = (addr: Address): Family => (addr.startsWith(MAPPED) ? 4 : 6);

/** What the agent has written there, as far as ingress reads it. */
function readAddressIds(kernel: Kernel): Map<Address, number> {
  return new Map(
    kernel
      .elements('ipvs_snat_ids')
      .map(([key, value]) => [Buffer.from(key).toString('hex'), Buffer.from(value).readUInt32LE(0)]),
  );
}

/** All paths and counts anew; no program has seen a packet yet. */
function asBegun(random: Random, connection: Connection): Session {
  return { ...connection, seen: false, request: makePath(random), reply: makePath(random) };
}

export class KnownStage implements Stage {
  /** More than of a made-up one: in the maps there is room for many more sessions, which takes long to compare. */
  readonly packetsAScene = 192;
  readonly hooks = ['ingress'] as const;
  readonly wanted = {
    outcomes: ['FORWARD_REQUEST', 'FORWARD_REPLY'].flatMap((counter) =>
      KINDS.map((kind) => `ingress redirect ${counter} ${kind}`),
    ),
    least: 100,
  };
  readonly command = 'npm run vm -- test/kernel/sight.test.sh';
  readonly #seed: number;
  readonly #kernel: Kernel;
  readonly #connections: readonly Connection[];
  readonly #addressIds: ReadonlyMap<Address, number>;

  /** `pins`: where the maps of the module are pinned. */
  constructor(seed: number, pins: string) {
    this.#seed = seed;
    this.#kernel = new Kernel(VARIANT, pins);
    this.#addressIds = readAddressIds(this.#kernel);
    const all = this.#kernel.elements('ipvs_sessions').map(([key, value]) => sessionOf(key, value));
    // A map has no order; with this one, a seed always makes the same kinds of packets.
    const order = (one: Connection) => `${one.family} ${one.protocol} ${one.vport} ${one.key.cport}`;
    this.#connections = all.sort((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  enter(scene: number): Place {
    const seed = derivedSeed(this.#seed, scene);
    const maps = this.#makeScene(new Random(seed));
    this.#kernel.enterScene(maps, seed);
    return { scene, kernel: this.#kernel, variant: VARIANT, maps };
  }

  [Symbol.dispose](): void {
    this.#kernel[Symbol.dispose]();
  }

  #makeScene(random: Random): Maps {
    const sessions = this.#connections.map((connection) => asBegun(random, connection));
    const translated = sessions.filter(({ snat }) => snat.addressId !== KEPT);
    const services = sessions.map(({ vaddr, vport, protocol, key }) => {
      const service = { vaddr, vport, protocol };
      return [serviceText(service), { key: service, id: key.serviceId }] as const;
    });
    const vports = [...new Set(sessions.map(({ vport }) => vport))];
    const replies = translated.map((session) => {
      const key = replyKeyOf(session);
      return [replyText(key), { key, session: session.key }] as const;
    });
    return {
      services: new Map(services),
      addresses: new Map([...this.#addressIds].map(([addr, id]) => [id, { addr, family: familyOf(addr) }])),
      addressIds: this.#addressIds,
      interfaces: new Map(),
      cluster: [],
      ports: VARIANT.ports,
      maxReplies: VARIANT.maxReplies,
      sessions: new Map(sessions.map((session) => [sessionText(session.key), session])),
      replies: new Map(replies),
      fragments: new Map(),
      exhausted: new Map(),
      knownPorts: new Set(vports.filter(() => !random.oneIn(12))),
    };
  }
}
