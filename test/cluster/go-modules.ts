// SPDX-License-Identifier: Apache-2.0
import { stagingVersion } from './versions.ts';

/** A program that `go build`, or `go test -c`, makes of a published module. */
export interface GoProgram {
  readonly name: string;
  /** Names module and version in the cache: `kubernetes-1.34.4`. */
  readonly module: string;
  /** Import path of the main package; `.` for the module's own. */
  readonly package: string;
  readonly ldflags: string;
  /** Whether it is the package's tests, not its main function. */
  readonly tests?: true;
}

/** Main packages of the Kubernetes repository. */
const kubernetesPackages = {
  'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  'kube-controller-manager': 'k8s.io/kubernetes/cmd/kube-controller-manager',
  'kube-scheduler': 'k8s.io/kubernetes/cmd/kube-scheduler',
  kubectl: 'k8s.io/kubernetes/cmd/kubectl',
  kubelet: 'k8s.io/kubernetes/cmd/kubelet',
  'kube-proxy': 'k8s.io/kubernetes/cmd/kube-proxy',
  agnhost: 'k8s.io/kubernetes/test/images/agnhost',
  'regression-issue-74839': 'k8s.io/kubernetes/test/images/regression-issue-74839',
  'e2e.test': 'k8s.io/kubernetes/test/e2e',
} as const;

export type KubernetesProgram = keyof typeof kubernetesPackages;
export const kubernetesPrograms = Object.keys(kubernetesPackages) as KubernetesProgram[];

export function kubernetesProgram(name: KubernetesProgram, version: string): GoProgram {
  const [major = '', minor = ''] = version.split('.');
  const facts = {
    gitVersion: `v${version}`,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
  };
  const sets = Object.entries(facts).map(
    ([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`,
  );
  return {
    name,
    module: `kubernetes-${version}`,
    package: kubernetesPackages[name],
    ldflags: ['-s', '-w', ...sets].join(' '),
    ...(name.endsWith('.test') ? { tests: true } : {}),
  };
}

/**
 * Text of a go.mod that requires Kubernetes: its staging modules, which its own go.mod takes from folders
 * of its repository, come from their published versions.
 * @param upstream text of Kubernetes's own go.mod
 */
export function kubernetesGoMod(upstream: string, version: string): string {
  const staged = [...upstream.matchAll(/^\s*(?:replace )?(k8s\.io\/\S+) => \.\/staging\//gm)].map(
    ([, name = '']) => name,
  );
  if (staged.length === 0) throw new Error(`go.mod of Kubernetes ${version} names no staging modules`);
  const godebug = /^godebug .*$/m.exec(upstream)?.[0] ?? '';
  const block = /^godebug \([^)]*\)$/m.exec(upstream)?.[0] ?? '';
  return [
    'module cluster',
    `go ${/^go (\S+)$/m.exec(upstream)?.[1] ?? '1.24.0'}`,
    block || godebug,
    `require k8s.io/kubernetes v${version}`,
    ...[...new Set(staged)].map((name) => `replace ${name} => ${name} v${stagingVersion(version)}`),
    '',
  ].join('\n');
}

/** A Go file that only makes `go mod tidy` keep what the packages need. */
export function importsOf(packages: readonly string[]): string {
  return [
    '//go:build tools',
    '',
    'package tools',
    '',
    'import (',
    ...packages.map((name) => `\t_ "${name}"`),
    ')',
    '',
  ].join('\n');
}

/** For go.mod's requirements. */
export const kubernetesImports = Object.values(kubernetesPackages);
