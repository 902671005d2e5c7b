// SPDX-License-Identifier: Apache-2.0
/** Scenes of a seed, sessions and all: no module knows any of them. */
import { Kernel, type Variant } from './kernel.ts';
import { derivedSeed, Random } from './random.ts';
import type { Place, Stage } from './runner.ts';
import { makeScene, makeWorld, VARIANTS, type World } from './scenes.ts';

const SCENES_A_WORLD = 16;
/** Which of VARIANTS is next: in turn, so that a short run has seen all. */
const TURNS = [0, 1, 0, 2, 0, 0, 1, 0];

const KINDS = ['TCP', 'UDP', 'SCTP'].flatMap((protocol) => [`${protocol} IPv4`, `${protocol} IPv6`]);
/** Every way that a packet can take. */
const OUTCOMES: readonly string[] = [
  'ingress pass',
  'ingress pass SNAT_REVERSED',
  'ingress pass ICMP_INGRESS',
  'ingress drop DROP_MALFORMED',
  ...KINDS.map((kind) => `ingress redirect FORWARD_REQUEST ${kind}`),
  ...KINDS.map((kind) => `ingress redirect FORWARD_REPLY ${kind}`),
  'egress pass',
  'egress pass SNAT',
  'egress pass SNAT_KEPT',
  'egress pass ICMP_EGRESS',
  'egress pass FRAGMENT_EGRESS',
  'egress drop DROP_NO_SESSION',
  'egress drop DROP_NO_ADDRESS',
  'egress drop DROP_NO_PORT',
  'egress drop DROP_REPLIES_FULL',
  'egress drop DROP_MALFORMED',
];

const EMPTY = {
  sessions: new Map(),
  replies: new Map(),
  fragments: new Map(),
  exhausted: new Map(),
  knownPorts: new Set<number>(),
};

export class MadeUpStage implements Stage {
  readonly packetsAScene = 48;
  readonly hooks = ['ingress', 'egress'] as const;
  readonly wanted = { outcomes: OUTCOMES, least: 1 };
  readonly command = 'test/bpf/generated/run.sh';
  readonly #seed: number;
  readonly #kernels = new Map<Variant, Kernel>();
  #world: { readonly number: number; readonly variant: Variant; readonly world: World } | undefined;

  constructor(seed: number) {
    this.#seed = seed;
  }

  enter(scene: number): Place {
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

  [Symbol.dispose](): void {
    for (const kernel of this.#kernels.values()) kernel[Symbol.dispose]();
  }

  #kernel(variant: Variant): Kernel {
    const known = this.#kernels.get(variant);
    if (known !== undefined) return known;
    const kernel = new Kernel(variant);
    this.#kernels.set(variant, kernel);
    return kernel;
  }
}
