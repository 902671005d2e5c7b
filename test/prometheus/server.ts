// SPDX-License-Identifier: Apache-2.0
/** A real Prometheus with nothing but what a test gives it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { channelBinary } from '../cluster/channel.ts';
import { freePort } from '../cluster/free-port.ts';
import { insideOf } from '../cluster/network.ts';
import { waitFor } from '../cluster/wait.ts';

export interface PrometheusOptions {
  /** Path of its program. */
  readonly program: string;
  /** Between two scrapes of a target, and between two evaluations of the rules. */
  readonly intervalSeconds: number;
  readonly scrapeConfigs: readonly object[];
  /** Of a PrometheusRule. */
  readonly groups: readonly object[];
  /** Network namespace that it runs in; this process' own if left out. */
  readonly netns?: string;
  /** Where its data lies for as long as it runs. */
  readonly parent?: string;
}

/** One series of an answer, each value with its time in seconds since 1970. */
export interface ResultSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [at: number, value: number])[];
}

export interface RuleState {
  readonly name: string;
  /** Of the last evaluation; it begins with 0001 while there was none. */
  readonly lastEvaluation: string;
  readonly health: 'ok' | 'err' | 'unknown';
  readonly lastError?: string;
  readonly state: 'inactive' | 'pending' | 'firing';
}

export interface TargetState {
  readonly labels: Readonly<Record<string, string>>;
  readonly scrapeUrl: string;
  readonly health: 'up' | 'down' | 'unknown';
  readonly lastError: string;
}

const START_LIMIT_MS = 30_000;
const QUERY_LIMIT_MS = 30_000;

/**
 * $1: the folder that goes with it, $2: a command beside it. Both end when the input does, which is when whoever started
 * them ends, by whatever way. Ctrl-C of a terminal reaches them, too, and must not keep them from clearing away.
 */
const KEEPER = `
directory=$1 beside=$2; shift 2
"$@" </dev/null >"$directory/log" 2>&1 &
pids=$!
if [ -n "$beside" ]; then
  $beside </dev/null >>"$directory/log" 2>&1 &
  pids="$pids $!"
fi
trap '' INT TERM HUP
exec 2>/dev/null
while read -r _; do :; done
kill -KILL $pids
wait
rm -rf "$directory"
`;

/** Of its own where nobody else listens. */
const PORT_INSIDE = 9090;

export class Prometheus {
  readonly #keeper: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #directory: string;
  readonly #url: string;

