// SPDX-License-Identifier: Apache-2.0
/** What a cluster in which nothing is wrong shows: every query something, but for these; and no alert. */
import { expect } from 'vitest';
import { type Dashboard, problemsOf, type Rendered, renderDashboard, type View } from './dashboard.ts';
import type { Prometheus } from './server.ts';

/** By panel and query. test/chart/dashboard.test.ts shows each of them with something wrong. */
export const EMPTY_WHEN_NOTHING_IS_WRONG: readonly string[] = [
  'Why nodes have a problem or wait A',
  'Why nodes have a problem or wait B',
  'Services B',
  'Failures and rollbacks since the agents started A',
  'Failures and rollbacks since the agents started B',
];

/** Renders everything; fails if something that is shown is not as it should be. */
export async function expectRenders(
  dashboard: Dashboard,
  prometheus: Prometheus,
  view: View,
): Promise<readonly Rendered[]> {
  const rendered = await renderDashboard(dashboard, prometheus, view);
  expect(rendered.flatMap(problemsOf)).toEqual([]);
  return rendered;
}

/** "Title A, all": queries that show nothing, and should. */
export function missing(rendered: readonly Rendered[]): readonly string[] {
  return rendered
    .filter(({ name, series }) => series.length === 0 && !EMPTY_WHEN_NOTHING_IS_WRONG.includes(name))
    .map(({ name, chosen }) => `${name}, ${chosen}`);
}

/** Fails unless every rule was evaluated without an error, and none is about to fire. */
export async function expectNoAlert(prometheus: Prometheus, alerts: readonly string[]): Promise<void> {
  const rules = await prometheus.rules();
  expect(rules.map(({ name }) => name).sort()).toEqual([...alerts].sort());
  const wrong = rules.filter(
    ({ health, state, lastEvaluation }) =>
      health !== 'ok' || state !== 'inactive' || lastEvaluation.startsWith('0001'),
  );
  expect(wrong).toEqual([]);
}
