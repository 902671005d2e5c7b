// SPDX-License-Identifier: Apache-2.0
/** The checks before a change, for people. */
import type { KernelFit, NodePreflight, PolicyKernel } from '../core/cluster-preflight.ts';
import { SEE } from '../core/cluster-summary.ts';
import { table } from '../core/text-table.ts';

export function nodesText(nodes: readonly NodePreflight[]): string {
  if (nodes.length === 0) return 'No policy selects a node.\n';
  const findings = nodes.flatMap(({ node, findings: list }) =>
    list.map(({ check, result, message }) => `  ${node}: ${result}: ${check}: ${message}`),
  );
  const count = (result: NodePreflight['result']): number =>
    nodes.filter((node) => node.result === result).length;
  return [
    ...table([
      ['NODE', 'POLICY', 'KERNEL', 'KUBE-PROXY', 'CHECKS', 'MODULE'],
      ...nodes.map(({ node, policy, kernel, kubeProxy, module, result }) => [
        node,
        policy,
        kernel,
        kubeProxy === '' ? '-' : kubeProxy,
        result,
        moduleText(module),
      ]),
    ]),
    ...(findings.length === 0 ? [] : ['', 'Findings', ...findings, `  What to do: ${SEE.checks}`]),
    '',
    `${count('Passed')} passed, ${count('Failed')} failed, ${count('NotReported')} not reported, ` +
      `${count('Skipped')} skipped`,
    '',
  ].join('\n');
}

export function kernelText(policies: readonly PolicyKernel[], kernel: string): string {
  if (policies.length === 0) return 'There is no policy.\n';
  return [
    `Nodes with kernel ${kernel} would get:`,
    ...table([['POLICY', 'MODULE'], ...policies.map(({ policy, module }) => [policy, moduleText(module)])]),
    '',
  ].join('\n');
}

function moduleText(module: KernelFit): string {
  if (!module.fits) {
    const what = module.unsupportedKernel === 'Skip' ? 'are left alone' : 'count as failed';
    return `none: nodes with this kernel ${what} (module.unsupportedKernel: ${module.unsupportedKernel})`;
  }
  const { by, path, image } = module;
  if (image !== undefined) return `${image} (${by})`;
  // Only the agent of a node sees whether the file is there.
  return path === undefined ? 'delivered: RELEASE/ip_vs.ko, if the node has it' : `${path} (${by})`;
}
