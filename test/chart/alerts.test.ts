// SPDX-License-Identifier: Apache-2.0
/** The alerts that the chart renders, in Prometheus' own hands: when each fires, what it says, and when it does not. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { run } from '../../scripts/exec.ts';
import { ALERT_CASES, type AlertCase } from './alert-cases.ts';
import { EVERYTHING, HELMS, program, render } from './helm.ts';

const promtool = join(dirname(program('IPVS_BPF_TEST_PROMETHEUS', 'prometheus')), 'promtool');
const INTERVAL = '30s';

interface Rule {
  readonly alert: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

describe('the alerts of the chart', () => {
  let directory = '';
  let rules: readonly Rule[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'ipvs-bpf-alerts-'));
    const [[, helm]] = HELMS;
    const objects = await render(helm, '--values', EVERYTHING);
    const rendered = objects.find(({ kind }) => kind === 'PrometheusRule');
    if (rendered === undefined) throw new Error('no PrometheusRule is rendered');
    const { groups } = rendered.spec as {
      readonly groups: readonly { readonly rules: readonly Rule[] }[];
    };
    rules = groups.flatMap((group) => group.rules);
    await writeFile(join(directory, 'rules.yaml'), stringify({ groups }));
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  /** As promtool wants it; it compares labels and annotations word for word. */
  function testOf(alert: string, { name, series, moments }: AlertCase): object {
    const rule = rules.find((each) => each.alert === alert);
    if (rule === undefined) throw new Error(`the chart has no alert ${alert}`);
    return {
      name,
      interval: INTERVAL,
      input_series: Object.entries(series).map(([metric, values]) => ({ series: metric, values })),
      alert_rule_test: moments.map(({ at, fires = [] }) => ({
        eval_time: at,
        alertname: alert,
        exp_alerts: fires.map(({ labels, summary }) => ({
          exp_labels: { ...labels, ...rule.labels },
          exp_annotations: { ...rule.annotations, summary },
        })),
      })),
    };
  }

  async function testRules(name: string, tests: readonly object[]): Promise<string> {
    const file = join(directory, `${name}.yaml`);
    await writeFile(
      file,
      stringify({ rule_files: ['rules.yaml'], evaluation_interval: INTERVAL, tests }, { lineWidth: 0 }),
    );
    return run(promtool, ['test', 'rules', file]);
  }

  it('are what promtool takes for right', async () => {
    const said = await run(promtool, ['check', 'rules', join(directory, 'rules.yaml')]);
    expect(said).toContain(`SUCCESS: ${rules.length} rules found`);
  });

  it('have each a moment at which it fires, and one at which it does not', () => {
    expect(Object.keys(ALERT_CASES).sort()).toEqual(rules.map(({ alert }) => alert).sort());
    for (const [alert, cases] of Object.entries(ALERT_CASES)) {
      const firing = cases.flatMap(({ moments }) => moments.map(({ fires = [] }) => fires.length > 0));
      expect([...new Set(firing)].sort(), alert).toEqual([false, true]);
    }
  });

  it.each(Object.entries(ALERT_CASES))('%s', async (alert, cases) => {
    const tests = cases.map((each) => testOf(alert, each));
    expect(await testRules(alert, tests)).toContain('SUCCESS');
  });

  it('would not pass with another word', async () => {
    const alert = 'IpvsBpfRolloutHalted';
    const [first] = ALERT_CASES[alert] ?? [];
    if (first === undefined) throw new Error(`no case of ${alert}`);
    const moments = first.moments.map(({ at, fires = [] }) => ({
      at,
      fires: fires.map((firing) => ({ ...firing, summary: `${firing.summary} Or not.` })),
    }));
    const wrong = [testOf(alert, { ...first, moments })];
    await expect(testRules('wrong', wrong)).rejects.toThrow('Or not.');
  });
});
