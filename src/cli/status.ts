// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf status` */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster } from '../cluster-ports.ts';
import { ClusterError, isForbidden } from '../core/cluster-error.ts';
import { type ClusterSummary, summarizeCluster } from '../core/cluster-summary.ts';
import { withCluster } from './main.ts';
import { type ClusterOptions, EXIT, type OutputFormat } from './options.ts';
import { readClusterObjects } from './read-cluster.ts';
import { clusterStatusText, verdict } from './status-text.ts';

export interface StatusOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly wait?: true;
  /** Milliseconds */
  readonly waitDuration: number;
  readonly ignoreWarnings?: true;
}

const LOOK_EVERY_MS = 2_000;

export async function statusCommand(policies: readonly string[], options: StatusOptions): Promise<number> {
  return withCluster(options, async ({ cluster }) => {
    const look = () => lookAt(cluster, policies, options);
    const found = options.wait === true ? await waitFor(look, options.waitDuration) : await look();
    const ignoreWarnings = options.ignoreWarnings === true;
    const summary = ignoreWarnings ? { ...found, warnings: [] } : found;
    process.stdout.write(
      options.output === 'json'
        ? `${JSON.stringify(summary)}\n`
        : clusterStatusText(summary, { ignoreWarnings }),
    );
    return summary.ready ? EXIT.ok : EXIT.failed;
  });
}

async function lookAt(
  cluster: Cluster,
  policies: readonly string[],
  { namespace }: ClusterOptions,
): Promise<ClusterSummary> {
  return summarizeCluster(await readClusterObjects(cluster, namespace), policies);
}

/**
 * Looks until it is ready or the time is over; answers the last look. An API server that does not answer for a while
 * is waited for as well; throws what it said last if there was no answer at all.
 */
async function waitFor(look: () => Promise<ClusterSummary>, milliseconds: number): Promise<ClusterSummary> {
  const end = Date.now() + milliseconds;
  let said = '';
  const tell = (text: string): void => {
    if (text !== said) process.stderr.write(`${text}\n`);
    said = text;
  };
  for (;;) {
    let failure: unknown;
    try {
      const summary = await look();
      if (summary.ready || Date.now() + LOOK_EVERY_MS > end) return summary;
      tell(verdict(summary));
    } catch (error) {
      if (!(error instanceof ClusterError) || isForbidden(error)) throw error;
      failure = error;
      tell(error.message);
    }
    if (failure !== undefined && Date.now() + LOOK_EVERY_MS > end) throw failure;
    await sleep(LOOK_EVERY_MS);
  }
}
