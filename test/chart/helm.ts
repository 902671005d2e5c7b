// SPDX-License-Identifier: Apache-2.0
/** Real helm, both major versions, on this checkout's chart. */
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { run } from '../../scripts/exec.ts';

export const CHART = join(import.meta.dirname, '../../charts/ipvs-bpf');
export const EVERYTHING = join(import.meta.dirname, 'values/everything.yaml');
export const RELEASE = 'ipvs-bpf';
export const NAMESPACE = 'ipvs-bpf-system';
/** What helm takes the cluster for; a helm that is built from its module has no version of its own. */
const KUBERNETES = '1.34.4';

export interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly rules?: unknown;
  readonly data?: Readonly<Record<string, string>>;
}

/** @throws Error that says who sets the variable */
export function program(variable: string, what = 'helm'): string {
  const path = process.env[variable];
  if (path === undefined) throw new Error(`${variable} must name ${what}; "npm test -- --only api" sets it`);
  return path;
}

export const HELMS = [
  ['helm 3', program('IPVS_BPF_TEST_HELM')],
  ['helm 4', program('IPVS_BPF_TEST_HELM4')],
] as const;

/** Nothing of the user's own helm or cluster counts. */
const environment = { PATH: process.env.PATH, HOME: '/nonexistent', KUBECONFIG: '/dev/null' };

export function helm(path: string, ...args: readonly string[]): Promise<string> {
  return run(path, args, { env: environment });
}

export function lint(path: string, ...args: readonly string[]): Promise<string> {
  return helm(path, 'lint', CHART, '--strict', '--kube-version', KUBERNETES, ...args);
}

/** Hooks included. */
export async function render(path: string, ...args: readonly string[]): Promise<readonly Rendered[]> {
  const where = ['--namespace', NAMESPACE];
  // The last one counts.
  const text = await helm(path, 'template', RELEASE, CHART, ...where, '--kube-version', KUBERNETES, ...args);
  return parseAllDocuments(text).flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw error;
    const object = document.toJS() as Rendered | null;
    return object === null ? [] : [object];
  });
}

/** What helm says why it does not render. */
export async function refusal(path: string, ...args: readonly string[]): Promise<string> {
  return render(path, ...args).then(
    () => 'it was rendered',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

/** "Deployment ipvs-bpf-operator" */
export const nameOf = ({ kind, metadata }: Rendered): string => `${kind} ${metadata.name}`;
