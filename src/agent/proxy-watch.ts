// SPDX-License-Identifier: Apache-2.0
/** What an agent remembers of kube-proxy from one look to the next. */
import { sameValue } from '../core/canonical.ts';
import type { KubeProxyFacts, NodeFacts } from '../core/facts.ts';
import { isRestarted, type KnownProxy } from '../core/proxy-restart.ts';
import type { ProcessIdentity } from '../ports.ts';
import type { NodePorts } from './observe.ts';

/** Until a kube-proxy that has told no version is asked again. */
const ASK_AGAIN_MS = 60_000;
/** For so long what is written over counts as written by a kube-proxy that has begun: its start takes a while. */
const START_MS = 60_000;

/** A kube-proxy that was started anew. */
export interface Restart {
  readonly processes: readonly ProcessIdentity[];
  /** When it was seen first: the date, ISO 8601, and by Clock.now(). */
  readonly at: string;
  readonly atMs: number;
}

export class ProxyWatch {
  readonly #ports: Pick<NodePorts, 'kubeProxy' | 'clock'>;
  #asked:
    | {
        readonly processes: readonly ProcessIdentity[];
        readonly version: string | undefined;
        readonly atMs: number;
      }
    | undefined;
  #restart: Restart | undefined;

  constructor(ports: Pick<NodePorts, 'kubeProxy' | 'clock'>) {
    this.#ports = ports;
  }

  /** The facts with kube-proxy's version. It is asked for once a process: the answer is large. */
  async withVersion(facts: NodeFacts): Promise<NodeFacts> {
    const version = await this.#version(facts.kubeProxy);
    return version === undefined ? facts : { ...facts, kubeProxy: { ...facts.kubeProxy, version } };
  }

  /** Undefined if it was not started anew since it was `known`; the same object while the same processes run. */
  restart(known: KnownProxy | undefined, facts: NodeFacts): Restart | undefined {
    const { clock } = this.#ports;
    const { processes } = facts.kubeProxy;
    if (!isRestarted(known, facts)) this.#restart = undefined;
    else if (!sameValue(this.#restart?.processes, processes)) {
      this.#restart = { processes, at: clock.date(), atMs: clock.now() };
    }
    return this.#restart;
  }

  /** What to know of kube-proxy from now on, on a node that is as it should be. */
  known(known: KnownProxy | undefined, facts: NodeFacts): KnownProxy {
    const { bootId, kubeProxy } = facts;
    const current = { bootId, processes: kubeProxy.processes };
    if (known === undefined || known.bootId !== bootId) return current;
    const restart = this.restart(known, facts);
    return restart !== undefined && this.#ports.clock.now() - restart.atMs >= START_MS ? current : known;
  }

  async #version({ processes, mode }: KubeProxyFacts): Promise<string | undefined> {
    const { kubeProxy, clock } = this.#ports;
    if (processes.length === 0) return undefined;
    const known = sameValue(this.#asked?.processes, processes) ? this.#asked : undefined;
    if (known !== undefined && (known.version !== undefined || clock.now() - known.atMs < ASK_AGAIN_MS)) {
      return known.version;
    }
    // Who does not tell its mode has just begun, or tells nothing.
    if (mode === undefined) return undefined;
    const version = await kubeProxy.version();
    this.#asked = { processes, version, atMs: clock.now() };
    return version;
  }
}
