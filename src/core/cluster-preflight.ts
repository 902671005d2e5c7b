// SPDX-License-Identifier: Apache-2.0
/** What can be said before nodes are changed: their checks, and which module each of them would get. */
import type { IpvsBpfNode, IpvsBpfPolicy } from '../api/generated/resource-types.ts';
import { type PolicySpec, SKIP_LABEL } from '../api/resources.ts';
import type { ClusterNode } from './cluster-facts.ts';
import { isObserved, mappingFor, moduleFor } from './policy-nodes.ts';
import { byAge, nodeOwners } from './policy-plan.ts';

/** How a policy gets the module for a kernel. */
export type KernelFit =
  | {
      readonly fits: true;
      /** "literal 6.1.0-56-amd64", "regexp 6\.1\..*", "module.path", "delivered" */
      readonly by: string;
      /** On the node; unset: RELEASE/ip_vs.ko below the directory that modules are delivered to. */
      readonly path?: string;
      /** What is delivered to path. */
      readonly image?: string;
    }
  | { readonly fits: false; readonly unsupportedKernel: 'Skip' | 'Fail' };

export interface PolicyKernel {
  readonly policy: string;
  readonly kernel: string;
  readonly module: KernelFit;
}

export interface NodePreflight {
  readonly node: string;
  readonly policy: string;
  readonly kernel: string;
  /** "ipvs v1.34.2"; empty until the agent has reported. */
  readonly kubeProxy: string;
  readonly module: KernelFit;
  /** NotReported: the agent has not checked what is asked now. Skipped: by label, or for want of a module. */
  readonly result: 'Passed' | 'Failed' | 'NotReported' | 'Skipped';
  /** Those that did not pass. */
  readonly findings: readonly { readonly check: string; readonly result: string; readonly message: string }[];
}

/** Which module each policy has for a kernel. */
export function policiesForKernel(
  policies: readonly IpvsBpfPolicy[],
  kernel: string,
): readonly PolicyKernel[] {
  return policies.map(({ metadata, spec }) => ({
    policy: metadata.name,
    kernel,
    module: fitOf(spec.module, kernel),
  }));
}

function fitOf(module: PolicySpec['module'], kernel: string): KernelFit {
  const choice = moduleFor(module, kernel);
  const { ok, ...where } = choice;
  if (!ok) return { fits: false, unsupportedKernel: module.unsupportedKernel };
  const mapping = mappingFor(module, kernel);
  if (mapping?.literal !== undefined) return { fits: true, by: `literal ${mapping.literal}`, ...where };
  if (mapping?.regexp !== undefined) return { fits: true, by: `regexp ${mapping.regexp}`, ...where };
  return { fits: true, by: 'path' in where ? 'module.path' : 'delivered', ...where };
}

export interface PreflightObjects {
  readonly policies: readonly IpvsBpfPolicy[];
  readonly nodes: readonly ClusterNode[];
  readonly nodeObjects: readonly IpvsBpfNode[];
}

/** The nodes that a policy selects, by name. */
export function nodesPreflight({ policies, nodes, nodeObjects }: PreflightObjects): readonly NodePreflight[] {
  const owners = nodeOwners(policies.toSorted(byAge), nodes);
  const objects = new Map(nodeObjects.map((object) => [object.metadata.name, object]));
  return nodes
    .flatMap((node) => {
      const [policy] = owners.get(node.metadata.name) ?? [];
      return policy === undefined ? [] : [nodePreflight(node, policy, objects.get(node.metadata.name))];
    })
    .sort((a, b) => (a.node < b.node ? -1 : 1));
}

function nodePreflight(
  node: ClusterNode,
  policy: IpvsBpfPolicy,
  object: IpvsBpfNode | undefined,
): NodePreflight {
  const kernel = node.status?.nodeInfo?.kernelVersion ?? '';
  const module = fitOf(policy.spec.module, kernel);
  const { mode = '', version = '' } = object?.status?.kubeProxy ?? {};
  return {
    node: node.metadata.name,
    policy: policy.metadata.name,
    kernel,
    kubeProxy: `${mode} ${version}`.trim(),
    module,
    result: resultOf(node, module, object),
    findings: (object?.status?.preflight ?? [])
      .filter(({ result }) => result !== 'Pass')
      .map(({ check, result, message = '' }) => ({ check, result, message })),
  };
}

function resultOf(
  node: ClusterNode,
  module: KernelFit,
  object: IpvsBpfNode | undefined,
): NodePreflight['result'] {
  if (node.metadata.labels?.[SKIP_LABEL] === 'true') return 'Skipped';
  if (!module.fits) return module.unsupportedKernel === 'Skip' ? 'Skipped' : 'Failed';
  if (object === undefined || !isObserved(object)) return 'NotReported';
  const passed = object.status?.conditions?.find(({ type }) => type === 'PreflightPassed');
  if (passed === undefined || passed.status === 'Unknown') return 'NotReported';
  return passed.status === 'True' ? 'Passed' : 'Failed';
}
