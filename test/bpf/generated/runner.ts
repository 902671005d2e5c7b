// SPDX-License-Identifier: Apache-2.0
/** Scene after scene: packets of a seed through programs and model, and the maps compared. */
import { COUNTERS } from '../datapath.ts';
import { type Compared, comparePacket } from './compare.ts';
import { damaged } from './damage.ts';
import { differingFields } from './encode.ts';
import type { Kernel, Variant } from './kernel.ts';
import { apply, type Maps, SCTP, type Session, TCP, UDP } from './maps.ts';
import type { Hook, Input, Outcome } from './outcome.ts';
import { makeInput } from './packets.ts';
import { derivedSeed, Random } from './random.ts';

/** Of so many packets one comes with a sum that the device has taken. */
const COMPLETE_ONE_IN = 3;

export interface Difference {
  /** From 1 on, of all that the seed stands for. */
  readonly packet: number;
  readonly variant: Variant;
  readonly input: Input;
  readonly compared: Compared | undefined;
  /** What the maps held before the packet. */
  readonly before: Maps;
  readonly lines: readonly string[];
}

/** What has been seen so far. */
export interface Tally {
  packets: number;
  /** By outcomeName. */
  readonly outcomes: Map<string, number>;
}

/** What the packets of a scene come to: the maps, in the kernel too, are as it begins. */
export interface Place {
  readonly scene: number;
  readonly kernel: Kernel;
  readonly variant: Variant;
  readonly maps: Maps;
}

export interface Stage extends Disposable {
  readonly packetsAScene: number;
  /** Where its packets are seen. */
  readonly hooks: readonly Hook[];
  /** What packets enough have had each, and how often at least. */
  readonly wanted: { readonly outcomes: readonly string[]; readonly least: number };
  /** What a person runs, with --seed and --packet. */
  readonly command: string;
  enter(scene: number): Place;
}

const PROTOCOLS = new Map([
  [TCP, 'TCP'],
  [UDP, 'UDP'],
  [SCTP, 'SCTP'],
]);

const kindOf = ({ protocol, family }: Session) => `${PROTOCOLS.get(protocol)} IPv${family}`;

/** Hook, verdict and counter, and of what is forwarded the kind. */
function outcomeName({ hook }: Input, { verdict, counter, changes }: Outcome): string {
  const kinds = changes.map((change) => (change.kind === 'counted' ? kindOf(change.session) : ''));
  return [hook, verdict, counter ?? '', ...kinds].filter((word) => word !== '').join(' ');
}

function copyOf(maps: Maps): Maps {
  return {
    ...maps,
    sessions: new Map(maps.sessions),
    replies: new Map(maps.replies),
    fragments: new Map(maps.fragments),
    exhausted: new Map(maps.exhausted),
    knownPorts: new Set(maps.knownPorts),
  };
}

/** Elements that only one side has, or that are not the same on both; each a line `MAP KEY VALUE`. */
function elementDifferences(expected: readonly string[], actual: readonly string[]): string[] {
  const keyed = (lines: readonly string[]) =>
    new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]),
    );
  const [wanted, found] = [keyed(expected), keyed(actual)];
  return [...new Set([...wanted.keys(), ...found.keys()])].flatMap((key) => {
    const [should, is] = [wanted.get(key), found.get(key)];
    if (should === undefined || is === undefined)
      return [`${key}: ${should ?? 'nothing'} is ${is ?? 'not there'}`];
    if (!key.startsWith('ipvs_sessions ')) return [`${key}: ${should} is ${is}`];
    return differingFields(should, is).map((field) => `${key}: ${field}`);
  });
}