  private constructor(directory: string, port: number, command: Command) {
    const keeper = ['-c', KEEPER, 'sh', directory, command.beside.join(' '), ...command.prometheus];
    this.#keeper = spawn('sh', keeper, { stdio: ['pipe', 'ignore', 'inherit'] });
    this.#ended = new Promise((resolve) => {
      this.#keeper.once('error', () => resolve());
      this.#keeper.once('exit', () => resolve());
    });
    this.#directory = directory;
    this.#url = `http://127.0.0.1:${port}`;
  }

  /** @throws Error with its log if it does not serve within half a minute */
  static async start(options: PrometheusOptions): Promise<Prometheus> {
    const directory = await mkdtemp(join(options.parent ?? tmpdir(), 'ipvs-bpf-prometheus-'));
    try {
      await writeConfiguration(directory, options);
      const port = await freePort();
      const prometheus = new Prometheus(directory, port, await commandOf(options, directory, port));
      await prometheus.#untilReady();
      return prometheus;
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Ends it, and removes its data. */
  async stop(): Promise<void> {
    this.#keeper.stdin?.end();
    await this.#ended;
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** At one moment, in seconds since 1970. */
  async query(expression: string, at: number): Promise<readonly ResultSeries[]> {
    const { result } = await this.#api<QueryResult>('query', { query: expression, time: String(at) });
    return result.map(({ metric, value }) => seriesOf(metric, value === undefined ? [] : [value]));
  }

  /** Times in seconds since 1970, the step in seconds. */
  async queryRange(expression: string, range: Range): Promise<readonly ResultSeries[]> {
    const { start, end, step } = range;
    const times = { start: String(start), end: String(end), step: String(step) };
    const { result } = await this.#api<QueryResult>('query_range', { query: expression, ...times });
    return result.map(({ metric, values = [] }) => seriesOf(metric, values));
  }

  /** Values of a label on the series that a selector selects. */
  labelValues(label: string, selector: string): Promise<readonly string[]> {
    return this.#api<readonly string[]>(`label/${label}/values`, { 'match[]': selector });
  }

  async rules(): Promise<readonly RuleState[]> {
    const { groups } = await this.#api<{ readonly groups: readonly { readonly rules: RuleState[] }[] }>(
      'rules',
    );
    return groups.flatMap(({ rules }) => rules);
  }

  async targets(): Promise<readonly TargetState[]> {
    const { activeTargets } = await this.#api<{ readonly activeTargets: readonly TargetState[] }>('targets');
    return activeTargets;
  }

  /** @throws Error with what Prometheus says is wrong */
  async #api<T>(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<T> {
    const response = await fetch(`${this.#url}/api/v1/${path}?${new URLSearchParams(parameters)}`, {
      signal: AbortSignal.timeout(QUERY_LIMIT_MS),
    });
    const answer = (await response.json()) as
      | { readonly status: 'success'; readonly data: T }
      | { readonly status: 'error'; readonly error: string };
    if (answer.status === 'error') {
      throw new Error(`Prometheus refuses ${path} ${parameters.query ?? ''}: ${answer.error}`);
    }
    return answer.data;
  }

  async #untilReady(): Promise<void> {
    const asked = () =>
      fetch(`${this.#url}/-/ready`, { signal: AbortSignal.timeout(QUERY_LIMIT_MS) }).then(
        ({ ok }) => ok,
        () => false,
      );
    try {
      await waitFor('Prometheus', START_LIMIT_MS, asked);
    } catch (error) {
      const log = await readFile(join(this.#directory, 'log'), 'utf8').catch(String);
      await this.stop();
      throw new Error(`${error instanceof Error ? error.message : error}\n${log}`);
    }
  }
}

export interface Range {
  readonly start: number;
  readonly end: number;
  readonly step: number;
}

type Sample = readonly [at: number, value: string];

interface QueryResult {
  readonly result: readonly {
    readonly metric: Readonly<Record<string, string>>;
    readonly value?: Sample;
    readonly values?: readonly Sample[];
  }[];
}

/** "NaN", "+Inf" and "-Inf" are no numbers that a panel can show. */
function seriesOf(labels: Readonly<Record<string, string>>, samples: readonly Sample[]): ResultSeries {
  const values = samples.map(([at, value]) => [at, Number(value)] as const);
  return { labels, values: values.filter(([, value]) => Number.isFinite(value)) };
}

interface Command {
  readonly prometheus: readonly string[];
  /** What leads to it from this process' namespace; nothing if it is there itself. */
  readonly beside: readonly string[];
}

async function commandOf(
  { program, netns }: PrometheusOptions,
  directory: string,
  port: number,
): Promise<Command> {
  const inside = netns === undefined ? port : PORT_INSIDE;
  const prometheus = [
    program,
    `--config.file=${join(directory, 'prometheus.yaml')}`,
    `--storage.tsdb.path=${join(directory, 'data')}`,
    `--web.listen-address=127.0.0.1:${inside}`,
    '--log.level=warn',
  ];
  if (netns === undefined) return { prometheus, beside: [] };
  const target = [`/run/netns/${netns}`, String(port), '127.0.0.1', String(inside)];
  return {
    prometheus: insideOf(netns, prometheus),
    beside: [await channelBinary(), 'forward', ...target],
  };
}

async function writeConfiguration(directory: string, options: PrometheusOptions): Promise<void> {
  const interval = `${options.intervalSeconds}s`;
  const configuration = {
    global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
    rule_files: [join(directory, 'rules.yaml')],
    scrape_configs: options.scrapeConfigs,
  };
  await writeFile(join(directory, 'rules.yaml'), stringify({ groups: options.groups }));
  await writeFile(join(directory, 'prometheus.yaml'), stringify(configuration));
}
