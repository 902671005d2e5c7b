// SPDX-License-Identifier: Apache-2.0
/**
 * The chart's monitors, rules and dashboard in a real Prometheus, which scrapes what operator and agents serve. On a
 * cluster the same is done by test/e2e/metrics.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { agentManifests } from '../../src/core/manifests.ts';
import { readOperatorConfig } from '../../src/operator/config.ts';
import { waitFor } from '../cluster/wait.ts';
import { type Dashboard, panelsOf, problemsOf, renderDashboard, type View } from '../prometheus/dashboard.ts';
import { discoveryOf, type Service } from '../prometheus/discovery.ts';
import { scrapeConfigs } from '../prometheus/monitors.ts';
import { EMPTY_WHEN_NOTHING_IS_WRONG, expectNoAlert, expectRenders, missing } from '../prometheus/quiet.ts';
import { Prometheus } from '../prometheus/server.ts';
import { SERIES } from '../unit/chart/metric-names.ts';
import { EVERYTHING, HELMS, program, type Rendered, render } from './helm.ts';
import { NODES, Scene } from './scene.ts';

const SCRAPE_SECONDS = 1;
/** Enough for a rate. */
const SCRAPES = 6;

interface Template {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly containers: readonly {
      readonly name: string;
      readonly env?: readonly { readonly name: string; readonly value?: string }[];
      readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
    }[];
  };
}

interface RuleGroup {
  readonly rules: readonly { readonly alert: string }[];
}

function one(objects: readonly Rendered[], kind: string, name?: string): Rendered {
  const found = objects.filter(
    ({ kind: is, metadata }) => is === kind && (name === undefined || metadata.name === name),
  );
  if (found.length !== 1 || found[0] === undefined) throw new Error(`${found.length} times ${kind}`);
  return found[0];
}

const templateOf = ({ spec }: Rendered) => (spec as { readonly template: Template }).template;

/** The operator's pod, and an agent's pod on each node, with the Service of the operator's metrics. */
function discovered(objects: readonly Rendered[], scene: Scene) {
  const deployment = templateOf(one(objects, 'Deployment'));
  const env = deployment.spec.containers[0]?.env ?? [];
  const { agent, namespace } = readOperatorConfig(
    Object.fromEntries(env.map(({ name, value = 'ipvs-bpf-system' }) => [name, value])),
  );
  if (agent === undefined) throw new Error('no agents');
  const daemonSet = templateOf(agentManifests(agent).at(-1)?.object as unknown as Rendered);
  const pod = (
    template: Template,
    name: string,
    place: { readonly node: string; readonly port: number },
  ) => ({
    metadata: { name, namespace, labels: template.metadata.labels },
    spec: {
      nodeName: place.node,
      containers: template.spec.containers.map(({ name, ports = [] }) => ({
        name,
        // All are on this machine, where another process may have the port that the chart names.
        ports: ports.map((each) => ({ ...each, containerPort: place.port })),
      })),
    },
    status: { phase: 'Running', podIP: '127.0.0.1' },
  });
  const agents = NODES.map((node, index) =>
    pod(daemonSet, `ipvs-bpf-agent-${index}`, { node, port: scene.agentPort(index) }),
  );
  const operator = pod(deployment, 'ipvs-bpf-operator-0', { node: NODES[0], port: scene.operatorPort });
  const service = one(objects, 'Service', 'ipvs-bpf-operator-metrics') as Rendered & Service;
  return discoveryOf([operator, ...agents], [service]);
}

