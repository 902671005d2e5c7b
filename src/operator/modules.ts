// SPDX-License-Identifier: Apache-2.0
/** The pods that bring modules to nodes: made where a module is asked for and missing, removed when it is there. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import type { Cluster } from '../cluster-ports.ts';
import { isConflict } from '../core/cluster-error.ts';
import type { ClusterPod } from '../core/cluster-facts.ts';
import type { AgentConfig } from '../core/manifests.ts';
import { type Delivery, deliveryPod, planDeliveries } from '../core/module-delivery.ts';
import { PODS } from '../core/resource-types.ts';
import { RetryLater } from '../runtime/work-queue.ts';
import type { Log } from './reconcile.ts';

export interface ModulesOptions {
  readonly cluster: Cluster;
  readonly config: AgentConfig;
  readonly log: Log;
  readonly nodeObjects: readonly IpvsBpfNode[];
  readonly policies: readonly IpvsBpfPolicy[];
  readonly pods: readonly ClusterPod[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Some of what is waited for shows by the time alone. */
const LOOK_MS = 10_000;

/**
 * Makes the pods that are missing, and removes those that are not needed.
 * @throws ClusterError at the first that cannot be written; RetryLater while there are pods
 */
export async function reconcileModules(options: ModulesOptions): Promise<void> {
  const { cluster, config, log, nodeObjects, policies, pods, now } = options;
  const { create, remove } = planDeliveries(nodeObjects, policies, pods, now);
  for (const { metadata } of remove) {
    await cluster.delete(PODS, { name: metadata.name, namespace: config.namespace }, metadata.uid);
  }
  for (const delivery of create) {
    await createPod(delivery, options);
    log.info('delivers a module', { node: delivery.object.metadata.name, image: delivery.image });
  }
  if (create.length + pods.length > 0) throw new RetryLater('modules are on their way', LOOK_MS);
}

/** The watch may not have brought the one of the last run yet. */
async function createPod(delivery: Delivery, { cluster, config }: ModulesOptions): Promise<void> {
  try {
    await cluster.create(PODS, deliveryPod(delivery, config));
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}
