// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { type AgentConfig, agentManifests, differences } from '../../../src/core/manifests.ts';

const config: AgentConfig = {
  namespace: 'ipvs-bpf',
  image: 'registry/ipvs-bpf:1',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [],
  moduleHostPath: '/srv/modules',
  logLevel: 'info',
  logFormat: 'json',
  priorityClassName: 'system-node-critical',
  resources: {},
  nodeSelector: {},
  tolerations: [{ operator: 'Exists' }],
};

interface Container {
  readonly volumeMounts: readonly { readonly name: string; readonly readOnly?: boolean }[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly livenessProbe: { readonly periodSeconds: number; readonly failureThreshold: number };
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly name: string; readonly hostPath: { readonly path: string } }[];
}

const daemonSet = (change: Partial<AgentConfig> = {}) =>
  agentManifests({ ...config, ...change }).at(-1)?.object;

describe('agentManifests', () => {
  it('makes the rights before what uses them', () => {
    expect(agentManifests(config).map(({ type }) => type.kind)).toEqual([
      'ServiceAccount',
      'ClusterRole',
      'ClusterRoleBinding',
      'Role',
      'RoleBinding',
      'DaemonSet',
    ]);
  });

  it('gives agents no right to delete, to see Secrets or Pods, or to write a Node', () => {
    const text = JSON.stringify(agentManifests(config).map(({ object }) => object.rules));
    expect(text).not.toMatch(/delete|secrets|pods|\*/);
    expect(text).toContain('{"apiGroups":[""],"resources":["nodes"],"verbs":["get"]}');
  });

  it('has an agent ended that does not answer for five minutes, and not for a call of the kernel that takes one', () => {
    const pod = daemonSet()?.spec as { template: { spec: PodSpec } };
    const { periodSeconds = 0, failureThreshold = 0 } = pod.template.spec.containers[0]?.livenessProbe ?? {};
    expect(periodSeconds * failureThreshold).toBe(300);
  });

  it('gives agents the capabilities and the directories that docs/security.md names, and is not privileged', async () => {
    const text = await readFile(new URL('../../../docs/security.md', import.meta.url), 'utf8');
    const [, section = ''] = text.split('## Capabilities of an agent');
    const named = [...section.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, name]) => name);
    const pod = daemonSet()?.spec as { template: { spec: PodSpec } };
    const { containers, volumes } = pod.template.spec;
    const { volumeMounts, securityContext } = containers[0] as Container;
    expect(securityContext.capabilities).toEqual({ drop: ['ALL'], add: named });
    expect(securityContext).toMatchObject({ readOnlyRootFilesystem: true });
    expect(securityContext).not.toHaveProperty('privileged');
    const written = new Set(volumeMounts.filter(({ readOnly }) => !readOnly).map(({ name }) => name));
    const [sentence = ''] =
      /It writes to these directories[^:]*:[^.]*\.[^:]*?(?=AppArmor)/.exec(section) ?? [];
    const directories = [...sentence.matchAll(/`(\/[^`]+)`/g)].map(([, path]) => path);
    const mounted = volumes.filter(({ name }) => written.has(name)).map(({ hostPath }) => hostPath.path);
    expect(directories.sort()).toEqual(mounted.sort());
  });

  it('mounts the modules of the host', () => {
    const text = JSON.stringify(daemonSet());
    expect(text).toContain(
      '{"name":"modules","hostPath":{"path":"/srv/modules","type":"DirectoryOrCreate"}}',
    );
  });

  it('opens no port of the node, or the one that serves metrics at its address', () => {
    expect(JSON.stringify(daemonSet())).not.toMatch(/containerPort|METRICS/);
    const text = JSON.stringify(daemonSet({ metricsPort: 9842 }));
    expect(text).toContain('"ports":[{"name":"metrics","containerPort":9842}]');
    expect(text).toContain('{"name":"IPVS_BPF_METRICS_PORT","value":"9842"}');
    expect(text).toContain(
      '"name":"IPVS_BPF_METRICS_ADDRESS","valueFrom":{"fieldRef":{"fieldPath":"status.hostIP"}}',
    );
  });

  it('exchanges a tenth of the pods at a time, or as it is told', () => {
    const strategy = { rollingUpdate: { maxUnavailable: '10%' } };
    expect(daemonSet()?.spec).toMatchObject({ updateStrategy: strategy });
    const updateStrategy = { type: 'OnDelete' };
    expect(daemonSet({ updateStrategy })?.spec).toMatchObject({ updateStrategy });
  });

  it('shows by its annotation also what is no longer wanted', () => {
    const with_ = daemonSet({ apiServer: 'https://10.0.0.1:6443' });
    expect(differences(daemonSet(), with_)).toContain('metadata.annotations.ipvs-bpf.io/desired');
  });
});

describe('differences', () => {
  it('leaves defaults of the API server and resources alone', () => {
    const found = { a: 1, defaulted: true, list: [{ b: 2, defaulted: 3 }], resources: { cpu: '1' } };
    expect(differences({ a: 1, list: [{ b: 2 }], resources: { cpu: '1000m' } }, found)).toEqual([]);
  });

  it('names what is another, is missing, or is too much in a list', () => {
    const found = { a: 2, list: [{ b: 3 }], long: [1, 2] };
    expect(differences({ a: 1, list: [{ b: 2 }], long: [1], gone: {} }, found)).toEqual([
      'a',
      'list[0].b',
      'long',
      'gone',
    ]);
  });
});
