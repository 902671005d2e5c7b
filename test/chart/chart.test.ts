// SPDX-License-Identifier: Apache-2.0
/** What real helm makes of the chart, and what it refuses. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { agentManifests } from '../../src/core/manifests.ts';
import { readOperatorConfig } from '../../src/operator/config.ts';
import { CHART, EVERYTHING, HELMS, lint, nameOf, type Rendered, refusal, render } from './helm.ts';

interface Container {
  readonly image: string;
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly { readonly name: string }[];
  readonly securityContext: Readonly<Record<string, unknown>>;
}
interface PodTemplate {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly containers: readonly [Container];
    readonly securityContext: Readonly<Record<string, unknown>>;
  };
}

const ALL = ['--values', EVERYTHING];
const apiGroups = ['ipvs-bpf.io'];
const LIST = { apiGroups, resources: ['ipvsbpfpolicies', 'ipvsbpfnodes'], verbs: ['list'] };
const DELETE = { apiGroups, resources: ['ipvsbpfpolicies'], verbs: ['delete'] };

function find(objects: readonly Rendered[], name: string): Rendered {
  const found = objects.find((object) => nameOf(object) === name);
  if (found === undefined) throw new Error(`no ${name} in ${objects.map(nameOf).join(', ')}`);
  return found;
}

const podOf = (object: Rendered): PodTemplate => (object.spec as { readonly template: PodTemplate }).template;

/** What the program in the Deployment is told. */
function configOf(objects: readonly Rendered[]) {
  const { env = [] } = podOf(find(objects, 'Deployment ipvs-bpf-operator')).spec.containers[0];
  return readOperatorConfig(Object.fromEntries(env.map(({ name, value = 'from-the-pod' }) => [name, value])));
}

/** Sorted, without what comes from files of this repository as it is. */
function snapshotOf(objects: readonly Rendered[]): string {
  const shown = objects
    .filter(({ kind }) => kind !== 'CustomResourceDefinition')
    .map((object): Rendered => {
      if (object.kind === 'PrometheusRule') return { ...object, spec: 'alerts.yaml' };
      if (object.metadata.name !== 'ipvs-bpf-dashboard') return object;
      return { ...object, data: { 'ipvs-bpf.json': 'dashboard.json' } };
    });
  const text = shown
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
    .map((object) => stringify(object, { sortMapEntries: true, lineWidth: 0 }));
  return `# Written by "vitest --update"; compared with what helm 3 and helm 4 render.\n${text.join('---\n')}`;
}

