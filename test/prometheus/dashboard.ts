// SPDX-License-Identifier: Apache-2.0
/** What Grafana shows of a dashboard: each query of each panel with its variables filled in, asked of a Prometheus. */
import type { Prometheus, Range, ResultSeries } from './server.ts';

export interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: DataSource;
  /** Only the last moment: of tables. */
  readonly instant?: boolean;
}

interface DataSource {
  readonly type: string;
  readonly uid: string;
}

export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly datasource?: DataSource;
  readonly targets?: readonly Target[];
  /** Of a row that is collapsed. */
  readonly panels?: readonly Panel[];
}

export interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
  readonly allValue?: string;
}

export interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
}

export interface Rendered {
  /** "Title A": which query. */
  readonly name: string;
  readonly panel: Panel;
  readonly target: Target;
  /** What is chosen: "all", or "node=n1". */
  readonly chosen: string;
  readonly series: readonly ResultSeries[];
}

/** By variable, the value that goes into a query. */
type Values = Readonly<Record<string, string>>;

interface Choice {
  readonly chosen: string;
  readonly values: Values;
  readonly label?: readonly [name: string, value: string];
}

export interface View extends Range {
  /** Seconds between two scrapes, which Grafana's data source is told. */
  readonly scrapeInterval: number;
}

export function panelsOf(dashboard: Pick<Dashboard, 'panels'>): readonly Panel[] {
  return dashboard.panels.flatMap((panel) =>
    panel.type === 'row' ? panelsOf({ panels: panel.panels ?? [] }) : [panel],
  );
}

/**
 * Every query of every panel: with all values of the variables, then with each value of each of them alone.
 * @throws Error if a query has a variable that there is not, or Prometheus refuses it
 */
export async function renderDashboard(
  dashboard: Dashboard,
  prometheus: Prometheus,
  view: View,
): Promise<readonly Rendered[]> {
  const rendered: Rendered[] = [];
  for (const choice of await choicesOf(dashboard, prometheus)) {
    for (const panel of panelsOf(dashboard)) {
      for (const target of panel.targets ?? []) {
        if (choice.label !== undefined && !target.expr.includes(`$${choice.label[0]}`)) continue;
        const name = `${panel.title} ${target.refId}`;
        const expression = filledIn(target.expr, { ...builtIn(view), ...choice.values }, name);
        const series = target.instant
          ? await prometheus.query(expression, view.end)
          : await prometheus.queryRange(expression, view);
        const shown = series.filter(({ values }) => values.length > 0);
        rendered.push({ name, panel, target, chosen: choice.chosen, series: shown });
      }
    }
  }
  return rendered;
}

/** What is wrong with what a query shows; nothing is if it shows nothing. */
export function problemsOf({ name, target, chosen, series }: Rendered): readonly string[] {
  const problems: string[] = [];
  const used = [...target.legendFormat.matchAll(/\{\{\s*(\w+)\s*\}\}/g)].map(([, label]) => label ?? '');
  const legends = series.map(({ labels }) => {
    for (const label of used) if (!labels[label]) problems.push(`a series has no ${label}`);
    // Without a legend a table has a column for each label.
    return used.length === 0 && target.instant
      ? JSON.stringify(labels)
      : target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => labels[label] ?? '');
  });
  for (const legend of new Set(legends)) {
    if (legends.filter((each) => each === legend).length > 1) problems.push(`two series are "${legend}"`);
  }
  const [label = '', value] = chosen.split('=');
  const others = series.filter(({ labels }) => labels[label] !== undefined && labels[label] !== value);
  if (value !== undefined && others.length > 0) problems.push(`shows others than ${chosen}`);
  return [...new Set(problems)].map((problem) => `${name}, ${chosen}: ${problem}`);
}

async function choicesOf(dashboard: Dashboard, prometheus: Prometheus): Promise<readonly Choice[]> {
  const variables = dashboard.templating.list.filter(({ type }) => type === 'query');
  const listed = new Map<Variable, readonly string[]>();
  for (const variable of variables) listed.set(variable, await optionsOf(variable, prometheus));
  const all: Record<string, string> = {};
  for (const [{ name, allValue }, options] of listed) {
    all[name] = allValue ?? `(${options.map(quoted).join('|')})`;
  }
  const single = [...listed].flatMap(([{ name }, options]) =>
    options.map((option) => ({
      chosen: `${name}=${option}`,
      values: { ...all, [name]: quoted(option) },
      label: [name, option] as const,
    })),
  );
  return [{ chosen: 'all', values: all }, ...single];
}

/** @throws Error if there is nothing to choose from */
async function optionsOf({ name, query }: Variable, prometheus: Prometheus): Promise<readonly string[]> {
  const text = typeof query === 'string' ? query : query.query;
  const [, selector, label] = /^label_values\((.+), *(\w+)\)$/.exec(text) ?? [];
  if (selector === undefined || label === undefined) throw new Error(`variable ${name}: what is ${text}?`);
  const options = await prometheus.labelValues(label, selector);
  if (options.length === 0) throw new Error(`variable ${name} has no values: ${text}`);
  return options;
}

/** The names that Grafana itself fills in, as it does for a data source of Prometheus. */
function builtIn({ start, end, step, scrapeInterval }: View): Values {
  const rate = Math.max(step + scrapeInterval, 4 * scrapeInterval);
  return { __interval: `${step}s`, __rate_interval: `${rate}s`, __range: `${Math.round(end - start)}s` };
}

function filledIn(expression: string, values: Values, where: string): string {
  return expression.replace(/\$(?:(\w+)|\{(\w+)\})/g, (_, bare?: string, braced?: string) => {
    const value = values[bare ?? braced ?? ''];
    if (value === undefined) throw new Error(`${where}: there is no variable ${bare ?? braced}`);
    return value;
  });
}

/** A value in a regular expression, in a string of PromQL. */
function quoted(value: string): string {
  return value.replace(/[$()*+.?[\\\]^{|}]/g, '\\\\$&');
}
