// SPDX-License-Identifier: Apache-2.0
/** What an agent remembers of kube-proxy from one look to the next. */
import { sameValue } from '../core/canonical.ts';
import type { KubeProxyFacts, NodeFacts } from '../core/facts.ts';
import type { ProcessIdentity } from '../ports.ts';
import type { NodePorts } from './observe.ts';

/** Until a kube-proxy that has told no version is asked again. */
const ASK_AGAIN_MS = 60_000;

export class ProxyWatch {
  readonly #ports: Pick<NodePorts, 'kubeProxy' | 'clock'>;
  #asked:
    | {
        readonly processes: readonly ProcessIdentity[];
        readonly version: string | undefined;
        readonly atMs: number;
      }
    | undefined;

  constructor(ports: Pick<NodePorts, 'kubeProxy' | 'clock'>) {
    this.#ports = ports;
  }

  /** The facts with kube-proxy's version. It is asked for once a process: the answer is large. */
  async withVersion(facts: NodeFacts): Promise<NodeFacts> {
    const version = await this.#version(facts.kubeProxy);
    return version === undefined ? facts : { ...facts, kubeProxy: { ...facts.kubeProxy, version } };
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