/** Where the maps are not as the model has them. */
function mapDifferences(kernel: Kernel, maps: Maps): string[] {
  const [expected, actual] = [kernel.expectedLines(maps), kernel.lines()];
  const [wanted, found] = [new Set(expected), new Set(actual)];
  const ports = [...maps.knownPorts].sort((a, b) => a - b).join(', ');
  const known = kernel.knownPorts().join(', ');
  return [
    ...elementDifferences(
      expected.filter((line) => !found.has(line)),
      actual.filter((line) => !wanted.has(line)),
    ),
    ...(ports === known ? [] : [`known ports of virtual servers: ${ports} are ${known}`]),
  ];
}

/** Counters by name that have not risen as they should. */
function counterDifferences(
  before: readonly number[],
  after: readonly number[],
  wanted: ReadonlyMap<string, number>,
) {
  return COUNTERS.flatMap((name, i) => {
    const [risen, should] = [(after[i] ?? 0) - (before[i] ?? 0), wanted.get(name) ?? 0];
    return risen === should ? [] : [`counter ${name}: ${should} is ${risen}`];
  });
}

export class Runner {
  readonly tally: Tally = { packets: 0, outcomes: new Map() };
  readonly #seed: number;
  readonly #stage: Stage;

  constructor(seed: number, stage: Stage) {
    this.#seed = seed;
    this.#stage = stage;
  }

  /** The first difference in a scene, if there is one. `upTo`: the last packet, with maps compared after each. */
  runScene(scene: number, upTo?: number): Difference | undefined {
    const careful = upTo !== undefined;
    const found = this.#run(scene, careful, upTo);
    // Maps are compared at the end, and which packet it was is found out when it matters.
    return found === undefined || found.compared !== undefined || careful
      ? found
      : (this.#run(scene, true) ?? found);
  }

  #run(scene: number, careful: boolean, upTo = Number.POSITIVE_INFINITY): Difference | undefined {
    const place = this.#stage.enter(scene);
    const { kernel, maps } = place;
    const wanted = new Map<string, number>();
    let counters = kernel.counters();
    let last: Difference | undefined;
    const { packetsAScene } = this.#stage;
    for (let i = 0; i < packetsAScene && this.#numberOf(scene, i) <= upTo; i += 1) {
      last = this.#named(place, i, () => this.#step(place, i, wanted, careful));
      if (last.lines.length > 0) return last;
      if (!careful && i < packetsAScene - 1) continue;
      const after = kernel.counters();
      const lines = [...counterDifferences(counters, after, wanted), ...mapDifferences(kernel, maps)];
      if (lines.length > 0) return { ...last, lines, compared: careful ? last.compared : undefined };
      counters = after;
      wanted.clear();
    }
    return undefined;
  }

  #numberOf(scene: number, i: number): number {
    return scene * this.#stage.packetsAScene + i + 1;
  }

  /** Errors of the model and of the kernel say which packet it was. */
  #named<T>({ scene }: Place, i: number, body: () => T): T {
    try {
      return body();
    } catch (cause) {
      throw new Error(`packet ${this.#numberOf(scene, i)} of seed ${this.#seed}`, { cause });
    }
  }

  #step(place: Place, i: number, wanted: Map<string, number>, careful: boolean): Difference {
    const { scene, kernel, variant, maps } = place;
    const random = new Random(derivedSeed(derivedSeed(this.#seed, scene), i + 1));
    const input = damaged(random, makeInput(random, maps, this.#stage.hooks));
    const before = careful ? copyOf(maps) : maps;
    const compared = comparePacket(kernel, maps, input, random.oneIn(COMPLETE_ONE_IN));
    const { expected } = compared;
    for (const change of expected.changes) apply(maps, change);
    if (expected.counter !== undefined) wanted.set(expected.counter, (wanted.get(expected.counter) ?? 0) + 1);
    this.tally.packets += 1;
    const outcome = outcomeName(input, expected);
    this.tally.outcomes.set(outcome, (this.tally.outcomes.get(outcome) ?? 0) + 1);
    const packet = this.#numberOf(scene, i);
    return { packet, variant, input, compared, before, lines: compared.differences };
  }
}
