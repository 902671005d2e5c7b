// SPDX-License-Identifier: Apache-2.0
/** What the API server's stores hold about this node. */
import type { IpvsBpfNode, IpvsBpfServiceSlice } from '../api/generated/resource-types.ts';
import { POLICY_LABEL } from '../api/resources.ts';
import type { Cluster, Watched } from '../cluster-ports.ts';
import type { NodeTarget } from '../core/node-target.ts';
import { SERVICE_SLICES } from '../core/resource-types.ts';

/** This node's object; undefined if there is none, or it is not known yet. */
export function nodeObject(nodes: Watched, name: string): IpvsBpfNode | undefined {
  return nodes.hasSynced ? (nodes.get({ name }) as unknown as IpvsBpfNode | undefined) : undefined;
}

export interface TargetOptions {
  readonly cluster: Pick<Cluster, 'watch'>;
  /** Something has come in: look at once. */
  readonly wake: () => void;
}

/** Watches the whitelist of the policy that the node's object names. */
export class Targets {
  readonly #options: TargetOptions;
  #slices: { readonly policy: string; readonly watched: Watched } | undefined;

  constructor(options: TargetOptions) {
    this.#options = options;
  }

  get problem(): string | undefined {
    return this.#slices?.watched.problem;
  }

  stop(): void {
    this.#slices?.watched.stop();
  }

  /** What the node's object asks for; undefined until the whitelist is known too. */
  of(object: IpvsBpfNode): NodeTarget | undefined {
    const { name: policy, uid } = object.spec.policyRef;
    if (this.#slices?.policy !== policy) {
      this.stop();
      this.#slices = { policy, watched: this.#watch(policy) };
    }
    const { watched } = this.#slices;
    if (!watched.hasSynced) return undefined;
    const found = watched.list() as unknown as readonly IpvsBpfServiceSlice[];
    return {
      generation: object.metadata.generation ?? 0,
      spec: object.spec,
      services: found
        .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
        .filter(({ spec }) => spec.policyRef.uid === uid)
        .flatMap(({ spec }) => spec.services),
    };
  }

  #watch(policy: string): Watched {
    const { cluster, wake } = this.#options;
    const scope = { labelSelector: `${POLICY_LABEL}=${policy}` };
    return cluster.watch(SERVICE_SLICES, scope, { onChange: wake, onState: wake });
  }
}
