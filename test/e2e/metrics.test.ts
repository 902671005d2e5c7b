// SPDX-License-Identifier: Apache-2.0
/**
 * The chart's monitors, rules and dashboard, as they are in the cluster, in a real Prometheus that scrapes operator and
 * agents. What it would show of a cluster with something wrong is in test/chart/dashboard.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prometheusBinary } from '../cluster/debian.ts';
import { chart, release } from '../cluster/deploy.ts';
import type { Dashboard } from '../prometheus/dashboard.ts';
import { MONITORING } from '../prometheus/definitions.ts';
import { discoveryOf, type Pod, type Service } from '../prometheus/discovery.ts';
import { type Discovery, type Monitor, scrapeConfigs } from '../prometheus/monitors.ts';
import { expectNoAlert, expectRenders, missing } from '../prometheus/quiet.ts';
import { Prometheus } from '../prometheus/server.ts';
import { SERIES } from '../unit/chart/metric-names.ts';
import {
  applyPolicy,
  PATIENCE_MS,
  RELEASE_NAMESPACE,
  session,
  sleep,
  untilAllRun,
  untilCondition,
} from './fixture.ts';
import { NODES } from './settings.ts';
import { underTraffic } from './traffic.ts';

const SCRAPE_SECONDS = 5;
const REJECTED = 'missing';
const MONITORED = ['serviceMonitor', 'podMonitor', 'prometheusRule', 'dashboard'].flatMap((part) => [
  '--set',
  `metrics.${part}.enabled=true`,
]);
/** Metrics that have no series before something goes wrong. */
const OF_TROUBLE = [
  'ipvsbpf_agent_failures_total',
  'ipvsbpf_agent_rollbacks_total',
  'ipvsbpf_policy_problem_nodes',
  'ipvsbpf_policy_waiting_nodes',
];

interface RuleGroup {
  readonly rules: readonly { readonly alert: string }[];
}

/** Pods and Services of the release, as the API server has them now. */
async function discovered(): Promise<Discovery> {
  const where = ['-n', RELEASE_NAMESPACE] as const;
  return discoveryOf(
    await session.list<Pod>('pods', ...where),
    await session.list<Service>('services', ...where),
  );
}

describe('monitors, rules and dashboard of the chart', () => {
  let prometheus: Prometheus | undefined;
  let groups: readonly RuleGroup[];
  let dashboard: Dashboard;
  let started: number;

  beforeAll(async () => {
    await applyPolicy(['web']);
    await untilCondition('Ready', 'True AllNodesReady');
    await untilAllRun();
    await session.apply(...MONITORING);
    const kinds = MONITORING.map(({ metadata }) => metadata.name);
    await session.until('kinds of the Prometheus operator', PATIENCE_MS, () =>
      session.kubectl(['get', kinds.join(), '-A']),
    );
    await session.helm(['upgrade', release, chart, '--reuse-values', ...MONITORED]);
    const where = ['-n', RELEASE_NAMESPACE] as const;
    const rules = await session.list<Monitor>('prometheusrules', ...where);
    groups = rules.flatMap(({ spec }) => (spec as { readonly groups: readonly RuleGroup[] }).groups);
    const found = await session.get<{ readonly data: Readonly<Record<string, string>> }>(
      'configmap',
      'ipvs-bpf-dashboard',
      RELEASE_NAMESPACE,
    );
    dashboard = JSON.parse(found?.data['ipvs-bpf.json'] ?? '') as Dashboard;
    prometheus = await Prometheus.start({
      program: await prometheusBinary(),
      intervalSeconds: SCRAPE_SECONDS,
      scrapeConfigs: scrapeConfigs(
        await session.list<Monitor>('servicemonitors,podmonitors', ...where),
        await discovered(),
      ),
      groups,
      netns: session.layout.netns,
      // What is left of it goes with the cluster.
      parent: session.layout.stateDir,
    });
    started = Date.now() / 1000;
  });

  afterAll(async () => {
    await prometheus?.stop();
    await session.helm(['upgrade', release, chart, '--reuse-values', ...MONITORED.map(off)]);
    await session.kubectl([
      ...['delete', 'customresourcedefinitions', '--ignore-not-found'],
      ...MONITORING.map(({ metadata }) => metadata.name),
    ]);
  });

  function running(): Prometheus {
    if (prometheus === undefined) throw new Error('Prometheus does not run');
    return prometheus;
  }

  it('find the operator and each agent, with the labels that alerts and dashboard use', async () => {
    const targets = await session.until('the targets of Prometheus', PATIENCE_MS, async () => {
      const all = await running().targets();
      const up = all.filter(({ health }) => health === 'up');
      if (up.length < 1 + NODES.length) throw new Error(JSON.stringify(all));
      return up;
    });
    const labels = targets.map(({ labels: { namespace, container, node } }) => ({
      namespace,
      container,
      node,
    }));
    const namespace = RELEASE_NAMESPACE;
    expect(labels).toHaveLength(1 + NODES.length);
    expect(labels).toEqual(
      expect.arrayContaining([
        { namespace, container: 'operator', node: undefined },
        ...NODES.map((node) => ({ namespace, container: 'agent', node })),
      ]),
    );
    for (const { labels: all } of targets) expect(all.pod).toMatch(/^ipvs-bpf-(operator|agent)-/);
  });

  it('show everything, and alert nobody, of a cluster that is well', async () => {
    await underTraffic(session, NODES, async () => {
      for (const include of [['web', 'other', REJECTED], ['web']]) {
        await applyPolicy(include);
        await untilCondition('Ready', 'True AllNodesReady');
        // The operator says it with its next look, and Prometheus asks now and then.
        await sleep(3 * SCRAPE_SECONDS * 1000);
      }
    });
    const view = { start: started, end: Date.now() / 1000, step: SCRAPE_SECONDS };
    const rendered = await expectRenders(dashboard, running(), { ...view, scrapeInterval: SCRAPE_SECONDS });
    expect(missing(rendered)).toEqual([]);
    const rejected = rendered.find(({ name, chosen }) => name === 'Services B' && chosen === 'all');
    expect(rejected?.series.map(({ labels }) => labels.reason)).toEqual(['NotFound']);
    const alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
    // Until the operator has looked once more.
    await session.until('no alert', 30_000, () => expectNoAlert(running(), alerts).then(() => true));
  });

  it('have every metric that docs/metrics.md has', async () => {
    const names = await running().labelValues('__name__', '{__name__=~"ipvsbpf_.+"}');
    const absent = [...SERIES.keys()].filter((name) => !names.includes(name));
    expect(absent.filter((name) => !OF_TROUBLE.includes(name))).toEqual([]);
    expect(names.filter((name) => !SERIES.has(name))).toEqual([]);
  });
});

function off(word: string): string {
  return word.replace('=true', '=false');
}
