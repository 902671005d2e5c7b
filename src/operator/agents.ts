// SPDX-License-Identifier: Apache-2.0
/** The agents' DaemonSet with its rights: made when there is a policy, repaired, and removed after the last one. */
import type { Cluster } from '../cluster-ports.ts';
import {
  type AgentConfig,
  agentManifests,
  differences,
  type Manifest,
  type Owners,
} from '../core/manifests.ts';
import { CLUSTER_ROLES, DEPLOYMENTS } from '../core/resource-types.ts';
import { MANAGER } from './execute.ts';
import type { Log } from './reconcile.ts';

/** Of the chart's own objects. */
const OPERATOR_NAME = 'ipvs-bpf-operator';

export interface AgentsOptions {
  readonly cluster: Cluster;
  readonly config: AgentConfig;
  readonly log: Log;
  /** True while a policy, or an IpvsBpfNode, is there. */
  readonly wanted: () => boolean;
}

/**
 * Brings all of the agents' objects to what they should be.
 * @throws ClusterError at the first that cannot be read or written
 */
export async function reconcileAgents(options: AgentsOptions): Promise<void> {
  const { cluster, config, wanted } = options;
  if (wanted()) {
    const owners = await findOwners(cluster, config.namespace);
    for (const manifest of agentManifests(config, owners)) await ensure(manifest, options);
  } else {
    for (const { type, object } of [...agentManifests(config)].reverse()) {
      const found = await cluster.get(type, object.metadata);
      if (found === undefined || found.metadata.deletionTimestamp !== undefined) continue;
      await cluster.delete(type, object.metadata, found.metadata.uid);
      options.log.info('removed', { kind: type.kind, name: object.metadata.name });
    }
  }
}

async function findOwners(cluster: Cluster, namespace: string): Promise<Owners> {
  return {
    namespaced: await cluster.get(DEPLOYMENTS, { name: OPERATOR_NAME, namespace }),
    cluster: await cluster.get(CLUSTER_ROLES, { name: OPERATOR_NAME }),
  };
}

async function ensure({ type, object }: Manifest, { cluster, log }: AgentsOptions): Promise<void> {
  const { name } = object.metadata;
  const found = await cluster.get(type, object.metadata);
  const changed = found === undefined ? [] : differences(object, found);
  if (found !== undefined && changed.length === 0) return;
  await cluster.apply(type, object, { manager: MANAGER, onConflict: 'TakeOver' });
  if (found === undefined) log.info('created', { kind: type.kind, name });
  else log.info('put right', { kind: type.kind, name, fields: changed });
}
