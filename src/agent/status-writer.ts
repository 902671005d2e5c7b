// SPDX-License-Identifier: Apache-2.0
import type { NodeResourceStatus } from '../api/resources.ts';
import type { Cluster, Watched } from '../cluster-ports.ts';
import { sameValue } from '../core/canonical.ts';
import { mergeConditions } from '../core/conditions.ts';
import { apiVersionOf } from '../core/kube-object.ts';
import { failedLookFinding, firstNodeFindings } from '../core/node-findings.ts';
import { withoutOperators } from '../core/node-resource-status.ts';
import { IPVS_BPF_NODES } from '../core/resource-types.ts';
import { messageOf } from './ladder.ts';
import type { Node } from './reconcile.ts';
import { nodeObject } from './target.ts';

/** What a status says of when it was written. */
interface At {
  readonly generation: number;
  /** ISO 8601. */
  readonly time: string;
}

interface StatusWriterOptions {
  readonly nodeName: string;
  readonly log: Node['log'];
  readonly nodes: Watched;
}

export const MANAGER = 'ipvs-bpf-agent';

/** Writes the status of the node's IpvsBpfNode, by server-side apply. */
export class StatusWriter {
  readonly #cluster: Pick<Cluster, 'applyStatus'>;
  readonly #options: StatusWriterOptions;
  #lastError: string | undefined;
  /** What was written last, if anything was, and into which object. */
  #written: { readonly uid: string | undefined; readonly status: NodeResourceStatus } | undefined;

  constructor(cluster: Pick<Cluster, 'applyStatus'>, options: StatusWriterOptions) {
    this.#cluster = cluster;
    this.#options = options;
  }

  /** The IpvsBpfNode; undefined while it is not known, and once it is gone. */
  get object() {
    return nodeObject(this.#options.nodes, this.#options.nodeName);
  }

  /** The agent's part of the status as it was written last, by this process or by one before it. */
  get previous(): NodeResourceStatus | undefined {
    return this.#written?.status ?? withoutOperators(this.object?.status);
  }

  /** The agent's part of what the object says: one that took the place of another was told nothing yet. */
  get #known(): NodeResourceStatus | undefined {
    const { object } = this;
    const isIts = this.#written !== undefined && this.#written.uid === object?.metadata.uid;
    return isIts ? this.#written?.status : withoutOperators(object?.status);
  }

  /** The first visit: looking may take a while, and it may fail. */
  async greet(at: At): Promise<void> {
    if (this.object === undefined || this.#written !== undefined) return;
    if ((this.previous?.conditions ?? []).length > 0) return;
    await this.write({ ...this.previous, conditions: [...mergeConditions([], firstNodeFindings(), at)] });
  }

  /** A node that cannot be looked at is not Ready, whatever it was before. */
  async writeFailedLook(reason: string, at: At): Promise<void> {
    if (this.object === undefined) return;
    const conditions = this.previous?.conditions ?? [];
    const keep = conditions.map(({ type }) => type);
    const merged = mergeConditions(conditions, [failedLookFinding(reason)], { ...at, keep });
    await this.write({ ...this.previous, conditions: [...merged] });
  }

  /**
   * Writes what the object does not say yet. The API server may be away: that is logged once, and what was written stays,
   * so that it is told with a later look.
   */
  async write(status: NodeResourceStatus): Promise<void> {
    const { nodeName, log } = this.#options;
    if (this.object === undefined || sameValue(status, this.#known)) return;
    const { uid } = this.object.metadata;
    try {
      const { kind } = IPVS_BPF_NODES;
      const object = { apiVersion: apiVersionOf(IPVS_BPF_NODES), kind, metadata: { name: nodeName }, status };
      await this.#cluster.applyStatus(IPVS_BPF_NODES, object, { manager: MANAGER, onConflict: 'TakeOver' });
      this.#written = { uid, status };
      this.#lastError = undefined;
    } catch (error) {
      const reason = messageOf(error);
      if (this.#lastError !== reason) log.warn('status not written', { reason });
      this.#lastError = reason;
    }
  }
}
