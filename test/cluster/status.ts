// SPDX-License-Identifier: Apache-2.0
import { ApiClient } from './api-client.ts';
import { place } from './control-plane.ts';
import { type Layout, nodeIdentities, statePaths } from './layout.ts';
import { machine, readyNodes } from './nodes.ts';
import { knownDaemons, runningPid } from './processes.ts';
import { readSettings } from './settings.ts';

export interface Status {
  /** One line for each thing that should run. */
  readonly lines: readonly string[];
  /** Whether everything does. */
  readonly healthy: boolean;
}

/** What of the cluster runs; a cluster that was never started is not healthy. */
export async function clusterStatus(layout: Layout): Promise<Status> {
  const paths = statePaths(layout.stateDir);
  const settings = await readSettings(paths.settings);
  if (settings === undefined) return { lines: ['no cluster'], healthy: false };
  const lines = [
    `Kubernetes ${settings.kubernetes}, kernel ${settings.kernel}, kubeconfig ${paths.kubeconfig}`,
  ];
  const running = new Map<string, number>();
  const known = await knownDaemons(place(layout));
  for (const name of known) {
    const pid = await runningPid(name, place(layout));
    if (pid !== undefined) running.set(name, pid);
    lines.push(`${name}: ${pid === undefined ? 'ended' : `running, process ${pid}`}`);
  }
  const api = await ApiClient.of(paths.kubeconfig).catch(() => undefined);
  const answers = (await api?.isReady()) ?? false;
  if (!answers) lines.push('the API server does not answer');
  const ready = answers && api !== undefined ? await readyNodes(api) : [];
  const nodes = nodeIdentities(settings.nodes);
  lines.push(...nodes.map(({ name }) => `${name}: ${ready.includes(name) ? 'Ready' : 'not ready'}`));
  const complete = nodes.every((node) => running.has(machine(node)) && ready.includes(node.name));
  return { lines, healthy: answers && complete && known.every((name) => running.has(name)) };
}
