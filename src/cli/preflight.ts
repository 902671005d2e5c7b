// SPDX-License-Identifier: Apache-2.0
/** `ipvs-bpf preflight` */
import { API_VERSION } from '../api/schema.ts';
import { nodesPreflight, policiesForKernel } from '../core/cluster-preflight.ts';
import { withCluster } from './main.ts';
import { type ClusterOptions, EXIT, type OutputFormat } from './options.ts';
import { kernelText, nodesText } from './preflight-text.ts';
import { readInstalled, readKubernetesNodes } from './read-cluster.ts';

export interface PreflightOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly kernel?: string;
}

export async function preflightCommand(options: PreflightOptions): Promise<number> {
  return withCluster(options, async ({ cluster }) => {
    const { policies, nodes: nodeObjects } = await readInstalled(cluster);
    if (options.kernel !== undefined) {
      const found = policiesForKernel(policies, options.kernel);
      print(options.output, { kind: 'KernelPreflight', policies: found }, kernelText(found, options.kernel));
      return found.every(({ module }) => module.fits) ? EXIT.ok : EXIT.failed;
    }
    const nodes = nodesPreflight({ policies, nodeObjects, nodes: await readKubernetesNodes(cluster) });
    print(options.output, { kind: 'ClusterPreflight', nodes }, nodesText(nodes));
    const good = nodes.every(({ result }) => result === 'Passed' || result === 'Skipped');
    return good ? EXIT.ok : EXIT.failed;
  });
}

function print(output: OutputFormat, result: object, text: string): void {
  process.stdout.write(
    output === 'json' ? `${JSON.stringify({ apiVersion: API_VERSION, ...result })}\n` : text,
  );
}
