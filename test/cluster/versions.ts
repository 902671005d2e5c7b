// SPDX-License-Identifier: Apache-2.0

/** The newest release of each minor version that is known to build and run here. */
const newest: Readonly<Record<string, string>> = {
  '1.34': '1.34.4',
  '1.35': '1.35.4',
  '1.36': '1.36.3',
  '1.37': '1.37.2',
};

export const defaultKubernetes = '1.34';
export const coreDnsVersion = '1.15.0';
/** Both major versions that users have; the first installs the chart in tests. */
export const helmVersions = { 3: '3.22.0', 4: '4.3.1' } as const;
export type HelmMajor = keyof typeof helmVersions;
/** Of the end-to-end suite's image; what is in it comes from the Kubernetes source that is built. */
export const agnhostImage = 'registry.k8s.io/e2e-test-images/agnhost:2.56';
/** Further images that the suite's tests of connection tracking use. */
export const busyboxImage = 'registry.k8s.io/e2e-test-images/busybox:1.37.0-1';
export const invalidStateImage = 'registry.k8s.io/e2e-test-images/regression-issue-74839:1.2';
/** The container that holds a pod's namespaces. */
export const pauseImage = 'localhost/pause:1';

/**
 * `1.34` → `1.34.4`; a full version stays what it is.
 * @throws Error that names the choices
 */
export function kubernetesVersion(text: string): string {
  const known = newest[text];
  if (known !== undefined) return known;
  const minor = /^(1\.\d+)\.\d+$/.exec(text)?.[1];
  if (minor !== undefined && newest[minor] !== undefined) return text;
  throw new Error(
    `unknown Kubernetes version ${text}: use ${Object.keys(newest).join(', ')} or a release of these`,
  );
}

/** Version of the staging modules (k8s.io/api and so on) that belongs to a release: `1.34.4` → `0.34.4`. */
export function stagingVersion(kubernetes: string): string {
  return kubernetes.replace(/^1\./, '0.');
}

/** `go version go1.24.3 linux/amd64` → [1, 24]; undefined if the text is something else. */
export function goVersion(text: string): [major: number, minor: number] | undefined {
  const [, major, minor] = /^go version go(\d+)\.(\d+)/.exec(text) ?? [];
  return major === undefined || minor === undefined ? undefined : [Number(major), Number(minor)];
}