describe('monitors, rules and dashboard of the chart', () => {
  const scene = new Scene();
  let prometheus: Prometheus | undefined;
  let dashboard: Dashboard;
  let alerts: readonly string[];
  let started: number;

  beforeAll(async () => {
    const [[, helm]] = HELMS;
    const objects = await render(helm, '--values', EVERYTHING);
    const { groups } = one(objects, 'PrometheusRule').spec as { readonly groups: readonly RuleGroup[] };
    alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
    const json = one(objects, 'ConfigMap', 'ipvs-bpf-dashboard').data?.['ipvs-bpf.json'];
    dashboard = JSON.parse(json ?? '') as Dashboard;
    await scene.start();
    const monitors = [one(objects, 'ServiceMonitor'), one(objects, 'PodMonitor')];
    prometheus = await Prometheus.start({
      program: program('IPVS_BPF_TEST_PROMETHEUS', 'prometheus'),
      intervalSeconds: SCRAPE_SECONDS,
      scrapeConfigs: scrapeConfigs(monitors, discovered(objects, scene)),
      groups,
    });
    started = Date.now() / 1000;
  });

  afterAll(async () => {
    await prometheus?.stop();
    await scene.stop();
  });

  function running(): Prometheus {
    if (prometheus === undefined) throw new Error('Prometheus does not run');
    return prometheus;
  }

  const view = (): View => ({
    start: started,
    end: Date.now() / 1000,
    step: SCRAPE_SECONDS,
    scrapeInterval: SCRAPE_SECONDS,
  });

  /** Until Prometheus has seen what is so now a few times. */
  async function pass(scrapes: number): Promise<void> {
    for (let i = 0; i < 2 * scrapes; i += 1) {
      await new Promise((done) => setTimeout(done, (SCRAPE_SECONDS * 1000) / 2));
      await scene.tick();
    }
  }

  it('find the operator and each agent, with the labels that alerts and dashboard use', async () => {
    // It begins some seconds after it is ready.
    await waitFor('the first scrape', 60_000, async () => {
      await pass(1);
      const all = await running().targets();
      return all.length > 0 && all.every(({ health }) => health !== 'unknown');
    });
    await pass(SCRAPES);
    const targets = await running().targets();
    expect(targets.filter(({ health }) => health !== 'up')).toEqual([]);
    const namespace = 'ipvs-bpf-system';
    expect(targets.map(({ labels: { instance, job, ...labels } }) => labels)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ namespace, pod: 'ipvs-bpf-operator-0', container: 'operator' }),
        ...NODES.map((node, index) =>
          expect.objectContaining({ namespace, pod: `ipvs-bpf-agent-${index}`, container: 'agent', node }),
        ),
      ]),
    );
    expect(targets).toHaveLength(1 + NODES.length);
  });

  it('show everything and alert nobody while nothing is wrong', async () => {
    const rendered = await expectRenders(dashboard, running(), view());
    expect(missing(rendered)).toEqual([]);
    const empty = rendered.filter(({ series, chosen }) => series.length === 0 && chosen === 'all');
    expect(empty.map(({ name }) => name)).toEqual(EMPTY_WHEN_NOTHING_IS_WRONG);
    await expectNoAlert(running(), alerts);
  });

  it('show as well what is wrong, and begin to alert', async () => {
    await scene.fail();
    await pass(SCRAPES / 2);
    const rendered = await expectRenders(dashboard, running(), view());
    const shown = rendered.filter(({ chosen, series }) => chosen === 'all' && series.length > 0);
    const queries = panelsOf(dashboard).flatMap(({ title, targets = [] }) =>
      targets.map(({ refId }) => `${title} ${refId}`),
    );
    expect(shown.map(({ name }) => name)).toEqual(queries);
    const names = await running().labelValues('__name__', '{__name__=~"ipvsbpf_.+"}');
    expect(names).toEqual([...SERIES.keys()].sort());
    const rules = await running().rules();
    const pending = rules.filter(({ state }) => state === 'pending').map(({ name }) => name);
    expect(pending.sort()).toEqual(['IpvsBpfNodeFailed', 'IpvsBpfProbeFailing', 'IpvsBpfRolloutHalted']);
  });

  it('would be found out if a panel asked for what there is not', async () => {
    const [first, ...rest] = panelsOf(dashboard);
    if (first === undefined) throw new Error('no panels');
    const asking = (expr: string, legendFormat: string): Dashboard => ({
      ...dashboard,
      panels: [{ ...first, targets: first.targets?.map((each) => ({ ...each, expr, legendFormat })) ?? [] }],
    });
    const render = async (expr: string, legend = '') =>
      renderDashboard(asking(expr, legend), running(), view());
    expect(missing(await render('ipvsbpf_nothing'))).toEqual([`${first.title} A, all`]);
    expect(missing(await render('0 * ipvsbpf_leader / 0'))).toEqual([`${first.title} A, all`]);
    const nodes = await render('ipvsbpf_agent_switch_on', '{{policy}}');
    expect(nodes.flatMap(problemsOf)).toEqual([
      `${first.title} A, all: a series has no policy`,
      `${first.title} A, all: two series are ""`,
    ]);
    await expect(render('ipvsbpf_leader{pod="$pod"}')).rejects.toThrow('there is no variable pod');
    await expect(render('sum(ipvsbpf_leader')).rejects.toThrow(/Prometheus refuses query_range/);
    expect(rest.length).toBeGreaterThan(0);
  });
});
