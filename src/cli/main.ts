// SPDX-License-Identifier: Apache-2.0
/** Wiring: the only file here that constructs adapters. */
import { type ArchivePart, writeArchive } from '../adapters/archive.ts';
import { KubernetesCluster } from '../adapters/kubernetes.ts';
import { loadKubeConfig, type PooledKubeConfig } from '../adapters/kubernetes-client.ts';
import { KubernetesPods } from '../adapters/kubernetes-pods.ts';
import type { Cluster, Pods } from '../cluster-ports.ts';
import { ClusterError, isForbidden } from '../core/cluster-error.ts';
import { type ClusterOptions, NotAllowed, UsageError } from './options.ts';

export type { ArchivePart };

export interface ClusterAccess {
  readonly cluster: Cluster;
  readonly pods: Pods;
}

/** What the library takes where it finds no kubeconfig: nobody means that. */
const FALLBACK_SERVER = 'http://localhost:8080';

/** Lets `use` work with the cluster of these options, and ends the connections. Throws UsageError, NotAllowed. */
export async function withCluster<T>(
  options: ClusterOptions,
  use: (access: ClusterAccess) => Promise<T>,
): Promise<T> {
  const config = kubeConfigOf(options);
  try {
    const cluster = new KubernetesCluster({ config, component: 'ipvs-bpf', instance: 'cli' });
    return await use({ cluster, pods: new KubernetesPods(config) });
  } catch (error) {
    throw error instanceof ClusterError && isForbidden(error)
      ? new NotAllowed(error.message, { cause: error })
      : error;
  } finally {
    await config.close();
  }
}

/** Writes a sysdump. Throws UsageError if the file cannot be made. */
export async function writeSysdump(
  file: string,
  parts: AsyncIterable<ArchivePart>,
  options: Parameters<typeof writeArchive>[2],
): Promise<void> {
  try {
    await writeArchive(file, parts, options);
  } catch (error) {
    const cannotWrite = error instanceof Error && 'syscall' in error && error.syscall === 'open';
    throw cannotWrite ? new UsageError(error.message) : error;
  }
}

function kubeConfigOf({ kubeconfig, context }: ClusterOptions): PooledKubeConfig {
  let config: PooledKubeConfig;
  try {
    config = loadKubeConfig({ file: kubeconfig, context });
  } catch (error) {
    const where = kubeconfig ?? process.env.KUBECONFIG;
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(where === undefined ? message : `kubeconfig ${where}: ${message}`);
  }
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) {
    throw new UsageError('the kubeconfig has no current context: name one with --context');
  }
  if (server === FALLBACK_SERVER) {
    throw new UsageError('no kubeconfig was found: set --kubeconfig or KUBECONFIG');
  }
  return config;
}