describe.each(HELMS)('the chart with %s', (_, helm) => {
  it.each([
    ['defaults', []],
    ['everything', ALL],
  ])('is linted without a warning: %s', async (__, args) => {
    expect(await lint(helm, ...args)).toContain('1 chart(s) linted, 0 chart(s) failed');
  });

  it('renders the defaults as before', async () => {
    const text = snapshotOf(await render(helm));
    await expect(text).toMatchFileSnapshot('snapshots/defaults.yaml');
  });

  it('renders with every option on what differs from the defaults as before', async () => {
    const before = new Set((await render(helm)).map((object) => JSON.stringify(object)));
    const differing = (await render(helm, ...ALL)).filter((object) => !before.has(JSON.stringify(object)));
    await expect(snapshotOf(differing)).toMatchFileSnapshot('snapshots/everything.yaml');
  });

  it('gives every object of a namespace the namespace of the release, and all the same labels', async () => {
    const objects = (await render(helm, ...ALL)).filter(({ kind }) => kind !== 'CustomResourceDefinition');
    const namespaces = new Set(objects.map(({ metadata }) => metadata.namespace));
    expect([...namespaces].sort()).toEqual(['ipvs-bpf-system', undefined]);
    const unlabelled = objects.filter(
      ({ metadata }) => metadata.labels?.['app.kubernetes.io/instance'] !== 'ipvs-bpf',
    );
    expect(unlabelled.map(nameOf).sort()).toEqual([
      'ConfigMap extra-text',
      'ConfigMap ipvs-bpf-extra',
      'Namespace ipvs-bpf-system',
    ]);
  });

  it('installs the definitions, and keeps them unless told otherwise', async () => {
    const definitions = async (...args: readonly string[]) =>
      (await render(helm, ...args)).filter(({ kind }) => kind === 'CustomResourceDefinition');
    const policyOf = ({ metadata }: Rendered) => metadata.annotations?.['helm.sh/resource-policy'];
    expect((await definitions()).map(policyOf)).toEqual(['keep', 'keep', 'keep']);
    const loose = await definitions('--set', 'crds.keep=false');
    expect(loose.map(policyOf)).toEqual([undefined, undefined, undefined]);
    expect(await definitions('--set', 'crds.enabled=false')).toEqual([]);
  });

  it('tells the operator what it understands', async () => {
    expect(configOf(await render(helm)).agent).toMatchObject({
      image: 'ipvs-bpf:0.1.0',
      moduleHostPath: '/var/lib/ipvs-bpf/modules',
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
    });
    expect(configOf(await render(helm)).agent).not.toHaveProperty('metricsPort');
    const { agent } = configOf(await render(helm, ...ALL));
    expect(agent).toMatchObject({
      apiServer: 'https://10.0.0.1:6443',
      imagePullSecrets: ['registry'],
      metricsPort: 9842,
      updateStrategy: { type: 'OnDelete' },
    });
    expect(agent?.image).toMatch(/^registry\.example\.org:5000\/team\/ipvs-bpf@sha256:0123/);
  });

  it('lets monitors find what they scrape', async () => {
    const objects = await render(helm, ...ALL);
    const deployment = podOf(find(objects, 'Deployment ipvs-bpf-operator'));
    const service = find(objects, 'Service ipvs-bpf-operator-metrics');
    const { selector, ports } = service.spec as {
      readonly selector: object;
      readonly ports: readonly { readonly name: string; readonly targetPort: string }[];
    };
    expect(deployment.metadata.labels).toMatchObject(selector);
    const { endpoints, selector: services } = find(objects, 'ServiceMonitor ipvs-bpf-operator').spec as {
      readonly endpoints: readonly { readonly port: string }[];
      readonly selector: { readonly matchLabels: object };
    };
    expect(service.metadata.labels).toMatchObject(services.matchLabels);
    expect(endpoints.map(({ port }) => port)).toEqual(ports.map(({ name }) => name));
    const named = deployment.spec.containers[0].ports?.map(({ name }) => name);
    expect(named).toEqual(ports.map(({ targetPort }) => targetPort));
    const { podMetricsEndpoints, selector: pods } = find(objects, 'PodMonitor ipvs-bpf-agent').spec as {
      readonly podMetricsEndpoints: readonly { readonly port: string }[];
      readonly selector: { readonly matchLabels: object };
    };
    const { agent } = configOf(objects);
    if (agent === undefined) throw new Error('no agents');
    const daemonSet = agentManifests(agent).at(-1)?.object as unknown as Rendered;
    const agents = podOf(daemonSet);
    expect(agents.metadata.labels).toMatchObject(pods.matchLabels);
    const agentPorts = agents.spec.containers[0].ports?.map(({ name }) => name);
    expect(podMetricsEndpoints.map(({ port }) => port)).toEqual(agentPorts);
  });

  it('brings the alerts and the dashboard as they are in files/', async () => {
    const objects = await render(helm, ...ALL);
    const { groups } = find(objects, 'PrometheusRule ipvs-bpf').spec as {
      readonly groups: readonly { readonly rules: readonly { readonly annotations: object }[] }[];
    };
    expect(groups.map(({ rules }) => rules.length)).toEqual([11, 5]);
    expect(JSON.stringify(groups)).toContain('policy {{ $labels.policy }} is halted');
    const dashboard = find(objects, 'ConfigMap ipvs-bpf-dashboard').data?.['ipvs-bpf.json'] ?? '';
    expect(JSON.parse(dashboard)).toEqual(
      JSON.parse(await readFile(`${CHART}/files/dashboard.json`, 'utf8')),
    );
  });

  it('runs operator and hook as Pod Security calls restricted', async () => {
    const objects = await render(helm, ...ALL);
    for (const name of ['Deployment ipvs-bpf-operator', 'Job ipvs-bpf-uninstall']) {
      const { spec } = podOf(find(objects, name));
      expect(spec.securityContext, name).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(spec.containers[0].securityContext, name).toMatchObject({
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      });
    }
  });

  it('has an uninstall hook that refuses, reverts, or is not there', async () => {
    const hooks = async (...args: readonly string[]) =>
      (await render(helm, ...args)).filter(
        ({ metadata }) => metadata.annotations?.['helm.sh/hook'] === 'pre-delete',
      );
    const guard = await hooks();
    expect(guard.map(({ kind }) => kind).sort()).toEqual([
      'ClusterRole',
      'ClusterRoleBinding',
      'Job',
      'ServiceAccount',
    ]);
    expect(podOf(find(guard, 'Job ipvs-bpf-uninstall')).spec.containers[0].args).toEqual(['uninstall-check']);
    expect(find(guard, 'ClusterRole ipvs-bpf-uninstall').rules).toEqual([LIST]);
    const revert = await hooks('--set', 'uninstall.hook=Revert', '--set', 'uninstall.timeoutSeconds=900');
    expect(podOf(find(revert, 'Job ipvs-bpf-uninstall')).spec.containers[0].args).toEqual([
      'uninstall-check',
      '--revert',
      '--timeout=900',
    ]);
    expect(find(revert, 'ClusterRole ipvs-bpf-uninstall').rules).toEqual([LIST, DELETE]);
    expect(await hooks('--set', 'uninstall.hook=None')).toEqual([]);
  });

  it.each([
    ['replica=1', 'replica'],
    ['operator.replica=1', 'replica'],
    ['operator.leaderElection.leaseSecond=9', 'leaseSecond'],
    ['agent.metrics.address=0.0.0.0', 'address'],
    ['metrics.podMonitor.intervals=1m', 'intervals'],
    ['operator.replicas=two', 'replicas'],
    ['operator.replicas=11', 'replicas'],
    ['operator.podDisruptionBudget.maxUnavailable=half', 'maxUnavailable'],
    ['image.registry=https://registry.example.org', 'registry'],
    ['agent.metrics.port=70000', 'port'],
    ['agent.updateStrategy.type=Recreate', 'type'],
    ['metrics.serviceMonitor.interval=30', 'interval'],
    ['uninstall.hook=guard', 'hook'],
    ['networkPolicy.apiServerPorts=443', 'apiServerPorts'],
  ])('refuses %s and names what is wrong', async (value, named) => {
    const message = await refusal(helm, '--set', value);
    expect(message).toMatch(/values don't meet the specifications of the schema/);
    expect(message).toContain(named);
  });

  it('refuses to monitor agents that answer nobody, and says which value is missing', async () => {
    expect(await refusal(helm, '--set', 'metrics.podMonitor.enabled=true')).toContain(
      'metrics.podMonitor.enabled needs agent.metrics.enabled',
    );
  });

  it('takes the values that its README shows', async () => {
    const page = await readFile(`${CHART}/README.md`, 'utf8');
    const examples = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text);
    expect(examples).toHaveLength(1);
    const directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-chart-'));
    try {
      const file = join(directory, 'values.yaml');
      await writeFile(file, examples[0] ?? '');
      const kinds = (await render(helm, '--values', file)).map(({ kind }) => kind);
      expect(kinds).toEqual(expect.arrayContaining(['ServiceMonitor', 'PodMonitor', 'PrometheusRule']));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('refuses a Kubernetes that is too old', async () => {
    expect(await refusal(helm, '--kube-version', '1.29.9')).toContain('kubeVersion: >=1.30.0-0');
  });
});
