// SPDX-License-Identifier: Apache-2.0
import type { NodeResourceStatus } from '../api/resources.ts';
import type { Cluster } from '../cluster-ports.ts';
import { apiVersionOf } from '../core/kube-object.ts';
import { IPVS_BPF_NODES } from '../core/resource-types.ts';
import { messageOf } from './ladder.ts';
import type { Node } from './reconcile.ts';

export const MANAGER = 'ipvs-bpf-agent';

/** Writes the status of the node's IpvsBpfNode, by server-side apply. */
export class StatusWriter {
  readonly #cluster: Pick<Cluster, 'applyStatus'>;
  readonly #options: { readonly nodeName: string; readonly log: Node['log'] };
  #lastError: string | undefined;
  /** What was written last, if anything was. */
  written: NodeResourceStatus | undefined;

  constructor(
    cluster: Pick<Cluster, 'applyStatus'>,
    options: { readonly nodeName: string; readonly log: Node['log'] },
  ) {
    this.#cluster = cluster;
    this.#options = options;
  }

  /** The API server may be away: that is logged once, and `written` stays, so that it is told with a later look. */
  async write(status: NodeResourceStatus): Promise<void> {
    const { nodeName, log } = this.#options;
    try {
      const { kind } = IPVS_BPF_NODES;
      const object = { apiVersion: apiVersionOf(IPVS_BPF_NODES), kind, metadata: { name: nodeName }, status };
      await this.#cluster.applyStatus(IPVS_BPF_NODES, object, { manager: MANAGER, onConflict: 'TakeOver' });
      this.written = status;
      this.#lastError = undefined;
    } catch (error) {
      const reason = messageOf(error);
      if (this.#lastError !== reason) log.warn('status not written', { reason });
      this.#lastError = reason;
    }
  }
}
