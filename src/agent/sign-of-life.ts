// SPDX-License-Identifier: Apache-2.0
/** A Lease that this agent renews: the operator sees by it that the agent lives. */
import type { Cluster } from '../cluster-ports.ts';
import { apiVersionOf } from '../core/kube-object.ts';
import { NODE_LEASE_PREFIX } from '../core/manifests.ts';
import { LEASES } from '../core/resource-types.ts';
import type { Log } from './log.ts';

export const RENEW_EVERY_MS = 10_000;
const DURATION_SECONDS = 40;

export interface SignOfLifeOptions {
  readonly cluster: Pick<Cluster, 'apply'>;
  readonly namespace: string;
  readonly nodeName: string;
  readonly manager: string;
  readonly now: () => number;
  readonly log: Log;
}

export class SignOfLife {
  readonly #options: SignOfLifeOptions;
  #failed = false;

  constructor(options: SignOfLifeOptions) {
    this.#options = options;
  }

  /** Renews the Lease, or makes it. A failure is logged once: the node goes on without the API server. */
  async renew(): Promise<void> {
    const { cluster, namespace, nodeName, manager, now, log } = this.#options;
    const name = `${NODE_LEASE_PREFIX}${nodeName}`;
    const renewTime = new Date(now()).toISOString().replace('Z', '000Z');
    const object = {
      apiVersion: apiVersionOf(LEASES),
      kind: LEASES.kind,
      metadata: { name, namespace },
      spec: { holderIdentity: nodeName, leaseDurationSeconds: DURATION_SECONDS, renewTime },
    };
    try {
      await cluster.apply(LEASES, object, { manager, onConflict: 'TakeOver' });
      this.#failed = false;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (!this.#failed) log.warn('Lease not renewed', { reason });
      this.#failed = true;
    }
  }
}
