// SPDX-License-Identifier: Apache-2.0
/** Scene after scene: packets of a seed through programs and model, and the maps compared. */
import { COUNTERS } from '../datapath.ts';
import { type Compared, comparePacket } from './compare.ts';
import { damaged } from './damage.ts';
import { differingFields } from './encode.ts';
import { Kernel, type Variant } from './kernel.ts';
import { apply, type Maps } from './maps.ts';
import type { Input } from './outcome.ts';
import { makeInput } from './packets.ts';
import { derivedSeed, Random } from './random.ts';
import { makeScene, makeWorld, VARIANTS, type World } from './scenes.ts';

export const PACKETS_A_SCENE = 48;
const SCENES_A_WORLD = 16;
/** Which of VARIANTS is next: in turn, so that a short run has seen all. */
const TURNS = [0, 1, 0, 2, 0, 0, 1, 0];
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
  /** By hook, verdict and counter. */
  readonly outcomes: Map<string, number>;
}

interface Place {
  readonly scene: number;
  readonly kernel: Kernel;
  readonly variant: Variant;
  readonly maps: Maps;
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

export class Runner implements Disposable {
  readonly tally: Tally = { packets: 0, outcomes: new Map() };
  readonly #seed: number;
  readonly #kernels = new Map<Variant, Kernel>();
  #world: { readonly number: number; readonly variant: Variant; readonly world: World } | undefined;

  constructor(seed: number) {
    this.#seed = seed;
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

  [Symbol.dispose](): void {
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
  }

  #enter(scene: number): Place {
    const number = Math.floor(scene / SCENES_A_WORLD);
    if (this.#world?.number !== number) {
      const random = new Random(derivedSeed(this.#seed, -1 - number));
      const variant = VARIANTS[TURNS[number % TURNS.length] ?? 0] as Variant;
      this.#world = { number, variant, world: makeWorld(random, variant) };
      this.#kernel(variant).enterWorld({ ...this.#world.world, ...EMPTY });
    }
    const { variant, world } = this.#world;
    const seed = derivedSeed(this.#seed, scene);
    const maps = makeScene(new Random(seed), world);
    const kernel = this.#kernel(variant);
    kernel.enterScene(maps, seed);
    return { scene, kernel, variant, maps };
  }

  #kernel(variant: Variant): Kernel {
    const known = this.#kernels.get(variant);
    if (known !== undefined) return known;
    const kernel = new Kernel(variant);
    this.#kernels.set(variant, kernel);
    return kernel;
  }

  #run(scene: number, careful: boolean, upTo = Number.POSITIVE_INFINITY): Difference | undefined {
    const place = this.#enter(scene);
    const { kernel, maps } = place;
    const wanted = new Map<string, number>();
    let counters = kernel.counters();
    let last: Difference | undefined;
    for (let i = 0; i < PACKETS_A_SCENE && scene * PACKETS_A_SCENE + i < upTo; i += 1) {
      last = this.#named(place, i, () => this.#step(place, i, wanted, careful));
      if (last.lines.length > 0) return last;
      if (!careful && i < PACKETS_A_SCENE - 1) continue;
      const after = kernel.counters();
      const lines = [...counterDifferences(counters, after, wanted), ...mapDifferences(kernel, maps)];
      if (lines.length > 0) return { ...last, lines, compared: careful ? last.compared : undefined };
      counters = after;
      wanted.clear();
    }
    return undefined;
  }

  /** Errors of the model and of the kernel say which packet it was. */
  #named<T>({ scene }: Place, i: number, body: () => T): T {
    try {
      return body();
    } catch (cause) {
      throw new Error(`packet ${scene * PACKETS_A_SCENE + i + 1} of seed ${this.#seed}`, { cause });
    }
  }

  #step(place: Place, i: number, wanted: Map<string, number>, careful: boolean): Difference {
    const { scene, kernel, variant, maps } = place;
    const random = new Random(derivedSeed(derivedSeed(this.#seed, scene), i + 1));
    const input = damaged(random, makeInput(random, maps));
    const before = careful ? copyOf(maps) : maps;
    const compared = comparePacket(kernel, maps, input, random.oneIn(COMPLETE_ONE_IN));
    const { expected } = compared;
    for (const change of expected.changes) apply(maps, change);
    if (expected.counter !== undefined) wanted.set(expected.counter, (wanted.get(expected.counter) ?? 0) + 1);
    this.tally.packets += 1;
    const outcome = `${input.hook} ${expected.verdict} ${expected.counter ?? ''}`.trim();
    this.tally.outcomes.set(outcome, (this.tally.outcomes.get(outcome) ?? 0) + 1);
    const packet = scene * PACKETS_A_SCENE + i + 1;
    return { packet, variant, input, compared, before, lines: compared.differences };
  }
}

const EMPTY = {
  sessions: new Map(),
  replies: new Map(),
  fragments: new Map(),
  exhausted: new Map(),
  knownPorts: new Set<number>(),
};
